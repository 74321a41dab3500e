"""Verdicts of ``experiments.length_and_sharpness`` on claims H1 to H5 of ``experiments/CLAIMS.md``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness.config import Config
from experiments.length_and_sharpness.estimates import FEWEST_LENGTHS, Results, converged
from jaxsens.statistics.correlation import rank_correlation
from jaxsens.training import many_models

FLAT = 0.25
"""The exponent of growth with length below which a quantity counts as not growing."""

PLACE = "Hahn and Rofin 2024 (arXiv 2402.09963)"


def claims(
    config: Config,
    results: Results,
    *,
    slopes: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, Any]],
) -> list[harness.Claim]:
    """Return all claims of a run, from its units and from the rows of three of its tables."""
    models = joined(results["tradeoff"])
    return [*slope_claims(slopes), *pair_claims(pairs), *tradeoff_claims(config, models), *size_claims(config, sizes)]


def joined(units: Mapping[Any, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the columns of several units, one after another."""
    several = list(units.values())
    return {name: np.concatenate([unit[name] for unit in several]) for name in several[0]}


def judged(row: Mapping[str, Any], units: int, prefix: str = "", **claim: float) -> str:
    """Return the verdict on a row's interval; ``inconclusive`` where there is none."""
    if row[f"{prefix}low"] is None:
        return "inconclusive"
    return harness.verdict((row[f"{prefix}low"], row[f"{prefix}high"]), seeds=units, **claim)


def numbers(row: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """Return a row's mean, standard error and interval as fields of a claim."""
    fields = {"measured": "mean", "standard_error": "sem", "low": "low", "high": "high"}
    return {field: row[prefix + name] for field, name in fields.items()}


def slope_claims(rows: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    """Judge that loss (H1) and sharpness (H2) grow with length for Parity and faster than for the others, which do not.

    Of the loss all models count, as the claim is that Parity is not learned; of sharpness only those that converged.
    """
    results = []
    for row in rows:
        quantity, (subject, _, reference) = row["quantity"], row["function"].partition(" - ")
        if (quantity, row["models"]) not in (("loss", "all"), ("sharpness", "converged")):
            continue
        if reference:
            published, rule, bound = "grows faster", "above 0", {"above": 0.0}
        elif subject == "parity":
            published, rule, bound = "grows with length", "above 0", {"above": 0.0}
        else:
            published, rule, bound = "does not grow with length", f"below {FLAT:g}", {"below": FLAT}
        note = f"supported if {rule}; {row['seeds']} seeds"
        if row["seeds_with_too_few"]:
            note += f"; {row['seeds_with_too_few']} seeds have fewer than {FEWEST_LENGTHS} lengths with such models"
        results.append(
            harness.Claim(
                claim={"loss": "H1", "sharpness": "H2"}[quantity], published=published, place=PLACE, note=note,
                quantity=f"slope of ln {quantity} against ln length, {row['models']} models", subject=subject,
                reference=reference, verdict=judged(row, row["seeds"], **bound), **numbers(row),
                dataset="no length" if row["first"] is None else f"strings of {row['first']} to {row['last']} bits",
            )
        )  # fmt: skip
    return results


def pair_claims(rows: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    """Judge at each length that Parity's minima are sharper than Majority's, and those than First's (H3)."""
    return [
        harness.Claim(
            claim="H3", quantity="difference of average sharpness, converged models",
            published=f"{row['sharper']} is sharper", place=PLACE, subject=row["sharper"], reference=row["flatter"],
            dataset=f"strings of {row['length']} bits", verdict=judged(row, row["pairs"], above=0.0), **numbers(row),
            note=f"{row['pairs']} pairs of one seed, both converged; {row['pairs_not_converged']} pairs are not",
        )
        for row in rows
    ]  # fmt: skip


def tradeoff_claims(config: Config, models: Mapping[str, np.ndarray]) -> list[harness.Claim]:
    """Judge that models of Parity with smaller weights have larger blow-ups (H4)."""
    kept = models["status"] != many_models.DIVERGED
    results = []
    for name, chosen in (("converged", converged(models, "parity")), ("all", kept)):
        r = rank_correlation(models["weight_norm"][chosen], models["blow_up_median"][chosen])
        mean, low, high = (None, None, None) if r is None else r
        row = {"mean": mean, "sem": None, "low": low, "high": high}
        count = f"{int(chosen.sum())} of {len(chosen)} models, {int((~kept).sum())} diverged"
        results.append(
            harness.Claim(
                claim="H4", quantity=f"rank correlation of blow-up and weight norm, {name} models",
                published="smaller weights need a larger blow-up", place=PLACE, subject="parity",
                dataset=f"strings of {config.tradeoff_length} bits", **numbers(row),
                verdict=judged(row, int(chosen.sum()), below=0.0) if name == "converged" else "",
                note=f"supported if below 0; {count}; they differ in learning rate and weight decay too",
            )
        )  # fmt: skip
    return results


def size_claims(config: Config, rows: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    """Judge that a function learned from a part of a random function's strings is less sensitive than it (H5)."""
    results = []
    for row in rows:
        if row["models"] != "fitted":
            continue
        whole = row["size"] == 2**config.function_length
        note = f"supported if below 0; {row['targets']} functions; {row['used']} of {row['trained']} models fit"
        results.append(
            harness.Claim(
                claim="H5", quantity="difference of average sensitivity (bits), models that fit their training set",
                published=None if whole else "below 0 where data are few", place=PLACE,
                subject=f"learned from {row['size']} strings", reference="target",
                dataset=f"{'given' if config.own_functions else 'random'} functions of {config.function_length} bits",
                verdict="" if whole else judged(row, row["targets"], "difference_", below=0.0),
                note="a control: these are all strings" if whole else note, **numbers(row, "difference_"),
            )
        )  # fmt: skip
    return results
