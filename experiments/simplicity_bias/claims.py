"""Verdicts of ``experiments.simplicity_bias`` on claims B1 to B3 of ``experiments/CLAIMS.md``."""

from collections.abc import Mapping
from typing import Any

from experiments import harness
from experiments.simplicity_bias.config import KINDS, Config
from experiments.simplicity_bias.estimates import Group, Results, cells, converged, label_estimates, of_sets
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

PUBLISHED = {"transformer": 0.16, "lstm": 0.27}
"""Normalized sensitivity at convergence on random labels, read off the figure in the readme of the paper's code."""

PAPER = "Bhattamishra et al. 2023 (arXiv 2211.12316)"
PARITIES = f"{PAPER}, sparse parities with label noise"
LABELS = f"{PAPER}, random labels; figure in the readme of its code"

NEAR = 0.05
"""How far from a published sensitivity counts as near."""

GENERAL = 0.95
"""Accuracy on clean strings above which a model counts as generalizing."""

GAP = 0.05
"""How much better on the training labels than on fresh ones counts as overfitting."""

SAME = 0.02
"""How far from 1 - noise a training accuracy may be to count as equal."""

GAP_QUANTITY = "accuracy on the training labels minus that on fresh ones"


def claims(config: Config, results: Results, groups: Mapping[tuple, Group]) -> list[harness.Claim]:
    """Return all claims of a run; ``groups`` are those of the chosen learning rates by kind, count and noise."""
    return [*parity_claims(config, groups), *label_claims(config, results)]


def parity_claims(config: Config, groups: Mapping[tuple, Group]) -> list[harness.Claim]:
    """Judge generalization of transformers (B1) and overfitting of LSTMs (B2), at the chosen learning rates."""
    return [
        claim
        for count in config.counts
        for noise in config.noises
        for claim in _level_claims(config, count, noise, {kind: groups[kind, count, noise] for kind in KINDS})
    ]


def _level_claims(config: Config, count: int, noise: float, pair: Mapping[str, Group]) -> list[harness.Claim]:
    final = {kind: group.final() for kind, group in pair.items()}
    unfitted = pair["transformer"].unfitted
    common = {
        "place": PARITIES,
        "dataset": f"parity of {config.relevant} of {config.length} bits, {count} strings, label noise {noise:g}",
        "note": "learning rates " + ", ".join(
            f"{kind} {group.rate:g}" + (f" ({group.diverged} diverged)" if group.diverged else "")
            for kind, group in pair.items()
        ),
    }  # fmt: skip
    if (config.length, config.relevant, count) == (40, 4, 1_000):
        first = [
            _claim(
                "B1", GAP_QUANTITY, final["transformer"]["overfitting"], "1,000 strings overfit", above=GAP,
                subject="transformer", **common,
            )
        ]  # fmt: skip
    else:
        first = [
            _claim(
                "B1", "accuracy on clean test strings", final["transformer"]["test_accuracy"], "tends to 1",
                unfitted=unfitted, above=GENERAL, subject="transformer", **common,
            ),
            _claim(
                "B1", "accuracy on the training labels", final["transformer"]["training_accuracy"], 1 - noise,
                unfitted=unfitted, within=(1 - noise - SAME, 1 - noise + SAME), subject="transformer", **common,
            ),
        ]  # fmt: skip
    paired = {"subject": "transformer", "reference": "lstm"} | common
    paired["note"] += "; paired by seed"
    accuracy = estimate.from_values(pair["transformer"].test_accuracy - pair["lstm"].test_accuracy, rate=False)
    last = [pair[kind].curves["sensitivity"][:, -1] for kind in KINDS]
    sensitivity = estimate.from_values(last[0] - last[1], rate=False)
    return [
        *first,
        _claim("B2", GAP_QUANTITY, final["lstm"]["overfitting"], "overfits", above=GAP, subject="lstm", **common),
        _claim(
            "B2", "difference of accuracy on clean test strings", accuracy, "transformers generalize, LSTMs overfit",
            above=0.0, **paired,
        ),
        _claim(
            "", "difference of normalized sensitivity after training", sensitivity, None,
            **paired | {"note": f"{paired['note']}; the parity's is {config.relevant / config.length:g}"},
        ),
    ]  # fmt: skip


def label_claims(config: Config, results: Results) -> list[harness.Claim]:
    """Judge the sensitivities of the models that made no error on their random labels (B3)."""
    sets = {kind: of_sets(config, results, kind) for kind in KINDS}
    both = sorted(set(sets["transformer"]) & set(sets["lstm"]))
    counts = {kind: converged(results, kind) for kind in KINDS}
    reached = ", ".join(f"{count} of {total} {kind}s converged" for kind, (count, total) in counts.items())
    paired = [sets["transformer"][dataset][1] - sets["lstm"][dataset][1] for dataset in both]
    common = {
        "place": LABELS,
        "dataset": f"{'given' if config.own_labels else 'random'} labels of {config.label_strings} strings of "
        f"{config.label_length} bits",
    }
    results_of = [
        _claim(
            "B3", "difference of normalized sensitivity at convergence",
            estimate.from_values(paired, rate=False) if both else None,
            round(PUBLISHED["transformer"] - PUBLISHED["lstm"], 2), below=0.0, subject="transformer", reference="lstm",
            note=f"{reached}; paired by data set, {len(both)} of {config.label_sets} with both", **common,
        )
    ]  # fmt: skip
    for kind in KINDS:
        published, (count, total) = PUBLISHED[kind], counts[kind]
        results_of.append(
            _claim(
                "B3", "normalized sensitivity at convergence", label_estimates(config, results, kind).get("trained"),
                published, within=(published - NEAR, published + NEAR), subject=kind,
                note=f"{count} of {total} converged; {len(sets[kind])} data sets", **common,
            )
        )  # fmt: skip
        low, high = estimate.clopper_pearson(count, total)
        results_of.append(
            harness.Claim(
                claim="", quantity="share of models that reach zero training error", published=None, subject=kind,
                measured=count / total, low=float(low), high=float(high),
                note=f"{count} of {total} in {config.label_epochs} epochs", **common,
            )
        )  # fmt: skip
    return results_of


def _claim(
    claim: str,
    quantity: str,
    mean: Estimate | None,
    published: float | str | None,
    *,
    note: str,
    unfitted: int = 0,
    above: float | None = None,
    below: float | None = None,
    within: tuple[float, float] | None = None,
    **columns: Any,
) -> harness.Claim:
    """Return a claim about an estimate over independent models or data sets; inconclusive without an estimate.

    It is not contradicted by models that are ``unfitted`` when the steps run out.
    """
    limits = {"above": above, "below": below, "within": within}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    row = dict.fromkeys(("mean", "sem", "low", "high")) if mean is None else cells(mean, bounds=(-1, 1))
    verdict = "inconclusive" if limits else ""
    if limits and row["low"] is not None and row["high"] is not None:
        verdict = harness.verdict((row["low"], row["high"]), seeds=mean.count, **limits)
    if limits:
        note += "; supported if " + (
            f"above {above:g}" if above is not None
            else f"below {below:g}" if below is not None
            else f"between {within[0]:g} and {within[1]:g}"
        )  # fmt: skip
    if unfitted:
        verdict = "inconclusive" if verdict == "contradicted" else verdict
        note += f"; {unfitted} of them did not begin to learn within the steps"
    return harness.Claim(
        claim=claim, quantity=quantity, published=published, measured=row["mean"], standard_error=row["sem"],
        low=row["low"], high=row["high"], verdict=verdict, note=note, **columns,
    )  # fmt: skip
