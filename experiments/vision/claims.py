"""Verdicts of ``experiments.vision``: claims C1 to C4 on token sensitivity, and C13 on the regularizer."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from experiments.harness import Claim, corrected, verdicts
from experiments.images.config import CHANGED, CHANGES
from experiments.vision.config import Config
from experiments.vision.estimates import RELATIVE, Findings
from experiments.vision.matched import Matched

__all__ = ["LOWER", "PUBLISHED", "claims", "counterpart", "uses"]

LOWER = partial(verdicts.mean, below=0.0, effect=3.0)
"""A difference is below 0; its power is that at three standard deviations of a model."""

EQUAL = partial(verdicts.mean, within=(-math.log(2), math.log(2)), effect=3.0)
"""Odds differ by less than a factor of two."""

PUBLISHED = {
    "fashion_mnist": ("C1", {"vit": 0.0098, "mlp": 0.0559, "mlp_sigmoid": 0.0505, "cnn": 0.0453}),
    "cifar10": (
        "C2", {"vit": 0.0050, "vit_simple": 0.0014, "resnet": 0.0827, "densenet": 0.3673, "convmixer": 0.0829}
    ),
    "svhn_cropped": ("C3", {"vit": 0.0147, "resnet": 0.0516}),
    "imagenet2012": ("C4", {"vit": 0.0191, "convnext": 0.0342}),
}  # fmt: skip
"""Claim and final token sensitivities by data set (Vasudeva et al., s.5 and App. D; one run each, no error bars)."""

PUBLISHED_SHARPNESS = {"output_sharpness": "39.166 -> 9.025", "prediction_sharpness": "0.5346 -> 0.3982"}
"""Vasudeva et al., Table 2: ViT-small on CIFAR-10, plain and regularized; one run."""

TRANSFORMERS = ("vit", "vit_patch_norm", "vit_small_data", "vit_simple", "vit_imagenet")
"""The transformers that are compared with all other architectures."""

_REGULARIZED = (("vit_regularized", "vit"), ("vit_small_data_regularized", "vit_small_data"))

_OF_THE_PAPER = {"vit_simple": "vit_simple"} | dict.fromkeys(set(TRANSFORMERS) - {"vit_simple"}, "vit")
"""Transformer to its name among the published values."""


Row = tuple[Claim, verdicts.Verdict | None]
"""A row of comparison.csv, and its verdict before the verdicts of the claim are corrected together."""


def claims(
    dataset: str, findings: Findings, matched: Mapping[tuple[str, str, str], Matched] | None = None
) -> list[Claim]:
    """Return the rows of comparison.csv: a verdict where the paper has both sides of a comparison.

    Differences are judged by `verdicts.mean`, frequencies on the logit scale; Holm's correction is for each claim.

    Args:
        dataset: Name of the data set.
        findings: Estimates of the run.
        matched: Comparisons at equal accuracy, if there are any.
    """
    compared = [*_comparisons(dataset, findings)]
    for pair in _REGULARIZED:
        if pair in findings.differences:
            compared += _flatness(dataset, findings, pair)
    compared += _changes(dataset, findings)
    compared += _at_equal_accuracy(dataset, findings, matched or {})
    return [*_levels(dataset, findings), *corrected(compared)]


def uses(config: Config) -> dict[str, verdicts.Use]:
    """Return the rules that claims are judged by, with their units at these settings."""
    design = verdicts.Design.at_best(config.seeds, config.learning_rates)
    judged = partial(LOWER, models=(config.seeds, config.seeds))
    equal = partial(EQUAL, models=(config.seeds, config.seeds))
    references = max(len(_references(published)) for _, published in PUBLISHED.values())
    compared, changed = len(TRANSFORMERS) * references, len(CHANGED) * len(CHANGES) * (references + 1)
    return {
        "C1": verdicts.Use(judged, config.seeds, design, together=compared),
        "C15": verdicts.Use(judged, config.seeds, design, together=changed),
        "C15, no difference": verdicts.Use(equal, config.seeds, design, together=changed),
        "C1, equal accuracy": verdicts.Use(LOWER, config.seeds, design, together=compared),
        "C4, of given models": verdicts.Use(LOWER, config.measured, verdicts.NOT_TRAINED),
        "C13": verdicts.Use(judged, config.seeds, design, together=len(_REGULARIZED) * (len(PUBLISHED_SHARPNESS) + 1)),
    }


def _references(names: Iterable[str]) -> list[str]:
    """Return the models among some that are no transformers."""
    return [name for name in names if not name.startswith("vit")]


def _levels(dataset: str, findings: Findings) -> Iterator[Claim]:
    claim, published = PUBLISHED.get(dataset, ("", {}))
    for name, summary in findings.summaries.items():
        yield Claim.of(
            claim, "token sensitivity", summary.estimates["sensitivity"], subject=name, dataset=dataset,
            published=published.get(counterpart(name)), place="Vasudeva et al., s.5",
            note=_model(findings, name),
        )  # fmt: skip


def _comparisons(dataset: str, findings: Findings) -> Iterator[Row]:
    """Compare transformers with all others: a verdict where the paper has both."""
    claim, published = PUBLISHED.get(dataset, ("", {}))
    for subject in (name for name in findings.summaries if name in TRANSFORMERS):
        for reference in _references(findings.summaries):
            claimed = {counterpart(subject), reference} <= set(published)
            yield _difference(
                findings, claim if claimed else "", "sensitivity", subject, reference, dataset,
                "transformer lower" if claimed else "no such comparison", "Vasudeva et al., s.5",
            )  # fmt: skip


def _changes(dataset: str, findings: Findings) -> Iterator[Row]:
    """Judge C15: a transformer of another depth, number of heads or optimizer is less sensitive, and as much so."""
    _, published = PUBLISHED.get(dataset, ("", {}))
    place = "Vasudeva et al., App."
    for plain in CHANGED:
        for changed in (f"{plain}_{change}" for change in CHANGES):
            if changed not in findings.summaries:
                continue
            for reference in _references(findings.summaries):
                claimed = {counterpart(plain), reference} <= set(published)
                yield _difference(
                    findings, "C15" if claimed else "", "sensitivity", changed, reference, dataset,
                    "transformer lower" if claimed else "no such comparison", place,
                )  # fmt: skip
            if plain in findings.summaries:
                yield _difference(
                    findings, "C15", "sensitivity", changed, plain, dataset, "no effect", place, rule=EQUAL
                )


def _at_equal_accuracy(
    dataset: str, findings: Findings, matched: Mapping[tuple[str, str, str], Matched]
) -> Iterator[Row]:
    """Judge the comparisons of the paper at equal accuracy: seeds are the units."""
    claim, published = PUBLISHED.get(dataset, ("", {}))
    for (images, subject, reference), pair in matched.items():
        if subject not in TRANSFORMERS or not _references([reference]):
            continue
        claimed = {counterpart(subject), reference} <= set(published)
        kind = "training" if images == "train" else "test"
        row = Claim.of(
            f"{claim}, equal {kind} accuracy" if claimed else "",
            f"token sensitivity at equal {kind} accuracy, difference of logits", pair.logits, subject=subject,
            reference=reference, dataset=dataset, place="Vasudeva et al., control, not in the paper",
            note=f"mean accuracy {pair.accuracies.mean():.3f}; sensitivities {pair.subject.mean:.4g}, "
            f"{pair.reference.mean:.4g}",
        )  # fmt: skip
        design = _design(findings, (subject, reference))
        yield row, LOWER(pair.logits, design=design) if claimed else None


def _flatness(dataset: str, findings: Findings, pair: tuple[str, str]) -> Iterator[Row]:
    """Judge C13: regularized minus plain, as it is, and with the size of the function divided out."""
    for quantity, published in PUBLISHED_SHARPNESS.items():
        place = "Vasudeva et al., s.7.2, Table 2"
        yield _difference(findings, "C13", quantity, *pair, dataset, published, place)
    place = "Vasudeva et al., control, not in the paper"
    yield _difference(findings, "C13", RELATIVE, *pair, dataset, None, place)


_WORDS = {
    "sensitivity": "token sensitivity",
    "output_sharpness": "output sharpness",
    "prediction_sharpness": "prediction sharpness",
    RELATIVE: "output sharpness / sum of |centered logits|",
}


def _difference(
    findings: Findings,
    claim: str,
    quantity: str,
    subject: str,
    reference: str,
    dataset: str,
    published: str | None,
    place: str,
    rule: Callable[..., verdicts.Verdict] = LOWER,
) -> Row:
    """Return the row of a difference, of logits where it is one of frequencies; by default, that it is below 0."""
    compared = {name: findings.summaries[name] for name in (subject, reference)}
    notes = (f"{name}: {_model(findings, name)}" for name in compared)
    logits = findings.logits[subject, reference].get(quantity)
    paired = findings.differences[subject, reference][quantity] if logits is None else logits
    row = Claim.of(
        claim, f"{_WORDS[quantity]}, difference{'' if logits is None else ' of logits'}", paired, subject=subject,
        reference=reference, dataset=dataset, published=published, place=place, note="; ".join(notes),
    )  # fmt: skip
    if not claim:
        return row, None
    counts = tuple(len(summary.models) for summary in compared.values())
    return row, rule(paired, design=_design(findings, (subject, reference)), models=counts)


def _design(findings: Findings, names: tuple[str, str]) -> verdicts.Design:
    """Return how two architectures were trained."""
    compared = {name: findings.summaries[name] for name in names}
    best = {name: one.learning_rate for name, one in compared.items() if one.learning_rate is not None}
    fewest = min(len(one.models) for one in compared.values())
    return verdicts.Design(fewest, {name: compared[name].rates_tried for name in best}, best)


def _model(findings: Findings, name: str) -> str:
    """Describe a model: its size, learning rate and accuracy."""
    summary = findings.summaries[name]
    rate = summary.learning_rate
    rates = summary.rates_tried
    edge = len(rates) > 1 and rate in (min(rates), max(rates))
    chosen = "given trained" if rate is None else f"learning rate {rate:g}" + (" (edge of the grid)" if edge else "")
    accuracy = summary.estimates["test_accuracy"].mean
    return f"{summary.parameters} parameters, {chosen}, test accuracy {accuracy:.3f}"


def counterpart(name: str) -> str:
    """Return the name under which the paper has an architecture."""
    return _OF_THE_PAPER.get(name, name)
