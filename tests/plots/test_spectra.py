"""Laws of the figures of Boolean functions: what is drawn is what was given."""

import numpy as np
import pytest

from jaxsens import plots

pytest.importorskip("matplotlib")
SAID = {"dataset": "strings of 4 bits", "sample": "3 models"}
SHARES = (np.array([0.7, 0.2, 0.1, 0.0, 0.0]),) * 3
OUTSIDE = {"u": {"a": (SHARES[0], SHARES[0] + 1, SHARES[0])}}
PANELS = {"uniform": {"transformer": SHARES, "lstm": SHARES}, "normal": {"transformer": SHARES}}


def test_spectra_draw_shares_that_are_not_zero(tmp_path):
    figure = plots.spectra(PANELS, at=range(5), reference=("binomial", [0.1] * 5), **SAID)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("uniform", "normal")
    assert first.get_yscale() == "log"
    transformer, lstm, reference = first.get_lines()
    np.testing.assert_allclose(transformer.get_ydata(), [0.7, 0.2, 0.1, np.nan, np.nan])
    np.testing.assert_allclose(reference.get_ydata(), 0.1)
    assert transformer.get_color() != lstm.get_color()
    assert "strings of 4 bits, 3 models" in figure._suptitle.get_text()
    figure.savefig(tmp_path / "figure.png", dpi=30)


def test_survival_steps_down_at_every_model(tmp_path):
    figure = plots.survival({"uniform": {"transformer": [0.0, 2.0, 5.0, 5.0]}}, quantity="bits", smallest=0.01, **SAID)
    (ax,) = figure.axes
    step, points = ax.get_lines()
    np.testing.assert_allclose(points.get_xdata(), [0.01, 2, 5, 5])
    np.testing.assert_allclose(points.get_ydata(), [1, 0.75, 0.5, 0.25])
    assert step.get_ydata()[-1] == 0
    figure.savefig(tmp_path / "figure.png", dpi=30)


def test_dots_lie_at_their_means():
    figure = plots.dots(
        {"uniform": {"default": (0.5, 0.4, 0.6), "other": (0.7, 0.6, 0.9)}}, heading="h", quantity="share", **SAID
    )
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["default", "other"]
    centers = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert centers == [0.5, 0.7]


def test_rates_are_drawn_with_their_limit():
    limit = ("limit", 0.63)
    figure = plots.rate_by_length([2, 4], [(0.5, 0.4, 0.6), (0.6, 0.55, 0.7)], limit=limit, quantity="share", **SAID)
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), 0.63)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [0.5, 0.6])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.spectra({}, at=range(5), **SAID), "panels = {}"),
        (lambda: plots.spectra({"u": {}}, at=range(5), **SAID), r"panels\['u'\] = {}"),
        (
            lambda: plots.spectra({"u": {"a": (SHARES[0], SHARES[0] + 1, SHARES[0])}}, at=range(5), **SAID),
            "outside its interval",
        ),
        (lambda: plots.spectra(PANELS, at=range(4), **SAID), "vectors of one length"),
        (lambda: plots.survival({"u": {"a": [np.nan]}}, quantity="q", smallest=1, **SAID), "not finite"),
        (lambda: plots.dots({"u": {"a": (3, 1, 2)}}, heading="h", quantity="q", **SAID), "outside its interval"),
        (
            lambda: plots.rate_by_length([1], [(0.5, 0.6, 0.7)], limit=("l", 0.6), quantity="q", **SAID),
            "outside its interval",
        ),
    ],
)
def test_what_does_not_fit_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
