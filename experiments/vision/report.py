"""Output of ``experiments.vision``: tables, claims, figures, and a table for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import cells, mean_and_interval
from experiments.images.bench import Results
from experiments.images.config import PAPER
from experiments.images.data import Data
from experiments.images.labels import dataset_label, model_label
from experiments.vision import figures
from experiments.vision.claims import claims
from experiments.vision.conditions import Condition, conditions, levels
from experiments.vision.config import Config
from experiments.vision.estimates import QUANTITIES, Findings, summarize
from experiments.vision.matched import Matched, compare
from jaxsens.statistics.estimate import Estimate

__all__ = ["write"]


def write(run: harness.Run, config: Config, data: Data, results: Results) -> None:
    """Write all tables and figures of a run, and print the table of architectures."""
    findings = summarize(config, results)
    run.record(setting=_setting(config, data, findings), paper=PAPER, regularizer=_regularizer(config))
    run.table("models", list(_model_rows(findings)))
    run.table("architectures", list(_architecture_rows(findings)))
    if rows := list(_training_rows(findings)):
        run.table("training", rows)
    if len(results) > 1:
        run.table("differences", list(_difference_rows(findings)))
    matched = compare(results, data.train[0].shape[1]) if config.matched else {}
    if rows := list(_matched_rows(matched)):
        run.table("matched", rows)
    if conditions(config):
        by_condition = levels(config, results)
        run.table("conditions", list(_condition_rows(by_condition)))
        for name, figure in figures.conditions(config, data, findings, by_condition).items():
            run.figure(name, figure)
    run.comparison(claims(data.name, findings, matched))
    for draw in (figures.training, figures.sensitivity, figures.sharpness):
        if (figure := draw(config, data, findings)) is not None:
            run.figure(draw.__name__, figure)
    run.figure("map", figures.token_map(config, data, findings))
    print(_printed(config, data, findings))


def _model_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for name, summary in findings.summaries.items():
        for seed, model in enumerate(summary.models):
            row = {"architecture": name, "seed": seed, "parameters": summary.parameters}
            row |= {"learning_rate": summary.learning_rate, "training_loss": model.training_loss}
            yield row | _all_cells(model.estimates) | {"logit_scale": model.logit_scale}


def _architecture_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for name, summary in findings.summaries.items():
        row = {"architecture": name, "parameters": summary.parameters, "models": len(summary.models)}
        yield row | {"learning_rate": summary.learning_rate} | _all_cells(summary.estimates)


def _training_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    for name, summary in findings.summaries.items():
        for i, epoch in enumerate(summary.epochs):
            points = {what: curve[i] for what, curve in summary.curves.items()}
            yield {"architecture": name, "epoch": epoch} | _all_cells(points)


def _difference_rows(findings: Findings) -> Iterator[dict[str, Any]]:
    names = list(findings.summaries)
    for i, subject in enumerate(names):
        for reference in names[i + 1 :]:
            paired = findings.differences[subject, reference]
            for quantity in (quantity for quantity in QUANTITIES if quantity in paired):
                row = {"subject": subject, "reference": reference, "quantity": quantity}
                yield row | cells(paired[quantity], "difference_")


def _matched_rows(matched: Mapping[tuple[str, str, str], Matched]) -> Iterator[dict[str, Any]]:
    for (images, subject, reference), pair in matched.items():
        if subject < reference:
            row = {"equal_accuracy_on": images, "subject": subject, "reference": reference}
            row |= {"accuracy": float(pair.accuracies.mean())} | cells(pair.subject, "subject_")
            yield row | cells(pair.reference, "reference_") | cells(pair.logits, "difference_of_logits_")


def _condition_rows(by_condition: Mapping[str, Mapping[Condition, Estimate]]) -> Iterator[dict[str, Any]]:
    for name, sensitivities in by_condition.items():
        for condition, sensitivity in sensitivities.items():
            row = {"architecture": name, "images": condition.images, "variance": condition.variance}
            yield row | {"square": condition.square or "whole image"} | cells(sensitivity, "sensitivity_")


def _all_cells(estimates: dict[str, Estimate]) -> dict[str, float | None]:
    return {column: cell for name, one in estimates.items() for column, cell in cells(one, f"{name}_").items()}


def _setting(config: Config, data: Data, findings: Findings) -> str:
    """Return how the numbers came about, in words, for the manifest."""
    return (
        f"{data.source}; {config.seeds} seeds, {config.optimizer}, {config.schedule} learning rate, {config.epochs} "
        f"epochs on {len(data.train[1])} images, {findings.images} of them measured with {config.draws} draws, noise "
        f"variance {config.noise:g} on patches of {config.token}; weight noise of deviation {config.deviation:g}, "
        f"evaluation mode; accuracies are {'matched in matched.csv' if config.matched else 'not matched'}"
    )


def _regularizer(config: Config) -> str:
    return (
        f"strength 0.25, noise variance {config.noise:g}; the paper: CIFAR-10, one model, weight noise of deviation "
        "0.005, regularizer's variance 1"
    )


def _printed(config: Config, data: Data, findings: Findings) -> str:
    headings = {
        "architecture": "architecture", "parameters": "parameters", "learning_rate": "rate",
        "test_accuracy": "test accuracy", "sensitivity": "token sensitivity",
        "output_sharpness": "output sharpness", "prediction_sharpness": "prediction sharpness",
    }  # fmt: skip
    rows = [
        {"architecture": model_label(name), "parameters": summary.parameters, "learning_rate": summary.learning_rate}
        | {quantity: _shown(one) for quantity, one in summary.estimates.items()}
        for name, summary in findings.summaries.items()
    ]
    heading = f"\n{dataset_label(data.name)}: mean of {config.seeds} models [95 % interval]\n\n"
    return heading + harness.format_table(rows, headings)


def _shown(one: Estimate) -> tuple[float, float, float] | float:
    """Return mean and interval for a terminal, or only the mean where a single model leaves the interval open."""
    return mean_and_interval(one) if np.isfinite(one.sem) else float(one.mean)
