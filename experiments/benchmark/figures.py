"""The benchmark's figure: the speedup of jaxsens over other programs, by case."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxsens.plots.style import Interval, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAMS = {
    "jaxsens": "jaxsens",
    "plain": "plain JAX",
    "pytorch": "PyTorch",
    "published": "published procedure",
    "boofun": "boofun",
}
"""Names of the programs as figures show them."""

CASES = {
    "vit": "ViT",
    "screened": "ViT, low precision first",
    "convmixer": "ConvMixer",
    "resnet": "ResNet-18",
    "cnn": "CNN",
    "embeddings": "embeddings of a text encoder",
    "shifts": "embedding shifts, all layers",
    "sharpness": "average sharpness",
    "eigenvalues": "top Hessian eigenvalues",
    "train-recognizers": "training many recognizers",
    "train-full-batch": "training on a full batch",
}
"""Names of the cases as figures show them; those of recognizers and truth tables hold their sizes, see `label`."""


def label(case: str) -> str:
    """Return the name of a case as figures show it: ``6 layers, 4 heads of 64, MLP x2`` for ``recognizer-6x4x64x2``."""
    if case.startswith("recognizer-"):
        layers, heads, size, multiplier = case.removeprefix("recognizer-").split("x")
        return f"{layers} layers, {heads} head{'s' * (heads != '1')} of {size}, MLP x{multiplier}"
    if case.startswith("cube-"):
        return f"truth table of {case.removeprefix('cube-')} bits"
    return CASES[case]


def speed_ratios(ratios: Mapping[str, Mapping[str, Interval]]) -> "Figure":
    """Draw the speedup of jaxsens ``(median, smallest, largest)`` over every program, by case, on a log scale.

    Args:
        ratios: By the name of the program, then by that of the case; a program may lack cases.

    Raises:
        ValueError: If there is nothing to draw, or a ratio is not positive.
    """
    cases = list(dict.fromkeys(case for by_case in ratios.values() for case in by_case))
    if not cases:
        raise ValueError("ratios holds no ratio: give at least one program and one case")
    if any(not value > 0 for by_case in ratios.values() for interval in by_case.values() for value in interval):
        raise ValueError("ratios holds a ratio that is not positive: give speedups, such as (2.0, 1.9, 2.2)")
    from matplotlib import ticker

    figure = new_figure(7.5, 1.4 + 0.32 * len(cases))
    axes = figure.add_subplot()
    looks = style(list(ratios))
    for number, (program, by_case) in enumerate(ratios.items()):
        places = [cases.index(case) + 0.22 * (number - (len(ratios) - 1) / 2) for case in by_case]
        middle, low, high = ([interval[i] for interval in by_case.values()] for i in range(3))
        ends = [
            [m - end for m, end in zip(middle, low, strict=True)],
            [e - m for e, m in zip(high, middle, strict=True)],
        ]
        axes.errorbar(
            middle, places, xerr=ends, fmt=looks[program]["marker"], color=looks[program]["color"], label=program,
            capsize=2, markersize=5,
        )  # fmt: skip
    axes.axvline(1, color="0.5", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlabel("speedup of jaxsens (median and range of repeats)")
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle("Speedup of jaxsens over other programs, by case")
    figure.legend(loc="outside lower center", ncols=len(ratios))
    return figure
