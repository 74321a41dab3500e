import numpy as np
import pytest

from experiments.flatness.treated_pairs import treated_pairs

TITLES = {"y": "y (units)", "treatment": "treated", "heading": "Heading", "dataset": "data", "sample": "3 models"}
PAIR = ((2.0, 1.0, 3.0, 0.5, 0.4, 0.6), (20.0, 10.0, 30.0, 0.04, 0.0, 0.1))
PANELS = {"one (u)": {"ViT": PAIR, "MLP": PAIR}, "two (u)": {"ViT": PAIR, "MLP": PAIR}}


def test_treated_models_are_hollow_and_tied_to_the_plain_ones():
    dots = {"one (u)": {"ViT": (([2.0, 2.5], [0.5, 0.4]), ([20.0, 21.0], [0.05, 0.0]))}}
    figure = treated_pairs(PANELS, seeds=dots, **TITLES)
    first, second = figure.axes
    assert first.get_xlabel() == "one (u)"
    assert first.get_ylabel().startswith("y (units)")
    assert "less than" in first.get_ylabel(), "0 is not on a logarithmic scale, and that is said"
    assert second.get_ylabel() == ""
    assert first.get_xscale() == "log", "2 to 21 is more than a factor of ten"
    ties = [line for line in first.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    np.testing.assert_allclose(ties[0].get_xdata(), [2, 20])
    marks = {line.get_markerfacecolor() for line in first.lines if line.get_marker() == "o"}
    assert "white" in marks
    assert len(marks) == 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["ViT", "ViT, treated", "MLP", "MLP, treated"]
    assert sum(len(shown.get_offsets()) for shown in first.collections if hasattr(shown, "get_sizes")) >= 4


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ({}, "panels"),
        ({"a": {}}, r"panels\['a'\]"),
        ({"a": {"m": (PAIR[0], (5.0, 1.0, 3.0, 0.5, 0.4, 0.6))}}, "outside its interval"),
        ({"a": {"m": (PAIR[0], (np.nan, *PAIR[0][1:]))}}, "not finite"),
    ],
)
def test_bad_input_is_named(panels, message):
    with pytest.raises(ValueError, match=message):
        treated_pairs(panels, **TITLES)
