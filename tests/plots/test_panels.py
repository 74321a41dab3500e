"""Laws of the figures side by side: what is drawn is what was given, and it sets the axes."""

import numpy as np
import pytest

from jaxsens.plots import panels as module

pytest.importorskip("matplotlib")
SAID = {"x": "length (bits)", "heading": "What is learned", "dataset": "parity", "sample": "3 models"}
N = np.array([4.0, 8, 16])
RISING = (N, N, N / 1e6, N * 1e6)


def quantity(**changes):
    parts = {
        "unit": "loss",
        "series": {"parity": RISING, "first": (N, 1 / N, 1 / N, 1 / N)},
        "models": {"parity": (N, 2 * N, [True, True, False]), "first": (N, 1 / N, [True] * 3)},
        "references": {"exact": (N, 3 * N), "first": (N, 2 / N)},
    }
    return module.Quantity(**(parts | changes))


def test_means_models_and_references_are_what_was_given():
    figure = module.side_by_side({"one": quantity(), "two": quantity(models={}, references={}, log=False)}, **SAID)
    one, two = (ax for ax in figure.axes if ax.lines)
    assert [ax.get_title() for ax in (one, two)] == ["one", "two"]
    for line, y in zip(one.lines, (N, 1 / N, 3 * N, 2 / N), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), y)
    assert one.lines[1].get_color() == one.lines[3].get_color(), "a reference has the color of its series"
    points = [np.ma.getdata(c.get_offsets()) for c in one.collections if len(c.get_offsets())]
    values = [p[:, 1].tolist() for p in points if p.shape[0] and not np.allclose(p, 0)]
    assert values == [[8, 16], [32], (1 / N).tolist()], "dots, crosses, dots"
    assert (one.get_yscale(), two.get_yscale(), one.get_xscale()) == ("log", "linear", "log")
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["parity", "first", "exact"]
    assert "95% intervals" in legend.get_title().get_text()


def test_an_interval_does_not_set_the_axis_but_means_and_references_do():
    low, high = module.side_by_side({"": quantity()}, **SAID).axes[0].get_ylim()
    assert 1 / 32 < low < 1 / 16
    assert 48 < high < 100
    without = module.side_by_side({"": quantity(references={})}, **SAID).axes[0].get_ylim()[1]
    assert 32 < without < high


BAD = {
    "panels = {}": {},
    "series = {}": {"": quantity(series={})},
    "outside its interval": {"": quantity(series={"a": (N, N, 2 * N, 3 * N)})},
    "vectors of one length": {"": quantity(models={"parity": (N, N[1:], [True] * 3)})},
    "not finite": {"": quantity(series={"a": (N, np.full(3, np.nan), N, N)})},
    "positive numbers only": {"": quantity(models={"parity": (N, -N, [True] * 3)})},
}


@pytest.mark.parametrize("match", BAD)
def test_what_cannot_be_drawn_is_refused(match):
    with pytest.raises(ValueError, match=match):
        module.side_by_side(BAD[match], **SAID)
