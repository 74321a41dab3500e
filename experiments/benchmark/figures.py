"""The benchmark's figure: the speedup of jaxsens over other programs, by case."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxsens.plots.looks import in_order
from jaxsens.plots.style import PAGE, Interval, finish, legend_entries, log_ticks, new_figure

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
    figure = new_figure(PAGE, 1.2 + 0.28 * len(cases))
    axes = figure.add_subplot()
    looks = in_order(list(PROGRAMS.values()))
    looks |= in_order([*looks, *(program for program in ratios if program not in looks)])
    for number, (program, by_case) in enumerate(ratios.items()):
        places = [cases.index(case) + 0.22 * (number - (len(ratios) - 1) / 2) for case in by_case]
        middle, low, high = ([interval[i] for interval in by_case.values()] for i in range(3))
        ends = [
            [m - end for m, end in zip(middle, low, strict=True)],
            [e - m for e, m in zip(high, middle, strict=True)],
        ]
        mark = looks[program] | {"linestyle": "none"}
        axes.errorbar(middle, places, xerr=ends, label=program, capsize=2, markersize=4, elinewidth=1, **mark)
    axes.axvline(1, color="0.5", linewidth=1)
    axes.set_xscale("log")
    log_ticks(axes.xaxis, *axes.get_xlim())
    axes.set_yticks(range(len(cases)), cases)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xlabel("speedup of jaxsens (ratio of times; median and range of repeats)")
    axes.grid(axis="x", alpha=0.3)
    return finish(figure, "Speedup of jaxsens over other programs, by case", "", "", "", *legend_entries([axes]))
