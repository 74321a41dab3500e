"""Laws of the figures of loss planes: what is drawn is what was given, and bad shapes are refused."""

import numpy as np
import pytest

from jaxsens import plots

pytest.importorskip("matplotlib")
SAID = {"dataset": "digits", "sample": "7 images"}
A, B = np.linspace(-1, 1, 5), np.linspace(-2, 2, 4)
PLANE = 1 + A[:, None] ** 2 + 0.1 * B**2


def test_lines_are_those_given():
    figure = plots.loss_planes({"vit": ((A,), 1 + A**2), "mlp": ((A,), 2 + A**2)}, **SAID)
    (ax,) = figure.axes
    for line, expected in zip(ax.lines, (1 + A**2, 2 + A**2), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([A, expected], 1))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vit", "mlp"]


def test_planes_have_a_panel_each_and_one_scale():
    figure = plots.loss_planes({"vit": ((A, B), PLANE), "mlp": ((A, B), 3 * PLANE)}, **SAID)
    vit, mlp, bar = figure.axes
    assert [ax.get_title() for ax in (vit, mlp)] == ["vit", "mlp"]
    assert vit.get_xlim() == (-1, 1)
    assert vit.get_ylim() == (-2, 2)
    levels = [ax.collections[0].levels for ax in (vit, mlp)]
    np.testing.assert_array_equal(*levels)
    np.testing.assert_allclose(levels[0][[0, -1]], [PLANE.min(), 3 * PLANE.max()])
    assert "loss (nats)" in bar.get_ylabel()
    assert "digits, 7 images" in figure.get_suptitle()


BAD = {
    "planes = {}": {},
    "planes mix lines and planes": {"a": ((A,), A), "b": ((A, B), PLANE)},
    "coordinates of shapes": {"a": ((B, A), PLANE)},
    "two points or more": {"a": ((A, B[:1]), PLANE[:, :1])},
    "not finite": {"a": ((A,), np.log(A - 1 + 1e-300 * 0 + np.where(A < 1, np.nan, 1)))},
    "positive ones": {"a": ((A, B), PLANE - 1.1)},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_planes_are_named(match):
    with pytest.raises(ValueError, match=match):
        plots.loss_planes(BAD[match], **SAID)
