"""Verdicts of ``experiments.length_and_sharpness`` on claims H1 to H5 of ``experiments/CLAIMS.md``.

Slopes and differences are means over seeds, or over random functions; Holm's correction holds for all rows of a claim,
and a false discovery rate for the many lengths of H3. Models of H1, H2, H3 and H5 are trained at one learning rate, as
published: without a grid of them these claims are not judged. Models of the trade-off (H4) draw theirs.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim, verdicts
from experiments.harness.verdicts import Design, Verdict
from experiments.length_and_sharpness.config import FUNCTIONS, Config
from experiments.length_and_sharpness.estimates import FEWEST_LENGTHS, Results, Rows, converged
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.training import many_models

FLAT = 0.25
"""The exponent of growth with length below which a quantity counts as not growing."""

EFFECT = 3.0
"""How many standard deviations of a unit beyond the bound the power is for: few models tell no smaller effect."""

GROWS = partial(verdicts.mean, above=0.0, effect=EFFECT)
STAYS = partial(verdicts.slope, at_most=0.0, tolerance=FLAT, effect=EFFECT)
SHARPER = partial(verdicts.mean, above=0.0, effect=EFFECT)
OPPOSED = partial(verdicts.correlation, sign=-1)
LESS_SENSITIVE = partial(verdicts.mean, below=0.0, effect=EFFECT)

PLACE = "Hahn and Rofin 2024 (arXiv 2402.09963)"


def claims(config: Config, results: Results, *, slopes: Rows, pairs: Rows, sizes: Rows) -> list[Claim]:
    """Return all claims of a run, from its units and from three of its tables with their estimates."""
    return [
        *slope_claims(config, slopes),
        *pair_claims(config, pairs),
        *tradeoff_claims(config, joined(results["tradeoff"])),
        *size_claims(config, sizes),
    ]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return every rule by which claims are judged, with its units at these settings."""
    seeds = {"units": config.seeds, "design": design(config.seeds, config.learning_rate)}
    slopes = {"together": 2 * len(FUNCTIONS) - 1} | seeds
    drawn = Design(config.tradeoff_models, drawn=config.tradeoff_rates)
    parts = sum(size < 2**config.function_length for size in config.function_sizes)
    functions = {"units": config.functions, "design": design(config.functions, config.function_rate)}
    return {
        "H1, H2, grows": verdicts.Use(GROWS, **slopes),
        "H1, H2, does not grow": verdicts.Use(STAYS, **slopes),
        "H3": verdicts.Use(SHARPER, **seeds),
        "H4": verdicts.Use(OPPOSED, config.tradeoff_models, drawn),
        "H5": verdicts.Use(LESS_SENSITIVE, **functions, together=parts),
    }


def design(models: int, rate: float) -> Design:
    """Return the design of models that are trained at one learning rate."""
    return Design(models, (rate,), {"the transformers": rate})


def joined(units: Mapping[Any, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the columns of several units, one after another."""
    several = list(units.values())
    return {name: np.concatenate([unit[name] for unit in several]) for name in several[0]}


def numbers(row: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Return a row's mean, standard error and interval as fields of a claim."""
    fields = {"measured": "mean", "standard_error": "sem", "low": "low", "high": "high"}
    return {field: row[prefix + name] for field, name in fields.items()}


def slope_claims(config: Config, rows: Rows) -> list[Claim]:
    """Judge that loss (H1) and sharpness (H2) grow with length for Parity and faster than for the others, which do not.

    Of the loss all models count, as the claim is that Parity is not learned; of sharpness only those that converged.
    """
    judged = []
    for row, slope in rows:
        quantity, (subject, _, reference) = row["quantity"], row["function"].partition(" - ")
        if (quantity, row["models"]) not in (("loss", "all"), ("sharpness", "converged")):
            continue
        grows = bool(reference) or subject == "parity"
        note = f"{row['seeds']} seeds"
        if row["seeds_with_too_few"]:
            note += f"; {row['seeds_with_too_few']} seeds have fewer than {FEWEST_LENGTHS} lengths with such models"
        claim = Claim(
            claim={"loss": "H1", "sharpness": "H2"}[quantity], place=PLACE, note=note, subject=subject,
            published="grows faster" if reference else "grows with length" if grows else "does not grow with length",
            quantity=f"slope of ln {quantity} against ln length, {row['models']} models",
            reference=reference, **numbers(row),
            dataset="no length" if row["first"] is None else f"strings of {row['first']} to {row['last']} bits",
        )  # fmt: skip
        rule = GROWS if grows else STAYS
        judged.append((claim, rule(slope, design=design(row["seeds"], config.learning_rate))))
    return harness.corrected(judged)


def pair_claims(config: Config, rows: Rows) -> list[Claim]:
    """Judge at each length that Parity's minima are sharper than Majority's, and those than First's (H3)."""
    judged = [
        (
            Claim(
                claim="H3", quantity="difference of ln average sharpness, converged models",
                published=f"{row['sharper']} is sharper", place=PLACE, subject=row["sharper"],
                reference=row["flatter"], dataset=f"strings of {row['length']} bits", **numbers(row),
                note=f"{row['pairs']} pairs of one seed, both converged; {row['pairs_not_converged']} pairs are not",
            ),
            SHARPER(difference, design=design(row["pairs"], config.learning_rate)),
        )
        for row, difference in rows
    ]  # fmt: skip
    return harness.corrected(judged, verdicts.false_discovery_rate)


def tradeoff_claims(config: Config, models: Mapping[str, np.ndarray]) -> list[Claim]:
    """Judge that models of Parity with smaller weights have larger blow-ups (H4)."""
    kept = models["status"] != many_models.DIVERGED
    results = []
    for name, chosen in (("converged", converged(models, "parity")), ("all", kept)):
        norms, blow_ups = models["weight_norm"][chosen], models["blow_up_median"][chosen]
        r = rank_correlation(norms, blow_ups)
        mean, low, high = (None, None, None) if r is None else r
        verdict: Verdict | str = ""
        if name == "converged":
            verdict = OPPOSED(norms, blow_ups, design=Design(int(chosen.sum()), drawn=config.tradeoff_rates))
        count = f"{int(chosen.sum())} of {len(chosen)} models, {int((~kept).sum())} diverged"
        results.append(
            Claim(
                claim="H4", quantity=f"rank correlation of blow-up and weight norm, {name} models",
                published="smaller weights need a larger blow-up", place=PLACE, subject="parity",
                dataset=f"strings of {config.tradeoff_length} bits", verdict=verdict, measured=mean, low=low, high=high,
                note=f"{count}; they differ in learning rate and weight decay too",
            )
        )  # fmt: skip
    return results


def size_claims(config: Config, rows: Rows) -> list[Claim]:
    """Judge that a function learned from a part of a random function's strings is less sensitive than it (H5)."""
    judged = []
    for row, difference in rows:
        if row["models"] != "fitted":
            continue
        whole = row["size"] == 2**config.function_length
        note = f"{row['targets']} functions; {row['used']} of {row['trained']} models fit"
        claim = Claim(
            claim="H5", quantity="difference of average sensitivity (bits), models that fit their training set",
            published=None if whole else "below 0 where data are few", place=PLACE,
            subject=f"learned from {row['size']} strings", reference="target",
            dataset=f"{'given' if config.own_functions else 'random'} functions of {config.function_length} bits",
            note="a control: these are all strings" if whole else note, **numbers(row, "difference_"),
        )  # fmt: skip
        verdict = None if whole else LESS_SENSITIVE(difference, design=design(row["targets"], config.function_rate))
        judged.append((claim, verdict))
    return harness.corrected(judged)
