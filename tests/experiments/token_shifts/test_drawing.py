"""Laws of the figures of tokens: bars, points, lines and colors are what was given."""

import numpy as np
import pytest

from experiments.token_shifts import drawing as module

pytest.importorskip("matplotlib")
SAID = {"heading": "Tokens", "dataset": "texts", "sample": "3 of them"}


def test_bars_are_the_counts():
    counts = {"l1": [3, 1, 0], "l2": [2, 2, 1]}
    figure = module.token_counts(
        {"one": (["a", "$", "##b"], counts), "two": (["c"], {"l1": [4]})}, unit="times", **SAID
    )
    one, two = figure.axes
    assert [bar.get_height() for bar in one.patches] == [3, 1, 0, 2, 2, 1]
    assert [text.get_text() for text in one.get_xticklabels()] == ["a", r"\$", "##b"]
    assert [bar.get_height() for bar in two.patches] == [4]
    assert one.patches[0].get_facecolor() == two.patches[0].get_facecolor() != one.patches[3].get_facecolor()
    for bad in ([1, 2], [1, -1, 0], [1, np.nan, 0]):
        with pytest.raises(ValueError, match=r"panels\['one'\]\['l1'\]"):
            module.token_counts({"one": (["a", "b", "c"], {"l1": bad})}, unit="times", **SAID)


def test_points_line_and_means_of_bins():
    panel = module.Scatter([0, 0.05, 0.5, 1], [9, 7, 5, 2], (-6.0, -7.0, -5.0), 8.5, (-0.9, -1.0, -0.8))
    figure = module.scatters_with_lines({"one": panel}, x="commonness", y="shift", reference=("paper", -5, 9), **SAID)
    (ax,) = figure.axes
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.transpose(panel[:2]))
    line, means, reference = ax.lines
    assert (line.get_ydata().tolist(), reference.get_ydata().tolist()) == ([8.5, 2.5], [9, 4])
    np.testing.assert_allclose(np.transpose(means.get_data()), [[0.05, 8], [0.55, 5], [0.95, 2]])
    assert "slope -6.00 [-7.00, -5.00], r -0.90 [-1.00, -0.80]" in ax.get_title()
    with pytest.raises(ValueError, match="slope"):
        module.scatters_with_lines({"one": panel._replace(slope=(1.0, 2.0, 3.0))}, x="x", y="y", **SAID)


def test_colors_follow_the_values_and_long_texts_break():
    tokens = ["[CLS]", "a", "film", "."]
    figure = module.colored_text({"one": (tokens, [np.nan, 1, 2, 3])}, quantity="shift", line=12, **SAID)
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.texts] == tokens
    red, green, blue = np.transpose([text.get_bbox_patch().get_facecolor()[:3] for text in ax.texts])
    assert (red[0], green[0], blue[0]) == (1, 1, 1), "what has no value is white"
    assert green[1] > green[2] > green[3]
    assert [text.get_position()[1] for text in ax.texts] == [0, 0, -1, -1]
    assert "1 (pale) to 3 (dark)" in ax.get_title(loc="left")
    for bad in ([1, 2], [np.nan] * 4):
        with pytest.raises(ValueError, match="a value for each of 4 tokens"):
            module.colored_text({"one": (tokens, bad)}, quantity="shift", **SAID)
