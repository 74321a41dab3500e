"""Laws of the figures: what is drawn is what was given, with its units, and nothing global is touched."""

import subprocess
import sys

import numpy as np
import pytest

from jaxsens import plots

pytest.importorskip("matplotlib")
SAID = {"dataset": "Fashion-MNIST", "sample": "500 test images, 3 seeds"}
EPOCHS = np.arange(5)
DIGIT = np.linspace(0, 1, 64).reshape(8, 8, 1)


def band(mean, width=0.1):
    mean = np.asarray(mean, float)
    return EPOCHS, mean, mean * (1 - width), mean * (1 + width)


SERIES = {"ViT": band([0.05, 0.04, 0.03, 0.02, 0.01]), "CNN": band([0.05, 0.05, 0.06, 0.05, 0.04])}
POINTS = {"ViT": (9.0, 7.5, 10.5, 0.01, 0.008, 0.02), "MLP": (39.0, 33.0, 45.0, 0.05, 0.046, 0.055)}


def texts(figure):
    found = [figure._suptitle.get_text()]
    for ax in figure.axes:
        found += [ax.get_xlabel(), ax.get_ylabel(), ax.get_title()]
    for legend in figure.legends:
        found += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return "\n".join(found)


def test_training_curves_draw_what_they_are_given():
    accuracy = {name: band([0.1, 0.5, 0.6, 0.7, 0.75]) for name in SERIES}
    figure = plots.training_curves(SERIES, accuracy=accuracy, **SAID)
    for ax, given in zip(figure.axes, (SERIES, accuracy), strict=True):
        assert ax.get_yscale() == "linear"
        for line, shade, (name, (epochs, mean, low, high)) in zip(ax.lines, ax.collections, given.items(), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), epochs)
            np.testing.assert_array_equal(line.get_ydata(), mean)
            drawn = shade.get_paths()[0].vertices
            expected = {*map(tuple, np.stack([epochs, low], 1)), *map(tuple, np.stack([epochs, high], 1))}
            assert {tuple(point) for point in drawn.tolist()} == expected
            assert line.get_color() == plots.style([name])[name]["color"]
    said = texts(figure)
    for words in ("Fashion-MNIST, 500 test images, 3 seeds", "fraction of predictions changed", "epochs", "95% int"):
        assert words in said
    assert {"ViT", "CNN"} <= set(said.split("\n"))
    assert "log scale" not in said


def test_a_wide_range_is_drawn_on_a_log_axis_that_says_where_it_ends():
    low_at_zero = (*SERIES["ViT"][:2], np.zeros(5), SERIES["ViT"][3])
    figure = plots.training_curves({"ViT": low_at_zero, "CNN": band([0.5, 0.4, 0.3, 0.2, 0.0])}, **SAID)
    (ax,) = figure.axes
    floor = 0.01 / 3
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), low_at_zero[1])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.5, 0.4, 0.3, 0.2, floor])
    assert ax.get_ylim()[0] == pytest.approx(floor)
    assert ax.get_ylim()[1] > 0.55
    assert "less than 0.0033 is drawn there" in ax.get_ylabel()
    figure = plots.training_curves({"ViT": band([0.5, 0.4, 0.3, 0.2, 0.01])}, **SAID)
    assert figure.axes[0].get_yscale() == "log"
    assert "drawn there" not in texts(figure)


def test_scatter_draws_points_intervals_and_seeds():
    seeds = {"MLP": (np.array([38.0, 40.0]), np.array([0.049, 0.051]))}
    figure = plots.scatter_with_intervals(POINTS, seeds=seeds, **SAID)
    (ax,) = figure.axes
    for container, (x, x_low, x_high, y, y_low, y_high) in zip(ax.containers, POINTS.values(), strict=True):
        middle, _, (across, along) = container.lines
        assert (middle.get_xdata().item(), middle.get_ydata().item()) == (x, y)
        np.testing.assert_allclose(across.get_segments()[0], [[x_low, y], [x_high, y]])
        np.testing.assert_allclose(along.get_segments()[0], [[x, y_low], [x, y_high]])
    dots = [collection for collection in ax.collections if len(collection.get_offsets()) == 2]
    np.testing.assert_array_equal(dots[0].get_offsets(), np.transpose(seeds["MLP"]))
    assert ax.get_xscale() == "linear"
    said = texts(figure)
    for words in ("output sharpness (logits)", "fraction of predictions changed", "single seeds", "500 test images"):
        assert words in said


def test_scatter_over_decades_is_logarithmic():
    wide = POINTS | {"CNN": (900.0, -5.0, 1000.0, 0.03, 0.02, 0.04)}
    (ax,) = plots.scatter_with_intervals(wide, **SAID).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert "less than 3 is drawn there" in ax.get_xlabel()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_token_map_lays_values_row_by_row_on_one_scale(channels):
    values = {"ViT": np.arange(16) / 100, "CNN": np.arange(16) / 50}
    image = np.repeat(DIGIT, channels, axis=2)
    figure = plots.token_map(image, values, 2, **SAID)
    shown, vit, cnn, bar = figure.axes
    np.testing.assert_array_equal(shown.images[0].get_array(), image.squeeze())
    for ax, (name, given) in zip((vit, cnn), values.items(), strict=True):
        (drawn,) = ax.images
        np.testing.assert_array_equal(drawn.get_array(), given.reshape(4, 4))
        assert drawn.get_clim() == (0, 0.3)
        assert drawn.get_extent() == [0, 8, 8, 0] == list(shown.images[0].get_extent())
        assert ax.get_title() == name
    assert "token sensitivity\n(fraction of predictions changed)" in bar.get_ylabel()
    assert shown.get_title() == "image"
    assert "500 test images" in texts(figure)


def test_a_map_has_one_color_for_a_value_and_gray_where_nothing_was_measured():
    image = np.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3)
    figure = plots.token_map(image, {"ViT": [0.1, 0.1, np.nan, 0.3]}, 4, **SAID)
    shown, vit, _ = figure.axes
    drawn = vit.images[0]
    colors = drawn.to_rgba(drawn.get_array()).reshape(4, 4)
    assert (colors[0] == colors[1]).all()
    assert (colors[:, 3] == 1).all(), "opaque: the image does not tint the map"
    np.testing.assert_allclose(colors[2, :3], 0.8)
    assert len(shown.images) == len(vit.images) == 1


def test_several_images_have_a_row_each_and_many_models_continue_in_the_next():
    images = np.stack([DIGIT, DIGIT[::-1]])
    values = {"ViT": np.arange(32.0).reshape(2, 16), "CNN": np.ones((2, 16))}
    axes = [ax for ax in plots.token_map(images, values, 2, **SAID).axes if ax.images]
    assert [ax.get_title() for ax in axes] == ["image", "ViT", "CNN"] * 2
    for number in range(2):
        np.testing.assert_array_equal(axes[3 * number].images[0].get_array(), images[number, ..., 0])
        np.testing.assert_array_equal(axes[3 * number + 1].images[0].get_array().ravel(), values["ViT"][number])
    names = ["ViT", "CNN", "MLP", "LSTM", "BERT"]
    axes = [ax for ax in plots.token_map(DIGIT, dict.fromkeys(names, np.ones(16)), 2, **SAID).axes if ax.images]
    assert [ax.get_title() for ax in axes] == ["image", *names[:4], "image", "BERT"]


def test_bars_are_drawn_with_published_values():
    measured = {"ViT": (0.01, 0.008, 0.012), "MLP": (0.05, 0.045, 0.06)}
    figure = plots.bars_with_intervals(measured, published={"MLP": [0.0505, 0.0559]}, **SAID)
    (ax,) = figure.axes
    assert [bar.get_height() for bar in ax.patches] == [0.01, 0.05]
    whiskers = [container.lines[2][0].get_segments()[0] for container in ax.containers if hasattr(container, "lines")]
    np.testing.assert_allclose(whiskers, [[[0, 0.008], [0, 0.012]], [[1, 0.045], [1, 0.06]]])
    marks = next(c for c in ax.collections if c.get_edgecolor().size and len(c.get_offsets()) == 2)
    np.testing.assert_array_equal(marks.get_offsets()[:, 1], [0.0505, 0.0559])
    assert (marks.get_offsets()[:, 0] > 1).all()
    np.testing.assert_array_equal(marks.get_facecolor()[0], [1, 1, 1, 1])  # hollow
    assert [label.get_text() for label in ax.get_xticklabels()] == ["ViT", "MLP"]
    assert "published" in texts(figure)
    assert ax.get_ylim()[0] <= 0


def test_a_model_looks_the_same_in_every_figure():
    models = ["ViT", "MLP", "CNN", "ConvMixer", "LSTM", "ResNet-18", "BERT", "GPT-2", "transformer", "MiniLM"]
    every = plots.style([*models, "other"])
    assert len({(look["color"], look["marker"]) for look in every.values()}) == len(every)
    for label in every:
        assert plots.style([label.lower().replace("-", "")])[label.lower().replace("-", "")] == every[label]


BAD = [
    (plots.training_curves, ({},), "series = {}"),
    (plots.training_curves, ({"ViT": (EPOCHS, EPOCHS[:4], EPOCHS, EPOCHS)},), r"series\['ViT'\].*shapes"),
    (plots.training_curves, ({"ViT": (EPOCHS, EPOCHS, EPOCHS)},), "give 4 vectors of one length"),
    (plots.training_curves, ({"ViT": (EPOCHS, EPOCHS, EPOCHS + 1, EPOCHS + 2)},), "index 0 the mean 0.0 is outside"),
    (plots.training_curves, ({"ViT": (EPOCHS, *[EPOCHS * np.nan] * 3)},), "not finite"),
    (plots.scatter_with_intervals, ({"ViT": (1, 2, 3)},), r"points\['ViT'\].*give 6"),
    (plots.scatter_with_intervals, ({"ViT": (1, 0, 3, 5, 6, 7)},), r"points\['ViT'\], y.*mean 5.0 is outside"),
    (plots.token_map, (DIGIT, {"ViT": np.ones(15)}, 2), r"\(15,\): a 8 x 8 image has \[16\] patches"),
    (plots.token_map, (DIGIT, {"ViT": -np.ones(16)}, 2), "negative"),
    (plots.token_map, (DIGIT[None], {"ViT": np.ones(16)}, 2), r"1 images have \[1 t\]"),
    (plots.token_map, (DIGIT[:0][None, :0], {"ViT": np.ones(16)}, 2), "image has shape"),
    (plots.token_map, (DIGIT, {"ViT": np.ones(16)}, 3), "patch = 3 does not divide"),
    (plots.token_map, (DIGIT, {"ViT": np.ones(16)}, 0), "patch = 0 does not divide"),
    (plots.token_map, (DIGIT[..., 0], {"ViT": np.ones(16)}, 2), r"image has shape \(8, 8\)"),
    (plots.token_map, (DIGIT * 3, {"ViT": np.ones(16)}, 2), "undo the normalization"),
    (plots.token_map, (DIGIT, {}, 2), "sensitivity = {}"),
    (plots.bars_with_intervals, ({"ViT": (1, 2)},), r"measured\['ViT'\].*give 3"),
    (plots.bars_with_intervals, ({"ViT": (3, 1, 2)},), "mean 3.0 is outside"),
]


@pytest.mark.parametrize(("draw", "given", "message"), BAD)
def test_what_does_not_fit_is_refused(draw, given, message):
    with pytest.raises(ValueError, match=message):
        draw(*given, **SAID)


def test_labels_that_are_unknown_are_refused():
    with pytest.raises(ValueError, match=r"seeds of \['CNN'\]"):
        plots.scatter_with_intervals(POINTS, seeds={"CNN": ([1.0], [1.0])}, **SAID)
    with pytest.raises(ValueError, match=r"published\['CNN'\]"):
        plots.bars_with_intervals({"ViT": (2, 1, 3)}, published={"CNN": [1.0]}, **SAID)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsens\[plot\]'"):
        plots.bars_with_intervals({"ViT": (2, 1, 3)}, **SAID)


def test_no_global_state_is_touched(tmp_path):
    program = f"""
import sys
import numpy as np
from jaxsens import plots
assert "matplotlib" not in sys.modules
said = {{"dataset": "d", "sample": "s"}}
figures = [
    plots.bars_with_intervals({{"ViT": (2, 1, 3)}}, **said),
    plots.training_curves({{"ViT": np.geomspace(1, 100, 3) * np.ones((4, 1))}}, **said),
    plots.scatter_with_intervals({{"ViT": (2, 1, 3, 2, 1, 3)}}, **said),
    plots.token_map(np.ones((2, 2, 1)), {{"ViT": [0.5]}}, 2, **said),
]
for figure in figures:
    figure.savefig({str(tmp_path / "figure.png")!r}, dpi=20)
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_figure_renders_without_a_warning(tmp_path):
    wide = {"ViT": band([0.5, 0.4, 0.3, 0.2, 0.0]), "CNN": SERIES["CNN"]}
    for i, figure in enumerate(
        [
            plots.training_curves(wide, accuracy=SERIES, **SAID),
            plots.scatter_with_intervals(POINTS | {"CNN": (900.0, -5.0, 1e3, 0.03, 0.0, 0.04)}, **SAID),
            plots.token_map((DIGIT * 255).astype(np.uint8), {"ViT": np.zeros(16)}, 2, **SAID),
        ]
    ):
        figure.savefig(tmp_path / f"{i}.png", dpi=50)
