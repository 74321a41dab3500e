"""Colors, markers and line styles: a model has the same in every figure.

Colors are those of Okabe and Ito (2008), which readers with any color vision can tell apart; their yellow is left out,
since it is hardly visible on white.
"""

import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Look", "Looks", "hatch", "in_order", "is_model", "mark_of", "style", "tint"]

Look = dict[str, Any]
"""Properties of a line: ``color``, ``marker``, ``linestyle`` and ``markerfacecolor``."""

Looks = Mapping[str, Look]
"""Label -> `Look`."""

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip

_MODELS = {
    "vit": (BLUE, "o"),
    "mlp": (ORANGE, "s"),
    "cnn": (RED, "^"),
    "convmixer": (GREEN, "D"),
    "resnet": (SKY, "P"),
    "densenet": (PURPLE, "X"),
    "convnext": (BLACK, "^"),
    "transformer": (BLUE, "H"),
    "lstm": (PURPLE, "v"),
    "bert": (GREEN, "p"),
    "minilm": (SKY, "p"),
    "gpt": (RED, "X"),
}

# Variants of a model: line style, and how the marker is filled.
_VARIANTS = {
    "": ("-", "full"),
    "2": ("-", "full"),  # of GPT
    "18": ("-", "full"),  # of ResNet
    "dropout": (":", "full"),
    "regularized": ("--", "white"),
    "dropout regularized": ("--", "white"),
    "patches normalized": ("-.", "tint"),
    "patch norm": ("-.", "tint"),
    "sigmoid": ("--", "tint"),
    "untrained": (":", "tint"),
    "trained": ("-", "full"),
    "converged": ("-", "full"),
    "published": ("--", "white"),
}
_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
_OTHER_MARKERS = ("d", "<", ">", "8", "*", "h")  # of no model in the table
_OTHER_LINES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
_FILLS = ("full", "white", "tint")
_IN_ORDER = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"), (BLACK, "P"), (SKY, "X"))
_LINES_IN_ORDER = ("-", "--", "-.", ":")


def style(labels: Sequence[str], looks: Looks | None = None) -> dict[str, Look]:
    """Return the look of every label: that of the model that it names, or else one that follows from its letters.

    Color and marker belong to the model (ViT, MLP, CNN, ConvMixer, ResNet, DenseNet, ConvNeXt, transformer, LSTM, BERT,
    MiniLM, GPT), line style and filling of the marker to its variant, such as ``ViT, regularized``. A look depends on
    the label alone, not on what else is drawn.

    Args:
        labels: The labels. A model is a word of its label, in upper or lower case.
        looks: Looks of labels that are settings rather than models; see `in_order`.

    Warns:
        UserWarning: If two labels have the same look.

    Example:
        >>> style(["ViT, small", "mine"])["ViT, small"]["color"] == style(["vit"])["vit"]["color"]
        True
    """
    chosen = {label: dict((looks or {}).get(label) or _look(label)) for label in labels}
    first: dict[str, str] = {}
    for label, look in chosen.items():
        other = first.setdefault(repr(sorted(look.items())), label)
        if other != label:
            warnings.warn(
                f"{label!r} and {other!r} have the same color, marker and line: rename one of them, or give looks",
                stacklevel=2,
            )
    return chosen


def in_order(labels: Sequence[str]) -> dict[str, Look]:
    """Return a look for each label by its place: for settings, which have no look of their own as models do.

    Example:
        >>> looks = in_order(["before", "after"])
        >>> looks["before"]["color"] != looks["after"]["color"]
        True
    """
    looks = {}
    for place, label in enumerate(labels):
        color, marker = _IN_ORDER[place % len(_IN_ORDER)]
        fill = _FILLS[place // len(_IN_ORDER) % len(_FILLS)]
        looks[label] = _properties(color, marker, _LINES_IN_ORDER[place % len(_LINES_IN_ORDER)], fill)
    return looks


def is_model(label: str) -> bool:
    """Return whether a label names a model that has its own color and marker.

    Example:
        >>> is_model("LSTM, converged"), is_model("random function")
        (True, False)
    """
    return any(word in _MODELS for word in _words(label))


def mark_of(look: Look) -> Look:
    """Return the marker of a look and its colors, as ``Axes.scatter`` takes them.

    Example:
        >>> mark_of(style(["CNN"])["CNN"])
        {'marker': '^', 'edgecolor': '#D55E00', 'facecolor': '#D55E00'}
    """
    return {"marker": look["marker"], "edgecolor": look["color"], "facecolor": look["markerfacecolor"]}


def hatch(look: Look) -> str:
    """Return the hatch of a bar, which stands for the line style of a look.

    Example:
        >>> hatch(style(["CNN"])["CNN"]), hatch(style(["CNN, regularized"])["CNN, regularized"])
        ('', '//')
    """
    return {"-": "", "--": "//", ":": "..", "-.": "xx"}.get(look["linestyle"], "++")


def tint(color: str, share: float = 0.4) -> str:
    """Return a color mixed with white, of which the rest is.

    Example:
        >>> tint("#000000", 0.2)
        '#cccccc'
    """
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 + share * (part - 255)):02x}" for part in parts)


def _look(label: str) -> Look:
    words = _words(label)
    number = zlib.crc32(" ".join(words).encode())
    for place, word in enumerate(words):
        if word in _MODELS:
            variant = " ".join(words[:place] + words[place + 1 :])
            number = zlib.crc32(variant.encode())
            other = (_OTHER_LINES[number % 4], _FILLS[number // 4 % 3])
            return _properties(*_MODELS[word], *_VARIANTS.get(variant, other))
    color, marker = _COLORS[number % 7], _OTHER_MARKERS[number // 7 % 6]
    return _properties(color, marker, ("-", *_OTHER_LINES)[number // 42 % 5], _FILLS[number // 210 % 3])


def _words(label: str) -> list[str]:
    """Return the words of a label in lower case; numbers are words of their own, as in ``gpt2``."""
    spelled = re.findall(r"[^\W\d_]+|\d+", label.lower())
    return spelled or [label]


def _properties(color: str, marker: str, line: Any, fill: str) -> Look:
    inside = {"full": color, "white": "#ffffff", "tint": tint(color)}[fill]
    return {"color": color, "marker": marker, "linestyle": line, "markerfacecolor": inside}
