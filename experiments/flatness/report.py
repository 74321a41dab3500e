"""Output of ``experiments.flatness``: tables, claims, figures, and two tables for the terminal."""

from collections.abc import Iterator
from typing import Any

from experiments import harness
from experiments.flatness import figures
from experiments.flatness.claims import claims
from experiments.flatness.config import Config
from experiments.flatness.estimates import SCOPES, Findings, summarize, values
from experiments.flatness.quantities import all_quantities, sharpness_measures
from experiments.harness import cells, mean_and_interval
from experiments.images.bench import Results
from experiments.images.data import Data
from experiments.images.labels import dataset_label, model_label

__all__ = ["write"]

PAPER = (
    "the paper: a ViT on CIFAR-10, one model, no error bars, deviation 0.005 (0.05 is the default of its code), noisy "
    "copies in training mode"
)


def write(run: harness.Run, config: Config, data: Data, results: Results) -> None:
    """Write all tables and figures of a run, and print the tables of treatments and of correlations."""
    findings = summarize(config, results, data.train[0].shape[1])
    run.record(setting=_setting(config, data), paper=PAPER, intervals=_intervals(config))
    run.table("models", list(_model_rows(config, results)))
    run.table("treatments", list(_treatment_rows(config, findings)))
    run.table("differences", list(_difference_rows(config, findings)))
    run.table("correlations", findings.correlations)
    run.table("spectra", list(_spectrum_rows(results)))
    run.comparison(claims(config, data.name, findings))
    sample = f"{min(config.measured, len(data.train[1]))} training images, {config.seeds} models each"
    about = (dataset_label(data.name), sample)
    run.figure("sensitivity", figures.sensitivity(config, findings, *about))
    run.figure("densities", figures.densities(findings, *about))
    if (drawn := figures.correlations(config, findings, *about)) is not None:
        run.figure("correlations", drawn)
    print(_printed(config, data, findings))


def _model_rows(config: Config, results: Results) -> Iterator[dict[str, Any]]:
    for treatment, models in results.items():
        for seed, model in enumerate(models):
            row: dict[str, Any] = {"treatment": treatment, "seed": seed, "parameters": int(model["parameters"])}
            row |= {"learning_rate": float(model["learning_rate"]), "training_loss": float(model["losses"][-1])}
            row |= {name: float(values([model], name).mean()) for name in all_quantities(config)}
            yield row | {"top_residual": float(model["top_residual"]), "top_converged": bool(model["top_converged"])}


def _treatment_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for treatment, levels in findings.levels.items():
        for name, quantity in all_quantities(config).items():
            yield {"treatment": treatment, "quantity": name, "meaning": quantity.text} | cells(levels[name])


def _difference_rows(config: Config, findings: Findings) -> Iterator[dict[str, Any]]:
    for architecture, (plain, regularized) in findings.pairs.items():
        for name, quantity in all_quantities(config).items():
            row = {"subject": regularized, "reference": plain, "quantity": name, "meaning": quantity.text}
            yield row | cells(findings.differences[architecture][name])


def _spectrum_rows(results: Results) -> Iterator[dict[str, Any]]:
    for treatment, models in results.items():
        for seed, model in enumerate(models):
            for probe, (atoms, weights) in enumerate(zip(model["atoms"], model["atom_weights"], strict=True)):
                for atom, weight in zip(atoms, weights, strict=True):
                    row = {"treatment": treatment, "seed": seed, "probe": probe}
                    yield row | {"eigenvalue": float(atom), "weight": float(weight)}


def _setting(config: Config, data: Data) -> str:
    """Return how the numbers came about, in words, for the manifest."""
    return (
        f"{data.source}; {config.seeds} seeds, {config.optimizer}, {config.schedule} learning rate, {config.epochs} "
        f"epochs on {len(data.train[1])} images, {min(config.measured, len(data.train[1]))} of them measured; noise "
        f"variance {config.noise:g} on patches of {config.token}, {config.draws} draws; {config.sharpness_draws} draws "
        f"of the weights; training mode with batches of {config.group} images; accuracies are not matched"
    )


def _intervals(config: Config) -> str:
    return (
        "seeds of a treatment are one unit of a rank correlation, except where seeds are compared with each other; its "
        f"intervals are not corrected for the number of measures: of {len(sharpness_measures(config))} one or two "
        "exclude 0 by chance; verdicts are corrected"
    )


def _printed(config: Config, data: Data, findings: Findings) -> str:
    shown = {
        "test_error": "test error", "sensitivity": "token sensitivity", "trace": "trace",
        "top_eigenvalue": "top eigenvalue",
    }  # fmt: skip
    shown |= {f"{what}_gaussian_{d:g}": f"{what} {d:g}" for d in config.deviations for what in ("output", "prediction")}
    treatments = [
        {"treatment": model_label(name), "parameters": int(findings.results[name][0]["parameters"])}
        | {key: mean_and_interval(levels[key]) for key in shown}
        for name, levels in findings.levels.items()
    ]
    quantities, correlated = all_quantities(config), {}
    for row in findings.correlations:
        if row["quantity"] == "sensitivity":
            name, cell = row["correlated_with"], (row["r"], row["low"], row["high"])
            of_name = correlated.setdefault(name, {"with": quantities[name].label})
            of_name[row["scope"]] = "" if row["low"] is None else cell
    return (
        f"\n{dataset_label(data.name)}: mean of {config.seeds} models [95 % interval]\n\n"
        + harness.format_table(treatments, {"treatment": "treatment", "parameters": "parameters"} | shown)
        + "\n\nrank correlation of token sensitivity with ... [95 % interval]\n\n"
        + harness.format_table(list(correlated.values()), {"with": "with"} | SCOPES)
    )
