"""Figures of ``experiments.kernels``: off-diagonal parts of the kernels, and eigenvalues by degree."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.kernels.config import Config
from experiments.kernels.measure import interval, settings
from jaxsens import plots
from jaxsens.typing import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Units = Mapping[tuple[Any, ...], Mapping[str, Array]]

READ_OUTS = {"all": "reads all tokens", "mean": "reads the mean", "first": "reads the first token"}


def off_diagonal(config: Config, exact: Units) -> "Figure":
    """Draw the off-diagonal fraction of the conjugate kernels on the largest cube, by the number of tokens."""
    bits = max(config.bits)
    panels = {}
    for score in ("linear", "relu"):
        panel = {}
        for cube, unit in exact.items():
            for (kind, one, read_out), value in zip(settings(), unit["off_diagonal"], strict=True):
                if cube[0] == bits and kind == "conjugate" and one == score:
                    tokens = f"{cube[1]} token{'s' * (cube[1] > 1)}"
                    panel[f"{tokens}, {READ_OUTS[read_out]}"] = (float(value),) * 3
        panels[f"{score if score == 'linear' else 'ReLU'} scores"] = panel
    return plots.dots(
        panels, heading="Kernels of attention in the Walsh-Fourier basis", dataset=f"{bits} bits, all strings",
        sample="exact, conjugate kernel", quantity="norm off the diagonal / norm of all", limits=(-0.05, 1.0),
    )  # fmt: skip


def by_degree(config: Config, finite: Units) -> "Figure":
    """Draw the means of the diagonal by degree, for the three kinds of scores at the largest width."""
    width = max(config.widths)
    panels = {}
    for kind in ("conjugate", "tangent"):
        series = {}
        for score in config.finite_scores:
            unit = finite[kind, score, config.finite_read_outs[0], width]
            mean, sem = (np.asarray(unit[name], float) for name in ("degree_means", "degree_means_sem"))
            label = {"relu": "ReLU scores"}.get(score, f"{score} scores")
            series[label] = np.arange(len(mean)), mean, *interval(mean, sem)
        panels[f"{kind} kernel"] = plots.Quantity("mean eigenvalue / sum of all", series, log=False)
    return plots.side_by_side(
        panels, x="degree", heading="Diagonal of the kernels, by degree", log_x=False,
        dataset=f"{config.finite_bits} bits in {config.finite_tokens} tokens, {READ_OUTS[config.finite_read_outs[0]]}",
        sample=f"{config.networks:,} networks of width {width}",
    )  # fmt: skip
