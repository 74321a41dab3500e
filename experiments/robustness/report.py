"""Output of ``experiments.robustness``: tables, claims, figures, and a table for the terminal."""

from collections.abc import Iterator
from typing import Any

from experiments import harness
from experiments.harness import cells, mean_and_interval
from experiments.images.bench import Results
from experiments.images.data import Data
from experiments.images.labels import dataset_label, model_label, split_name
from experiments.robustness import figures
from experiments.robustness.claims import claims
from experiments.robustness.config import Config
from experiments.robustness.estimates import Findings, reference_of, summarize
from experiments.robustness.quantities import quantities
from jaxsens.statistics.estimate import Estimate

__all__ = ["write"]

PAPER = (
    "the paper: CIFAR-10-C as published, 14 corruptions, severity 2 (1 in the appendix); one run of each model, plain "
    "SGD, batches of 100; the regularizer (strength 0.25, variance 1, learning rate 0.16) and Gaussian augmentation "
    "(variance 0.1, learning rate 0.2) of one ViT; no controls"
)


def write(run: harness.Run, config: Config, data: Data, results: Results) -> None:
    """Write all tables and figures of a run, and print the table of models."""
    findings = summarize(config, results)
    reference = reference_of(config, list(results))
    run.record(setting=_setting(config, data), paper=PAPER, reference=reference)
    run.table("models", list(_model_rows(config, findings)))
    run.table("treatments", list(_treatment_rows(config, findings)))
    run.table("corruptions", list(_corruption_rows(config, findings)))
    if rows := list(_difference_rows(config, findings)):
        run.table("differences", rows)
    run.table("correlations", findings.correlations)
    run.comparison(claims(config, data.name, findings))
    sample = f"{min(config.corrupted, len(data.test[1]))} test images, {config.seeds} models each"
    about = (dataset_label(data.name), sample)
    for plain in dict.fromkeys(split_name(name)[0] for name in results):
        run.figure(f"accuracies_{plain}", figures.accuracies(config, findings, plain, *about))
    run.figure("sensitivity", figures.sensitivity(findings, *about))
    print(_printed(config, data, findings, reference))


def _model_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for name, models in findings.results.items():
        plain, treatment = split_name(name)
        for seed, model in enumerate(models):
            row: dict[str, Any] = {"model": name, "architecture": plain, "treatment": treatment, "seed": seed}
            row |= {"parameters": int(model["parameters"])}
            row |= {"learning_rate": float(model["learning_rate"]) if "learning_rate" in model else None}
            row |= {"training_loss": float(model["losses"][-1]) if "losses" in model else None}
            yield row | {key: float(findings.means[name][key][seed]) for key in quantities(config)}


def _treatment_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for name, levels in findings.levels.items():
        for key, quantity in quantities(config).items():
            yield {"model": name, "quantity": key, "meaning": quantity.text} | cells(levels[key])
        texts = {
            "relative_corruption_error": "error on corrupted images relative to the reference, mean over corruptions",
            "relative_degradation": "the same, with the clean errors subtracted",
        }
        for (key, text), one in zip(texts.items(), findings.relative[name], strict=True):
            row = {"model": name, "quantity": key, "meaning": text}
            yield row | (dict.fromkeys(("mean", "sem", "low", "high")) if one is None else cells(one))


def _corruption_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for name, accuracy in findings.accuracies.items():
        low, high = accuracy.interval()
        for c, corruption in enumerate(config.corruptions):
            for s, severity in enumerate(config.severities):
                numbers = (accuracy.mean[c, s], accuracy.sem[c, s], low[c, s], high[c, s])
                row = {"model": name, "corruption": corruption, "severity": severity}
                yield row | dict(zip(("accuracy", "sem", "low", "high"), map(harness.cell, numbers), strict=True))


def _difference_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for (subject, reference), differences in findings.differences.items():
        if split_name(subject)[1] and not (split_name(reference)[1] and subject > reference):
            for key, quantity in quantities(config).items():
                row = {"subject": subject, "reference": reference, "quantity": key, "meaning": quantity.text}
                yield row | cells(differences[key])


def _setting(config: Config, data: Data) -> str:
    """Return how the numbers came about, in words, for the manifest."""
    return (
        f"{data.source}; {config.seeds} seeds, {config.optimizer}, {config.schedule} learning rate, {config.epochs} "
        f"epochs on {len(data.train[1])} images; corruptions made here with the constants of {config.constants}, on "
        f"{min(config.corrupted, len(data.test[1]))} test images; sensitivity on "
        f"{min(config.measured, len(data.train[1]))} training images with {config.draws} draws, noise variance "
        f"{config.noise:g} on patches of {config.token}; weight noise of deviation {config.deviation:g}; regularizer "
        f"of strength {config.strength:g} and variance {config.regularizer_variance:g}; augmentation of variance "
        f"{config.augmentation_variance:g}, on normalized pixels; {_rates(config)}"
    )


def _rates(config: Config) -> str:
    """Return where learning rates are from, in words."""
    if not config.learning_rates:
        return "published learning rates"
    tried = ", ".join(f"{rate:g}" for rate in config.learning_rates)
    chosen = (
        "for each architecture, trained plainly; its treatments share it" if config.shared_rate else "for each model"
    )
    more = f", and up to {config.added_rates} beyond an end that is best" if config.added_rates else ""
    return f"the best learning rate of {tried}{more}, {chosen}"


def _printed(config: Config, data: Data, findings: Findings, reference: str) -> str:
    shown = {
        "test_error": "test error", "sensitivity": "token sensitivity", "corruption_error": "corrupted",
        "relative": f"mCE / {model_label(reference)}", "prediction_sharpness": "prediction sharpness",
    }  # fmt: skip
    rows = []
    for name, levels in findings.levels.items():
        relative = findings.relative[name][0]
        row = {"model": model_label(name), "parameters": int(findings.results[name][0]["parameters"])}
        row |= {key: _shown(levels[key]) for key in shown if key in levels}
        rows.append(row | {"relative": "" if relative is None else _shown(relative)})
    heading = f"\n{dataset_label(data.name)}: mean of {config.seeds} models [95 % interval]\n\n"
    return heading + harness.format_table(rows, {"model": "model", "parameters": "parameters"} | shown)


def _shown(one: Estimate) -> tuple[float, float, float]:
    return mean_and_interval(one)
