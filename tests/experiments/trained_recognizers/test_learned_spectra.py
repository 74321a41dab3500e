"""Laws of the figure of learned spectra: exact shares are squares, shares of models are dots with whiskers."""

import numpy as np
import pytest

from experiments.trained_recognizers.learned_spectra import learned_spectra

pytest.importorskip("matplotlib")
TITLE = {"dataset": "strings of 2 bits", "sample": "3 models"}
EXACT = (np.array([0.0, 1.0, 0.0]),) * 3
MEASURED = (np.array([0.25, 0.75, 0.0]), np.array([0.0, 0.5, 0.0]), np.array([0.5, 0.9, 0.3]))


def test_nonzero_shares_are_drawn_with_the_exact_ones(tmp_path):
    figure = learned_spectra({"first": {"exact": EXACT, "after": MEASURED, "before": EXACT}}, **TITLE)
    (ax,) = figure.axes
    assert (ax.get_title(), ax.get_yscale()) == ("first", "log")
    exact = ax.collections[0].get_offsets()
    np.testing.assert_allclose(exact, [[1, 1]])
    after, before = ax.containers
    np.testing.assert_allclose(after.lines[0].get_ydata(), [0.25, 0.75])
    np.testing.assert_allclose(np.round(after.lines[0].get_xdata()), [0, 1])
    assert (after.lines[0].get_xdata() != [0, 1]).all()
    ends = [segment[:, 1] for segment in after.lines[2][0].get_segments()]
    assert ends[0][0] < ax.get_ylim()[0]  # an interval that contains 0 goes down to the edge
    np.testing.assert_allclose(ends[1], [0.5, 0.9])
    assert after.lines[0].get_color() != before.lines[0].get_color()
    assert "strings of 2 bits, 3 models" in figure._suptitle.get_text()
    figure.savefig(tmp_path / "figure.png", dpi=30)


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ({}, "panels = {}"),
        ({"a": {}}, r"panels\['a'\] = {}"),
        ({"a": {"exact": (EXACT[0], EXACT[0] + 1, EXACT[0])}}, "outside its interval"),
        ({"a": {"exact": (EXACT[0], EXACT[0], EXACT[0][:2])}}, "vectors of one length"),
    ],
)
def test_invalid_panels_are_refused(panels, message):
    with pytest.raises(ValueError, match=message):
        learned_spectra(panels, **TITLE)
