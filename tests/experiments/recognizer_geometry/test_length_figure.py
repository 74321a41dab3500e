"""Laws of the figures against length: fits show their slope, bounds are dashed, and zero is refused."""

import numpy as np
import pytest

from experiments.recognizer_geometry import length_figure

pytest.importorskip("matplotlib")
TITLE = {"quantity": "influence", "unit": "activation", "dataset": "random recognizers", "sample": "5 models"}
N = np.array([8.0, 16, 32, 64])
FALLING = (N, 1 / N, 0.5 / N, 2 / N)


def panel(**changes):
    parts = {
        "series": {"uniform": FALLING, "xavier": (N, 3 / N, 0 / N, 4 / N)},
        "fits": {"uniform": length_figure.Fit(N[1:], 1 / N[1:], (-1.0, -1.25, -0.75))},
        "bounds": {"1/N": (N, 9 / N)},
    }
    return length_figure.Panel(**(parts | changes))


def test_lines_bands_fits_and_bounds_are_drawn_from_their_arguments():
    figure = length_figure.against_length({"left": panel(), "right": panel(fits={}, bounds={})}, **TITLE)
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["left", "right"]
    expected = [(N, 1 / N), (N, 3 / N), (N[1:], 1 / N[1:]), (N, 9 / N)]
    assert len(left.lines) == 4
    assert len(right.lines) == 2
    for line, (x, y) in zip(left.lines, expected, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), y)
    band = {tuple(point) for point in left.collections[0].get_paths()[0].vertices.tolist()}
    assert band == {*zip(N, FALLING[2], strict=True), *zip(N, FALLING[3], strict=True)}
    assert left.get_xscale() == left.get_yscale() == "log"
    assert left.lines[2].get_color() == left.lines[0].get_color(), "a fit has the color of its series"
    assert left.lines[3].get_linestyle() == "--"
    legend = [text.get_text() for text in left.get_legend().get_texts()]
    assert legend == ["slope -1.00 [-1.25, -0.75]", "1/N"]
    assert right.get_legend() is None


def test_a_lower_end_of_zero_is_drawn_to_the_edge_and_bounds_do_not_set_the_axis():
    figure = length_figure.against_length({"": panel(bounds={"2^N": (N, 2.0**N)})}, **TITLE)
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < 1 / 64
    assert high == 2 * 4 / 8
    assert figure.axes[0].collections[1].get_paths()[0].vertices[:, 1].min() == low


def test_fits_of_the_same_slope_are_all_in_the_legend():
    fit = length_figure.Fit(N, 1 / N, (-1.0, -1.25, -0.75))
    (ax,) = length_figure.against_length({"": panel(fits={"uniform": fit, "xavier": fit})}, **TITLE).axes
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["slope -1.00 [-1.25, -0.75]"] * 2 + ["1/N"]


def test_lengths_may_lie_on_a_linear_axis():
    figure = length_figure.against_length({"": panel()}, log_length=False, **TITLE)
    assert figure.axes[0].get_xscale() == "linear"
    assert figure.axes[0].get_yscale() == "log"


def test_panels_share_colors_and_the_legend_names_each_label_once():
    one = length_figure.Panel({"b": FALLING, "a": FALLING})
    two = length_figure.Panel({"a": FALLING})
    figure = length_figure.against_length({"1": one, "2": two, "3": two, "4": two}, **TITLE)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b", "a"]
    drawn = [ax for ax in figure.axes if ax.lines]
    assert len(drawn) == 4
    assert {ax.lines[-1].get_color() for ax in drawn} == {drawn[0].lines[1].get_color()}
    assert "95% intervals" in figure.legends[0].get_title().get_text()
    exact = length_figure.against_length({"": length_figure.Panel({"a": (N, 1 / N, 1 / N, 1 / N)})}, **TITLE)
    assert exact.legends[0].get_title().get_text() == "", "exact values have no bands"


BAD = {
    "panels = {}": {},
    "series = {}": {"": panel(series={})},
    "positive lengths and values": {"": panel(series={"a": (N, 0 * N, 0 * N, N)})},
    r"fits\['uniform'\] holds 0": {"": panel(fits={"uniform": length_figure.Fit(N, 0 * N, (0, 0, 0))})},
    r"fits\['uniform'\].slope: at index 0": {"": panel(fits={"uniform": length_figure.Fit(N, N, (0, 1, 2))})},
    r"bounds\['b'\] holds -1": {"": panel(bounds={"b": (N, np.full(4, -1.0))})},
    "outside its interval": {"": panel(series={"a": (N, N, 2 * N, 3 * N)})},
    "vectors of one length": {"": panel(series={"a": (N, N, N, N[1:])})},
    "not finite": {"": panel(series={"a": (N, np.full(4, np.inf), N, N)})},
}


@pytest.mark.parametrize("match", BAD)
def test_invalid_panels_are_refused(match):
    with pytest.raises(ValueError, match=match):
        length_figure.against_length(BAD[match], **TITLE)
