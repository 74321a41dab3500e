"""The four figures of the experiment, each a quantity against the length of strings."""

from collections.abc import Callable, Sequence

import numpy as np

from experiments.harness import Run, mean_and_interval
from experiments.recognizer_geometry import labels
from experiments.recognizer_geometry.config import Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from experiments.recognizer_geometry.counts import Counts
from experiments.recognizer_geometry.estimates import (
    WEIGHTS,
    Decay,
    Results,
    Slope,
    Units,
    blow_up_rates,
    influences_of,
    lemma_exponent,
    margins_of,
)
from experiments.recognizer_geometry.fits import lines_where_finite, log_slopes
from experiments.recognizer_geometry.length_figure import Fit, Panel, against_length
from jaxsens.statistics import estimate

DATA = "random recognizers"


def write(
    run: Run,
    config: Config,
    results: Results,
    slopes: Sequence[Slope],
    decays: Sequence[Decay],
    counts: Sequence[Counts],
) -> None:
    """Draw all figures of a run; one without a panel is left out."""
    if panels := influence_panels(config, results["influence"], slopes):
        sample = f"{config.models} models, {config.strings} strings each, {labels.shape(config.depth, config.width)}"
        sample += _late(config.lengths, config)
        figure = against_length(
            panels, quantity="influence of a bit on the end of string",
            unit="change of its activation, l2; geometric mean over models", dataset=DATA, sample=sample,
        )  # fmt: skip
        run.figure("influence", figure)
    figure = against_length(
        _margin_panels(config, results["margin"]), quantity="smallest margin of a construction", unit="logit",
        dataset="recognizers built by hand",
        sample="all strings to N = 10, hard ones beyond; nothing is random, hence no bands",
    )  # fmt: skip
    run.figure("margins", figure)
    if panels := _blow_up_panels(config, results["blow-up"], decays):
        figure = against_length(
            panels, quantity="share of weights with a blow-up", unit=f"above 1 + N^({config.zeta:g}/2L), L layers",
            dataset=DATA,
            sample=f"{config.centers} centers, {config.draws} draws for each{_late(config.blow_up_lengths, config)}",
        )  # fmt: skip
        run.figure("blow_ups", figure)
    if panels := _count_panels(counts):
        figure = against_length(
            panels, quantity="strings of sensitivity 0", unit="geometric mean over the models that show one",
            log_length=False, dataset=DATA,
            sample=f"{config.models} models, all strings to N = {config.exhaustive_lengths[-1]}",
        )  # fmt: skip
        run.figure("counts", figure)


def _late(lengths: Sequence[int], config: Config) -> str:
    """Say over which lengths slopes are."""
    return f"; slopes over N = {lengths[-config.tail]} to {lengths[-1]}"


def influence_panels(config: Config, units: Units, slopes: Sequence[Slope]) -> dict[str, Panel]:
    """Return the panels of influences: mean and largest, for each encoding and epsilon."""
    late = {(slope.quantity, slope.setting): slope for slope in slopes if slope.which == "late"}
    panels = {}
    for pair in config.influence_settings:
        for quantity, over in (("activation_mean", "mean"), ("activation_max", "largest")):
            settings = [(*pair, half_width) for half_width in config.half_widths]
            chosen = [late[quantity, setting] for setting in settings]
            if panel := _influence_panel(config, units, chosen):
                panels[f"{over} over bits; {labels.encoding(*pair)}"] = panel
    return panels


def _influence_panel(config: Config, units: Units, slopes: Sequence[Slope]) -> Panel | None:
    lengths = np.array(config.lengths)
    series, fits = {}, {}
    for slope in slopes:
        label = labels.parameters(slope.setting[-1])
        values = influences_of(config, units, slope.setting, slope.quantity)
        values = values[(values > 0).all(1)]
        if len(values) < 2:
            continue
        logs = [mean_and_interval(estimate.from_values(one)) for one in np.log(values).T]
        series[label] = (lengths, *np.exp(logs).T)
        late = np.array(slope.lengths)
        fitted, offsets, _ = log_slopes(late, values[:, -len(late) :])
        law = np.exp(offsets.mean() + fitted.mean() * np.log(late))
        fits[label] = Fit(late, law, mean_and_interval(estimate.from_values(fitted)))
    if not series:
        return None
    highest = max(mean[0] for _, mean, _, _ in series.values())
    return Panel(series, fits, {"slope -1 (Cor. 3.3)": (lengths, 1.5 * highest * lengths[0] / lengths)})


def _margin_panels(config: Config, units: Units) -> dict[str, Panel]:
    lengths, panels = np.array(config.margin_lengths), {}
    bounds = {f"margin {margin:g}": (lengths, np.full(len(lengths), margin)) for margin in config.margins}
    for name in CONSTRUCTIONS:
        values = {epsilon: margins_of(config, units, name, epsilon) for epsilon in config.margin_epsilons}
        series = {f"epsilon = {epsilon:g}": (lengths, *(margins,) * 3) for epsilon, margins in values.items()}
        panels[labels.CONSTRUCTIONS[name]] = Panel(series, {}, bounds)
    return panels


def _blow_up_panels(config: Config, units: Units, decays: Sequence[Decay]) -> dict[str, Panel]:
    lengths, panels = np.array(config.blow_up_lengths), {}
    for depth, width in config.shapes:
        series, fits = {}, {}
        for weights in WEIGHTS:
            label = f"{weights} weights"
            rates = blow_up_rates(config, units, (depth, width, weights))
            seen = rates.any(0)
            if seen.any():
                each = [estimate.from_values(column, rate=True) for column in rates.T[seen]]
                series[label] = (lengths[seen], *np.array([mean_and_interval(one) for one in each]).T)
            for fit in decays:
                if (fit.setting, fit.which) == ((depth, width, weights), "late"):
                    law = np.exp(fit.offset) * fit.lengths ** float(fit.exponent.mean)
                    fits[label] = Fit(fit.lengths, law, mean_and_interval(fit.exponent))
        if series:
            lemma = lemma_exponent(config, depth, width)
            highest = max(mean[0] for _, mean, _, _ in series.values())
            bound = {f"exponent {lemma:.2f} (Lem. 4.2)": (lengths, 1.5 * highest * (lengths / lengths[0]) ** lemma)}
            panels[labels.shape(depth, width)] = Panel(series, fits, bound)
    return panels


def _count_panels(counts: Sequence[Counts]) -> dict[str, Panel]:
    shown = (one for one in counts if (one.zero > 0).sum(0).max() > 1)
    return {labels.shape(one.depth, one.width): _count_panel(one) for one in shown}


def _count_panel(counts: Counts) -> Panel:
    series, fits, lengths, logs = {}, {}, counts.lengths, counts.logs
    members = {"all models": np.full(len(logs), True), "not constant": ~counts.constant[:, -1]}
    for label, chosen in members.items():
        several = (counts.zero[chosen] > 0).sum(0) > 1
        if not several.any():
            continue
        columns = [column[np.isfinite(column)] for column in logs[chosen].T[several]]
        means = [mean_and_interval(estimate.from_values(one)) for one in columns]
        series[label] = (lengths[several], *np.exp2(means).T)
        if fit := _count_fit(lengths, lambda n: n, logs[chosen], "bits a position"):
            fits[label] = fit
    last = logs[members[list(series)[-1]]] if series else logs
    if fit := _count_fit(lengths, np.log2, last, "exponent"):
        fits["power of N"] = fit
    bounds = {"2^N": (lengths, 2.0**lengths)}
    drawn = np.linspace(lengths[0], lengths[-1], 200)
    below = drawn**counts.exponent < 2.0**drawn
    if counts.exponent > 0 and below.any():
        bounds[f"floor N^{counts.exponent:.2g}"] = (drawn[below], drawn[below] ** counts.exponent)
    return Panel(series, fits, bounds)


def _count_fit(
    lengths: np.ndarray, of_length: Callable[[np.ndarray], np.ndarray], logs: np.ndarray, meaning: str
) -> Fit | None:
    """Return the mean over models of the lines through ``log2 K_0``; None where fewer than two models have one."""
    slopes, offsets, _, _ = lines_where_finite(of_length(lengths), logs)
    fitted = np.isfinite(slopes)
    if fitted.sum() < 2:
        return None
    drawn = np.linspace(lengths[0], lengths[-1], 200)  # a power is curved on this axis
    values = np.exp2(offsets[fitted].mean() + slopes[fitted].mean() * of_length(drawn))
    return Fit(drawn, values, mean_and_interval(estimate.from_values(slopes[fitted])), meaning)
