"""Laws of colors, markers and lines: a model has the same in every figure, whatever else is drawn."""

import itertools

import numpy as np
import pytest

from jaxsens import plots
from jaxsens.plots import looks

MODELS = (
    "ViT", "MLP", "CNN", "ConvMixer", "ResNet-18", "DenseNet", "ConvNeXt", "transformer", "LSTM", "BERT", "MiniLM",
    "GPT-2",
)  # fmt: skip


def test_no_two_models_share_color_and_marker():
    pairs = {(look["color"], look["marker"]) for look in plots.style(MODELS).values()}
    assert len(pairs) == len(MODELS)
    assert all(looks.is_model(label) for label in MODELS)


def test_a_look_depends_on_the_label_alone():
    labels = [*MODELS, "ViT, regularized", "mine", "another model", "7", "?"]
    alone = {label: plots.style([label])[label] for label in labels}
    assert plots.style(labels) == plots.style(labels[::-1]) == alone


def test_a_name_is_found_in_any_spelling():
    for label, spellings in {"ViT": ("vit", "VIT"), "GPT-2": ("gpt2", "gpt_2"), "ResNet-18": ("resnet18",)}.items():
        for spelled in spellings:
            assert plots.style([spelled])[spelled] == plots.style([label])[label]
    small = plots.style(["small BERT"])["small BERT"]
    assert (small["color"], small["marker"]) == looks._MODELS["bert"]
    assert not looks.is_model("vitality")


def test_variants_keep_color_and_marker_and_differ_in_line_or_filling():
    labels = ["ViT", "ViT, regularized", "ViT, patches normalized", "ViT, dropout", "ViT, untrained"]
    chosen = list(plots.style(labels).values())
    assert len({(look["color"], look["marker"]) for look in chosen}) == 1
    assert len({(look["linestyle"], look["markerfacecolor"]) for look in chosen}) == len(labels)


def test_unknown_names_never_look_like_a_model_and_are_rarely_the_same():
    known = {(look["color"], look["marker"]) for look in plots.style(MODELS).values()}
    unknown = [looks._look(f"model {number}") for number in range(60)]
    assert not known & {(look["color"], look["marker"]) for look in unknown}
    same = sum(a == b for a, b in itertools.combinations(unknown, 2))
    assert same <= 60 * 59 / 2 / 630 * 3  # 630 looks, of about the same probability


def test_two_labels_that_look_the_same_are_named():
    with pytest.warns(UserWarning, match="'vit' and 'ViT' have the same color"):
        plots.style(["ViT", "vit"])


def test_settings_have_looks_by_their_place():
    labels = [f"setting {number}" for number in range(9)]
    chosen = plots.in_order(labels)
    assert len({repr(look) for look in chosen.values()}) == 9
    assert plots.style(["setting 3", "ViT"], chosen)["setting 3"] == chosen["setting 3"]
    assert plots.in_order(labels[:3]) == {label: chosen[label] for label in labels[:3]}


def luminance(color):
    """Return the relative luminance of WCAG 2."""
    parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def without(color, kind):
    """Return a color as readers without red (protanopia) or green (deuteranopia) cones see it; Machado et al. 2009."""
    matrix = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "normal": np.eye(3),
    }[kind]
    return np.clip(np.array(matrix) @ [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], 0, 1)


@pytest.mark.parametrize("kind", ["normal", "protan", "deutan"])
def test_colors_are_apart_for_color_blind_readers(kind):
    for a, b in itertools.combinations(looks._COLORS, 2):
        assert np.abs(without(a, kind) - without(b, kind)).max() > 0.15, (a, b)
    assert all(1.05 / (luminance(color) + 0.05) > 2 for color in looks._COLORS), "visible on white"
