"""Laws of the clouds of models: a dot is a model, a cross one that did not converge, and colors end somewhere."""

import numpy as np
import pytest

from experiments.length_and_sharpness import tradeoff_figure

pytest.importorskip("matplotlib")
SAID = {
    "x_quantity": "norm", "y_quantity": "blow-up", "color_quantity": "sharpness", "heading": "Trade-off",
    "dataset": "parity", "sample": "4 models", "whiskers": "quartiles",
}  # fmt: skip
X = np.array([1.0, 2, 3, 4])
Y = (10 * X, 9 * X, 12 * X)
COLOR = np.array([1.0, 0.1, -1, 1e-9])
SOLID = np.array([True, False, True, False])


def test_models_lie_where_they_should_and_low_colors_share_the_last_one():
    figure = tradeoff_figure.cloud(X, Y, COLOR, solid=SOLID, **SAID)
    ax, bar = figure.axes
    drawn = [c for c in ax.collections if c.get_array() is not None and len(c.get_array())]
    np.testing.assert_array_equal(drawn[0].get_offsets(), np.stack([X, Y[0]], 1)[SOLID])
    np.testing.assert_array_equal(drawn[1].get_offsets(), np.stack([X, Y[0]], 1)[~SOLID])
    np.testing.assert_allclose(drawn[0].get_array(), [1, 1e-3])
    np.testing.assert_allclose(drawn[1].get_array(), [0.1, 1e-3])
    assert drawn[0].norm is drawn[1].norm, "one scale"
    whiskers = ax.collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 1] for segment in whiskers], np.stack(Y[1:], 1))
    assert bar.get_ylabel() == "sharpness"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["converged", "not converged"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y": (-10 * X, -12 * X, 9 * X)}, "positive numbers only"),
        ({"y": (10 * X, 11 * X, 12 * X)}, "outside its interval"),
        ({"color": -X}, "color holds nothing above 0"),
        ({"x": X[1:]}, "vectors of one length"),
        ({"x": X * np.nan}, "not finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, match):
    given = {"x": X, "y": Y, "color": COLOR} | change
    with pytest.raises(ValueError, match=match):
        tradeoff_figure.cloud(**given, solid=SOLID, **SAID)
