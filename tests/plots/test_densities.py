import numpy as np
import pytest

from jaxsens import plots

TITLES = {"quantity": "eigenvalue (u)", "heading": "Heading", "dataset": "data", "sample": "3 models"}
X = np.linspace(-1, 3, 50)
LINE = (X, np.exp(-(X**2)), np.zeros(50), 2 * np.exp(-(X**2)))


def test_densities_have_lines_bands_and_a_common_scale():
    figure = plots.spectral_densities(
        {"ViT": {"plain": LINE, "treated": LINE}, "MLP": {"plain": LINE}}, smallest=1e-3, **TITLES
    )
    first, second = figure.axes
    assert first.get_yscale() == "log"
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] == pytest.approx(1e-3)
    assert [len(ax.lines) for ax in figure.axes] == [2, 1]
    shown = first.lines[0].get_ydata()
    np.testing.assert_allclose(shown[LINE[1] > 1e-3], LINE[1][LINE[1] > 1e-3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain", "treated"]
    assert first.lines[0].get_color() == second.lines[0].get_color()


@pytest.mark.parametrize(
    ("panels", "smallest", "message"),
    [
        ({}, 1e-3, "panels"),
        ({"a": {"l": LINE}}, 0.0, "smallest must be above 0, got 0.0"),
        ({"a": {"l": (X, LINE[3], LINE[2], LINE[1])}}, 1e-3, "outside its interval"),
        ({"a": {"l": (X[:-1], *LINE[1:])}}, 1e-3, "one length"),
    ],
)
def test_bad_input_is_named(panels, smallest, message):
    with pytest.raises(ValueError, match=message):
        plots.spectral_densities(panels, smallest=smallest, **TITLES)
