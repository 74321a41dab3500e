"""What ``experiments.flatness`` says of its results: tables, figures, and verdicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import harness
from experiments.flatness.claims import (
    SCOPES,
    Results,
    claims,
    correlations,
    difference,
    level,
    levels,
    measures,
    values,
)
from experiments.flatness.config import Config
from experiments.flatness.figures import treated_pairs
from experiments.harness import mean_and_interval
from experiments.images.config import REGULARISED, Data
from jaxsens import curvature, plots
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate

NAMES = {"vit_dropout": "ViT", "vit": "ViT", "mlp": "MLP", "cnn": "CNN", "convmixer": "ConvMixer"}
DRAWN = {"all": "over all models, treatments as units", "treatment": "between seeds of a treatment"}
_SQUARED = "weight$^2$"
SHOWN = {
    "test_error": "test error", "sensitivity": "token sensitivity", "trace": "trace",
    "top_eigenvalue": "top eigenvalue",
}  # fmt: skip


def write(run: harness.Run, config: Config, data: Data, results: Results) -> None:
    """Write all tables and figures of a run, and print the tables of treatments and of correlations."""
    known = levels(config)
    table = {name: {q: level(found, q, m.rate) for q, m in known.items()} for name, found in results.items()}
    run.table("models", [row for name, found in results.items() for row in _model_rows(name, found, known)])
    run.table(
        "treatments", [_long_row(name, q, known[q].text, e) for name, own in table.items() for q, e in own.items()]
    )
    run.table("differences", _difference_rows(config, results))
    rows = correlations(config, results)
    run.table("correlations", rows)
    run.table("spectra", [row for name, found in results.items() for row in _spectrum_rows(name, found)])
    run.comparison(claims(config, results, rows, _setting(config, data)))
    _figures(run, config, data, results, table, rows)
    print(_printed(config, results, table, rows))


def _model_rows(name: str, found: list[Mapping[str, Any]], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for seed, model in enumerate(found):
        row: dict[str, Any] = {"treatment": name, "seed": seed, "parameters": int(model["parameters"])}
        row |= {"learning_rate": float(model["learning_rate"]), "training_loss": float(model["losses"][-1])}
        row |= {quantity: float(values([model], quantity).mean()) for quantity in known}
        rows.append(row | {"top_residual": float(model["top_residual"]), "top_converged": bool(model["top_converged"])})
    return rows


def _long_row(name: str, quantity: str, text: str, found: Estimate) -> dict[str, Any]:
    return {"treatment": name, "quantity": quantity, "meaning": text} | harness.cells(found)


def _difference_rows(config: Config, results: Results) -> list[dict[str, Any]]:
    return [
        _long_row(f"{name + REGULARISED} minus {name}", quantity, measure.text,
                  difference(results, name + REGULARISED, name, quantity, measure.rate))
        for name in config.architectures
        for quantity, measure in levels(config).items()
    ]  # fmt: skip


def _spectrum_rows(name: str, found: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"treatment": name, "seed": seed, "probe": probe, "eigenvalue": float(atom), "weight": float(weight)}
        for seed, model in enumerate(found)
        for probe, (atoms, weights) in enumerate(zip(model["atoms"], model["atom_weights"], strict=True))
        for atom, weight in zip(atoms, weights, strict=True)
    ]


def _setting(config: Config, data: Data) -> str:
    """Return how the numbers came about, in words."""
    return (
        f"{data.source}; {config.seeds} seeds, {config.optimiser}, {config.schedule} learning rate, {config.epochs} "
        f"epochs on {len(data.train[1])} images, {min(config.measured, len(data.train[1]))} of them measured; noise "
        f"variance {config.noise:g} on patches of {config.token}, {config.draws} draws; {config.sharpness_draws} draws "
        f"of the weights; accuracies are not matched"
    )


def _named(treatment: str) -> str:
    plain = treatment.removesuffix(REGULARISED)
    return NAMES.get(plain, plain) + (", regularised" if plain != treatment else "")


def _figures(
    run: harness.Run,
    config: Config,
    data: Data,
    results: Results,
    table: Mapping[str, Mapping[str, Estimate]],
    rows: list[dict[str, Any]],
) -> None:
    images = f"{min(config.measured, len(data.train[1]))} training images"
    titles = {"dataset": config.dataset, "sample": f"{images}, {config.seeds} models each"}
    first, last = (f"{config.deviations[i]:g}" for i in (0, -1))
    panels = {
        f"output_gaussian_{first}": f"output sharpness\n(sum over logits, noise {first})",
        f"prediction_gaussian_{last}": f"prediction sharpness\n(fraction changed, noise {last})",
        "loss_by_element": f"average adaptive sharpness\n(nats, noise {config.relative_deviation:g} of each weight)",
        "worst_l2": f"worst-case sharpness\n(nats, l2 ball of {config.radius:g})",
        "trace": f"trace of the Hessian\n(nats / {_SQUARED})",
        "top_eigenvalue": f"top eigenvalue of the Hessian\n(nats / {_SQUARED})",
    }
    pairs = {name: (name, name + REGULARISED) for name in config.architectures}
    run.figure(
        "sensitivity",
        treated_pairs(
            {
                text: {
                    _named(name): tuple(
                        (*mean_and_interval(table[one][quantity]), *mean_and_interval(table[one]["sensitivity"])) for one in pair
                    )
                    for name, pair in pairs.items()
                }
                for quantity, text in panels.items()
            },
            seeds={
                text: {
                    _named(name): tuple(
                        tuple(values(results[one], q).mean(1) for q in (quantity, "sensitivity")) for one in pair
                    )
                    for name, pair in pairs.items()
                }
                for quantity, text in panels.items()
            },
            y="token sensitivity\n(fraction of predictions changed)", treatment="regularised",
            heading="Token sensitivity against sharpness", **titles,
        ),
    )  # fmt: skip
    run.figure(
        "densities",
        plots.spectral_densities(
            {_named(name): _densities(results, pair) for name, pair in pairs.items()},
            quantity=f"eigenvalue of the Hessian (nats / {_SQUARED})", heading="Spectral density of the Hessian",
            smallest=1e-6, **titles,
        ),
    )  # fmt: skip
    panels = {
        words: {
            row["with"].replace("_", " "): (row["r"], row["low"], row["high"])
            for row in rows
            if row["scope"] == scope and row["of"] == "sensitivity" and row["low"] is not None
        }
        for scope, words in DRAWN.items()
    }
    if shown := {words: group for words, group in panels.items() if group}:
        run.figure(
            "correlations",
            plots.dots(
                shown, quantity="Spearman's rank correlation",
                heading="Token sensitivity with sharpness and test error, over models", **titles,
            ),
        )  # fmt: skip


def _densities(results: Results, pair: tuple[str, str]) -> dict[str, tuple[np.ndarray, ...]]:
    """Return densities on a grid that plain and regularised models share, smoothed alike; models are the units."""
    atoms = np.concatenate([np.ravel(model["atoms"]) for name in pair for model in results[name]])
    width = max(np.ptp(atoms) / 150, 1e-6)
    grid = np.linspace(atoms.min() - 4 * width, atoms.max() + 4 * width, 1200)
    found = {}
    for name in pair:
        curves = [
            curvature.smoothed(model["atoms"], model["atom_weights"], grid, width).mean for model in results[name]
        ]
        over = estimate.from_values(np.stack(curves), rate=False)
        low, high = over.interval()
        known = np.isfinite(low) & np.isfinite(high)
        low, high = (np.where(known, end, over.mean) for end in (low, high))
        found["regularised" if name == pair[1] else "plain"] = (grid, over.mean, np.maximum(low, 0), high)
    return found


def _printed(
    config: Config, results: Results, table: Mapping[str, Mapping[str, Estimate]], rows: list[dict[str, Any]]
) -> str:
    shown = SHOWN | {
        f"{what}_gaussian_{d:g}": f"{what} {d:g}" for d in config.deviations for what in ("output", "prediction")
    }
    treatments = [
        {"treatment": name, "parameters": int(results[name][0]["parameters"])}
        | {q: mean_and_interval(own[q]) for q in shown}
        for name, own in table.items()
    ]
    correlated = [
        {"with": name}
        | {
            row["scope"]: (row["r"], row["low"], row["high"])
            for row in rows
            if row["of"] == "sensitivity" and row["with"] == name and row["low"] is not None
        }
        for name in ("test_error", "scale", *measures(config))
    ]
    full = [{scope: "" for scope in SCOPES} | row for row in correlated]
    return (
        f"\n{config.dataset}: mean of {config.seeds} models [95 % interval]\n\n"
        + harness.format_table(treatments, {"treatment": "treatment", "parameters": "parameters"} | shown)
        + "\n\nrank correlation of token sensitivity with ... [95 % interval]\n\n"
        + harness.format_table(full, {"with": "with"} | SCOPES)
    )
