"""Grids of training curves show what they are given, and refuse what they cannot show."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from jaxsens import plots

EPOCHS = np.array([0.0, 1.0, 10.0])
SAID = {"heading": "Learning", "dataset": "parity of 3 of 20 bits", "sample": "3 seeds"}


def curve(*mean):
    mean = np.asarray(mean, float)
    return EPOCHS, mean, mean - 0.1, mean + 0.2


ROWS = {
    "accuracy (fraction)": {
        "no noise": {"transformer": curve(0.5, 0.6, 0.9), "LSTM": curve(0.5, 0.5, 0.6)},
        "noise 10%": {"transformer": curve(0.4, 0.5, 0.8)},
    },
    "sensitivity (bits)": {
        "no noise": {"transformer": curve(1, 2, 3), "LSTM": curve(1, 4, 5)},
        "noise 10%": {"LSTM": curve(2, 3, 4)},
    },
}


def test_a_grid_has_a_row_for_each_quantity_and_a_column_for_each_setting():
    references = {
        "accuracy (fraction)": {"noise 10%": ("1 - noise", 0.9)},
        "sensitivity (bits)": {"no noise": ("the truth", 3.0)},
    }
    figure = plots.curve_grid(ROWS, references=references, **SAID)
    panels = [lines for row in ROWS.values() for lines in row.values()]
    looks = plots.style(["transformer", "LSTM"])
    for ax, lines in zip(figure.axes, panels, strict=True):
        drawn = {line.get_label(): line for line in ax.lines if line.get_linestyle() == "-"}
        assert set(drawn) == set(lines)
        for label, (epochs, mean, *_) in lines.items():
            np.testing.assert_array_equal(drawn[label].get_xdata(), epochs)
            np.testing.assert_array_equal(drawn[label].get_ydata(), mean)
            assert drawn[label].get_color() == looks[label]["color"]
        for shade, (epochs, _, low, high) in zip(ax.collections, lines.values(), strict=True):
            points = {tuple(point) for point in shade.get_paths()[0].vertices.tolist()}
            assert points == {*zip(epochs, low, strict=True), *zip(epochs, high, strict=True)}
    dashed = [[line for line in ax.lines if line.get_linestyle() != "-"] for ax in figure.axes]
    assert [len(lines) for lines in dashed] == [0, 1, 1, 0]
    assert [dashed[i][0].get_ydata()[0] for i in (1, 2)] == [0.9, 3.0]
    assert dashed[1][0].get_linestyle() != dashed[2][0].get_linestyle()
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == list(ROWS)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["no noise", "noise 10%"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(names) == ["1 - noise", "LSTM", "the truth", "transformer"]


def test_the_start_of_training_has_a_place_and_every_power_of_ten_a_tick():
    ax = plots.curve_grid(ROWS, **SAID).axes[2]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "10"]
    places = ax.transData.transform([(0, 0), (1, 0), (10, 0)])[:, 0]
    assert places[0] < places[1] < places[2]
    assert ax.get_xlabel() == "training (epochs)"


@pytest.mark.parametrize(
    ("rows", "references", "said"),
    [
        ({}, None, "rows = {}"),
        ({"a": {"b": {}}}, None, "'a'.*'b'.*give at least one"),
        ({"a": {"b": {"c": curve(1, 2, 3)}}, "d": {"e": {"c": curve(1, 2, 3)}}}, None, r"'d' with \['e'\]"),
        ({"a": {"b": {"c": curve(1, 2, 3)}}}, {"d": {}}, "'d' with"),
        ({"a": {"b": {"c": curve(1, 2, 3)}}}, {"a": {"e": ("x", 1.0)}}, r"'a' with \['e'\]"),
        ({"a": {"b": {"c": (EPOCHS, EPOCHS, EPOCHS + 1, EPOCHS + 2)}}}, None, "index 0 the mean 0.0 is outside"),
        ({"a": {"b": {"c": (EPOCHS - 1, EPOCHS, EPOCHS, EPOCHS)}}}, None, "epoch -1"),
        ({"a": {"b": {"c": (EPOCHS, EPOCHS * np.nan, EPOCHS, EPOCHS)}}}, None, "not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows, references, said):
    with pytest.raises(ValueError, match=said):
        plots.curve_grid(rows, references=references, **SAID)
