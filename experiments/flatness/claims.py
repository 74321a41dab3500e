"""Estimates and verdicts of ``experiments.flatness``: levels, differences, rank correlations, and claim C13."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments import harness
from experiments.flatness.config import Config
from experiments.flatness.measure import AVERAGED, RELATIVE
from experiments.harness.reporting import below_zero
from experiments.images.config import REGULARISED
from jaxsens.statistics import estimate
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

Results = Mapping[str, list[Mapping[str, Array]]]
"""Treatment to the results of its models, one for each seed."""

PUBLISHED = {"output_gaussian_0.005": "39.166 -> 9.025", "prediction_gaussian_0.005": ".5346 -> .3982"}
"""Vasudeva et al., Table 2: a ViT on CIFAR-10, plain and regularised; deviation .005, one model, one run."""

PAPER = (
    "the paper: a ViT on CIFAR-10, one model, no error bars, deviation .005 (.05 is the default of its code), whose "
    "noisy copies are in training mode"
)
SCOPES = {
    "all": "over all models",
    "architecture": "within architectures, regularised or not",
    "treatment": "between seeds of a treatment",
}
"""What models are compared within, and how that is said."""


class Measure(NamedTuple):
    """A quantity: what it is called with its unit, and whether its values are frequencies."""

    text: str
    rate: bool = False


def measures(config: Config) -> dict[str, Measure]:
    """Return all sharpness measures by name: what token sensitivity is correlated with."""
    noise = {f"gaussian_{d:g}": f"weight noise of deviation {d:g}" for d in config.deviations}
    relative = f"noise of {config.relative_deviation:g} of the"
    noise |= {name: f"{relative} {name.removeprefix('by_').replace('element', 'weight')}'s size" for name in RELATIVE}
    units = {
        "loss": "rise of the loss (nats)", "error": "rise of the error (fraction)",
        "output": "sum over logits of |change|", "prediction": "fraction of predictions changed",
    }  # fmt: skip
    found = {
        f"{what}_{name}": Measure(f"{units[what]}, {noise[name]}", what == "prediction")
        for name in noise
        for what in AVERAGED
    }
    for deviation in config.deviations:
        name = f"gaussian_{deviation:g}"
        found[f"normalised_loss_{name}"] = Measure(f"rise of the loss of normalised logits (nats), {noise[name]}")
        found[f"relative_output_{name}"] = Measure(f"|change| of outputs over their size, {noise[name]}")
    ascent = f"{config.iterations} gradients, {config.group} images"
    for name, text in {
        "l2": f"l2 ball of {config.radius:g}", "linf": f"l-infinity ball of {config.box:g}",
        "adaptive_l2": f"l2 ball of {config.relative_radius:g} in |weights|",
        "adaptive_linf": f"l-infinity ball of {config.relative_box:g} in |weights|",
    }.items():  # fmt: skip
        found[f"worst_{name}"] = Measure(f"largest rise of the loss (nats), {text}, {ascent}")
        if name.endswith("l2"):
            found[f"one_step_{name}"] = Measure(f"rise of the loss after SAM's step (nats), {text}")
    found["trace"] = Measure("trace of the Hessian (nats / weight^2)")
    found["top_eigenvalue"] = Measure("top eigenvalue of the Hessian (nats / weight^2)")
    return found


def levels(config: Config) -> dict[str, Measure]:
    """Return all quantities that models are described by."""
    quirk = {
        f"train_mode_{what}_{d:g}": Measure(f"{text}, noisy copy in training mode, deviation {d:g}", what != "output")
        for d in (0.0, *config.deviations)
        for what, text in (("output", "sum over logits of |change|"), ("prediction", "fraction of predictions changed"))
    }
    own = {
        "sensitivity": Measure("token sensitivity (fraction of predictions changed)", True),
        "test_error": Measure("test error (fraction)", True),
        "train_error": Measure("training error (fraction)", True),
        "scale": Measure("size of the function (sum of |centred logits|)"),
    }
    return own | measures(config) | quirk


def values(found: list[Mapping[str, Array]], name: str) -> np.ndarray:
    """Return what was measured, model by independent unit ``[seeds units]``; one unit where nothing was sampled."""
    if name.startswith("relative_output"):
        scale = np.stack([model["scale"] for model in found])
        return values(found, name.removeprefix("relative_")) / scale[:, None]
    if name in ("test_error", "train_error"):
        return 1.0 - np.stack([model[name.replace("error", "correct")] for model in found])
    return np.stack([np.atleast_1d(model[name]) for model in found]).astype(np.float64)


def level(found: list[Mapping[str, Array]], name: str, rate: bool) -> Estimate:
    """Estimate a quantity over models, and over the units that it was measured on."""
    every = values(found, name)
    return estimate.over_models(every, rate=rate) if every.shape[1] > 1 else estimate.from_values(every[:, 0])


def difference(results: Results, first: str, second: str, name: str, rate: bool = False) -> Estimate:
    """Estimate first minus second, paired over the units that models share."""
    one, other = values(results[first], name), values(results[second], name)
    if one.shape[1] > 1:
        return estimate.difference(one, other, rate=rate)
    return estimate.unpaired_difference(one[:, 0], other[:, 0])


def correlations(config: Config, results: Results) -> list[dict[str, Any]]:
    """Return rank correlations over models of token sensitivity, and of test error, with every other quantity."""
    names = [name for name, found in results.items() for _ in found]
    treatments = np.array(names)
    architectures = np.array([name.removesuffix(REGULARISED) for name in names])
    # The seeds of a treatment are alike, and one unit, but where seeds are compared with each other.
    groups = {"all": np.zeros(len(names), int), "architecture": architectures, "treatment": treatments}
    clusters = {"all": treatments, "architecture": treatments, "treatment": np.arange(len(names))}
    sharpness = measures(config)
    others = ("scale", *sharpness)
    subjects = ("sensitivity", "test_error", *others)
    one = {name: np.concatenate([values(found, name).mean(1) for found in results.values()]) for name in subjects}
    rows = []
    for subject, partners in (("sensitivity", ("test_error", *others)), ("test_error", others)):
        for name in partners:
            for scope in SCOPES:
                r = rank_correlation(one[subject], one[name], groups=groups[scope], clusters=clusters[scope])
                row = {"of": subject, "with": name, "scope": scope, "models": len(names)}
                row |= {"units": len(np.unique(clusters[scope])), "groups": len(np.unique(groups[scope]))}
                rows.append(row | dict(zip(("r", "low", "high"), (None,) * 3 if r is None else r, strict=True)))
    return rows


def claims(config: Config, results: Results, rows: list[dict[str, Any]], setting: str) -> list[harness.Claim]:
    """Judge that the regulariser flattens the minimum, and that low sensitivity goes with flat minima."""
    setting = f"{_manipulated(config, results)}; {setting}"
    return [*_c13(config, results, setting), *_quirk(config, results, setting), *_together(rows, setting)]


def _c13(config: Config, results: Results, setting: str) -> Iterator[harness.Claim]:
    known = {"sensitivity": levels(config)["sensitivity"]} | measures(config)
    for architecture in config.architectures:
        pair = (architecture + REGULARISED, architecture)
        for name, measure in known.items():
            found = difference(results, *pair, name, measure.rate)
            own = architecture.startswith("vit")
            published = PUBLISHED.get(name) if own else None
            said = "C13" if own and name.startswith(("output_gaussian", "prediction_gaussian")) else "C13, extended"
            yield _claim(
                "regulariser" if name == "sensitivity" else said,
                f"{measure.text}: {pair[0]} minus {pair[1]}", published, "s.7.2, Table 2", found,
                below_zero(found, config.seeds), f"{setting}; {PAPER}",
            )  # fmt: skip


def _quirk(config: Config, results: Results, setting: str) -> Iterator[harness.Claim]:
    """Say what the published code's training mode adds: the copy in training mode minus that in evaluation mode."""
    for name, found in results.items():
        for what in ("output", "prediction"):
            for deviation in config.deviations:
                trained = values(found, f"train_mode_{what}_{deviation:g}")
                added = estimate.over_models(trained - values(found, f"{what}_gaussian_{deviation:g}"))
                total = estimate.over_models(trained)
                alone = estimate.over_models(values(found, f"train_mode_{what}_0"))
                note = (
                    f"training mode in all {total.mean:.4g}, without any noise {alone.mean:.4g}; batches of "
                    f"{config.group} images; {setting}"
                )
                text = f"{what} sharpness that training mode adds, deviation {deviation:g}: {name}"
                yield _claim("C13, the code's quirk", text, None, "s.7.2, released code", added, "", note)
    for architecture in config.architectures:
        pair = (architecture + REGULARISED, architecture)
        for what in ("output", "prediction"):
            for deviation in config.deviations:
                published = PUBLISHED.get(f"{what}_gaussian_{deviation:g}")
                found = difference(results, *pair, f"train_mode_{what}_{deviation:g}", what == "prediction")
                text = (
                    f"{what} sharpness of copies in training mode, deviation {deviation:g}: {pair[0]} minus {pair[1]}"
                )
                yield _claim(
                    "C13, the code's quirk", text, published if architecture.startswith("vit") else None,
                    "s.7.2, Table 2", found, below_zero(found, config.seeds),
                    f"{setting}; {PAPER}",
                )  # fmt: skip


def _manipulated(config: Config, results: Results) -> str:
    """Say what the regulariser does to token sensitivity, without which it is no test of what low sensitivity does."""
    found = {
        name: difference(results, name + REGULARISED, name, "sensitivity", rate=True) for name in config.architectures
    }
    changes = ", ".join(f"{name} {e.mean:+.4f} (error {e.sem:.4f})" for name, e in found.items())
    return f"token sensitivity changes by {changes}"


def _together(rows: list[dict[str, Any]], setting: str) -> Iterator[harness.Claim]:
    for row in rows:
        if row["of"] != "sensitivity":
            continue
        known = row["low"] is not None
        verdict = harness.verdict((row["low"], row["high"]), seeds=row["units"], above=0.0) if known else "inconclusive"
        sharp = row["with"] not in ("test_error", "scale")
        yield harness.Claim(
            "low sensitivity, flat minimum" if sharp else "low sensitivity",
            f"rank correlation of token sensitivity and {row['with']}, {SCOPES[row['scope']]}",
            "lower sensitivity goes with flatter minima" if sharp else None,
            "Vasudeva et al., s.7.2", row["r"], None, row["low"], row["high"],
            verdict if sharp else "",
            f"{row['models']} models, {row['units']} independent units in {row['groups']} groups (the seeds of a "
            f"treatment are one unit but where seeds are compared); intervals are not corrected for their number, so "
            f"that of 32 measures one or two lie apart from 0 by chance; {setting}",
        )  # fmt: skip


def _claim(
    claim: str, quantity: str, published: str | None, place: str, found: Estimate, verdict: str, note: str
) -> harness.Claim:
    place = f"Vasudeva et al., {place}"
    return harness.Claim(claim, quantity, published, place, **harness.Claim.numbers(found), verdict=verdict, note=note)
