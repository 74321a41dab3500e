"""The four figures of the experiment."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from experiments.harness import Run, mean_and_interval
from experiments.random_recognizers import labels
from experiments.random_recognizers.claims import LIMIT
from experiments.random_recognizers.config import Config
from experiments.random_recognizers.estimates import (
    COMPARED,
    Groups,
    Results,
    bin_centers,
    of_model,
    over_models,
    shares,
)
from jaxsens import plots
from jaxsens.statistics.estimate import Estimate


def write(run: Run, config: Config, groups: Groups, rates: Mapping[int, Estimate]) -> None:
    """Draw all figures of a run; ``rates`` are the shares of random functions with a string of sensitivity 0."""
    run.figure("spectra", _spectra(config, groups))
    run.figure("average_sensitivity", _averages(config, groups))
    readings = {(kind, scheme): group for (kind, scheme), group in groups.items() if kind not in COMPARED}
    if {scheme for _, scheme in readings} == set(config.schemes):
        run.figure("choices", _choices(config, readings))
    run.figure("control", _control(config, rates))


def _panels(config: Config, groups: Groups, value: Callable[[Results], Any]) -> dict[str, dict[str, Any]]:
    """Return values by initialization and kind, for one panel for each initialization."""
    return {
        f"{labels.weights(scheme)} weights": {
            labels.KINDS[kind]: value(group) for (kind, chosen), group in groups.items() if chosen == scheme
        }
        for scheme in config.schemes
    }


def _compared(groups: Groups) -> Groups:
    return {key: group for key, group in groups.items() if key[0] in COMPARED}


def _sample(config: Config, groups: Groups) -> str:
    first = config.schemes[0]
    counts = [f"{len(groups[kind, first])} {labels.KINDS[kind]}s" for kind in COMPARED if (kind, first) in groups]
    return ", ".join(counts) + " for each initialization"


def _spectra(config: Config, groups: Groups) -> Any:
    width = max(1, config.length // 20)
    bits = np.arange(config.length + 1)
    binomial = np.bincount(-(-bits // width), stats.binom.pmf(bits, config.length, 0.5))
    sample = _sample(config, groups) + (f"; sensitivity 0, then bins of {width}" if width > 1 else "")
    return plots.spectra(
        _panels(config, _compared(groups), lambda group: shares(config, group, width)), at=bin_centers(config, width),
        dataset=labels.strings(config), sample=sample, reference=("random function: binomial(n, 1/2)", binomial),
    )  # fmt: skip


def _averages(config: Config, groups: Groups) -> Any:
    def averages(group: Results) -> list[float]:
        return [config.length * of_model(config, values, "average") for _, values in group]

    return plots.survival(
        _panels(config, _compared(groups), averages), dataset=labels.strings(config), sample=_sample(config, groups),
        quantity="average sensitivity (bits)", smallest=0.01,
    )  # fmt: skip


def _choices(config: Config, readings: Groups) -> Any:
    count = len(readings["default", config.schemes[0]])
    return plots.dots(
        _panels(config, readings, lambda group: mean_and_interval(over_models(config, group, "zero"))),
        dataset=labels.strings(config), sample="1 model each" if count == 1 else f"{count} models each",
        heading="Other readings of F.1", quantity="share of strings of sensitivity 0",
        limits=(0, 1),
    )  # fmt: skip


def _control(config: Config, rates: Mapping[int, Estimate]) -> Any:
    exact = {n: (float(rate.mean),) * 3 if n <= 4 else mean_and_interval(rate) for n, rate in rates.items()}
    return plots.rate_by_length(
        list(exact), list(exact.values()), limit=("1 - 1/e", LIMIT), dataset="all functions of up to 4 bits",
        sample=f"{config.control_functions:,} random functions of each other length",
        quantity="share with a string of sensitivity 0",
    )  # fmt: skip
