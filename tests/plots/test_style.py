"""Laws of all figures: titles are optional, letters fit, a notebook shows them, and lines that coincide are apart."""

import copy
import inspect
import io
import itertools
import pickle

import numpy as np
import pytest

from jaxsens import plots
from jaxsens.plots import lines, on_axes
from jaxsens.plots.style import PAGE, log_ticks, new_figure

pytest.importorskip("matplotlib")
X = np.arange(3.0)
BAND = (X, X + 1, X + 0.5, X + 2)
SAID = {"dataset": "digits", "sample": "3 models"}
DRAWN = {
    "training_curves": lambda **t: plots.training_curves({"ViT": BAND}, **t),
    "scatter_with_intervals": lambda **t: plots.scatter_with_intervals({"ViT": (2, 1, 3, 2, 1, 3)}, **t),
    "bars_with_intervals": lambda **t: plots.bars_with_intervals({"ViT": (2, 1, 3)}, **t),
    "token_map": lambda **t: plots.token_map(np.zeros((2, 2, 1)), {"ViT": [0.5]}, 2, **t),
    "curve_grid": lambda **t: plots.curve_grid({"a": {"b": {"ViT": BAND}}}, heading="Heading", **t),
    "spectral_densities": lambda **t: plots.spectral_densities(
        {"a": {"ViT": BAND}}, quantity="eigenvalue", heading="Heading", smallest=0.1, **t
    ),
    "side_by_side": lambda **t: plots.side_by_side(
        {"a": plots.Quantity("u", {"ViT": BAND}, log=False)}, x="x", heading="Heading", log_x=False, **t
    ),
    "spectra": lambda **t: plots.spectra({"a": {"ViT": ([1, 1], [0, 0], [1, 1])}}, at=[0, 1], **t),
    "survival": lambda **t: plots.survival({"a": {"ViT": [1.0]}}, quantity="bits", smallest=0.1, **t),
    "dots": lambda **t: plots.dots({"a": {"ViT": (2, 1, 3)}}, heading="Heading", quantity="bits", **t),
    "rate_by_length": lambda **t: plots.rate_by_length([1], [(0.5, 0, 1)], limit=("l", 0.6), quantity="rate", **t),
    "loss_planes": lambda **t: plots.loss_planes({"ViT": ((X,), X)}, **t),
}


def test_every_public_figure_is_here():
    functions = {name for name in plots.__all__ if inspect.isfunction(getattr(plots, name))}
    assert functions - {"style", "in_order"} == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_titles_are_optional(name):
    draw = DRAWN[name]
    assert draw(**SAID).get_suptitle().endswith("\ndigits, 3 models")
    assert "\n" not in draw().get_suptitle() != ""
    assert draw(title=None, **SAID).get_suptitle() == draw(title=False, **SAID).get_suptitle() == ""
    assert draw(title="Mine", **SAID).get_suptitle() == "Mine"
    assert draw().get_figwidth() <= PAGE


def shown(figure):
    """Return what IPython's formatter of PNGs finds: a method ``_repr_png_`` of an object that is no class."""
    if inspect.isclass(figure) or callable(getattr(figure, "_ipython_canary_method_should_not_exist_", None)):
        return None
    method = getattr(figure, "_repr_png_", None)
    return method() if callable(method) else None


def test_a_notebook_shows_figures_without_a_magic():
    figure = DRAWN["bars_with_intervals"]()
    assert shown(figure).startswith(b"\x89PNG")
    assert shown(on_axes.histogram(None, [1.0, 2.0], quantity="q")).startswith(b"\x89PNG")
    assert shown(type(figure)) is None
    assert figure._repr_html_() is None, "else a notebook would prefer it"


def test_figures_are_copied_and_pickled_as_matplotlibs_are():
    figure = DRAWN["bars_with_intervals"]()
    for again in (copy.deepcopy(figure), pickle.loads(pickle.dumps(figure))):
        assert shown(again) == shown(figure)


def test_ipython_itself_shows_them():
    formatters = pytest.importorskip("IPython.core.formatters")
    assert formatters.PNGFormatter()(DRAWN["dots"]()).startswith(b"\x89PNG")


def test_lines_of_a_title_are_not_wider_than_the_figure():
    figure = DRAWN["bars_with_intervals"](dataset="a data set", sample="so many words " * 20)
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    box = figure._suptitle.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_long_labels_of_neighbors_do_not_overlap():
    names = ["ViT, patches normalized", "ViT, regularized", "MLP, sigmoid", "ConvMixer", "CNN", "ResNet-18", "LSTM"]
    figure = plots.bars_with_intervals({name: (2, 1, 3) for name in names}, title=None)
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("count", [2, 5])
def test_lines_that_coincide_are_drawn_apart_with_their_own_data(count):
    names = ["ViT", "MLP", "CNN", "ConvMixer", "LSTM"][:count]
    figure = plots.training_curves(dict.fromkeys(names, BAND), title=None)
    (ax,) = figure.axes
    places = [line.get_transform().transform((1, 2))[0] for line in ax.lines]
    assert (np.diff(places) > 0).all()
    assert np.ptp(places) * 72 / figure.dpi < 10, "points"
    assert all((line.get_ydata() == BAND[1]).all() for line in ax.lines)
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == count
    assert len(ax.collections) == count, "each has its interval"
    note = figure.legends[0].get_title().get_text()
    assert note == f"{lines.intervals_as(count)}: 95% intervals"
    assert note.startswith("bands" if count == 2 else "whiskers")
    together = plots.training_curves({"ViT": BAND}, title=None).axes[0]
    assert ax.get_xlim() == together.get_xlim(), "the data alone set the limits"


def test_a_short_logarithmic_axis_has_ticks_too():
    ax = new_figure(3, 2).subplots()
    for low, high in ((8, 14), (1, 20), (1, 100), (1e-6, 1)):
        ax.set(yscale="log", ylim=(low, high))
        log_ticks(ax.yaxis, low, high)
        assert 2 <= sum(low <= tick <= high for tick in ax.get_yticks()) <= 8
