"""What ``experiments.vision`` says of its results: tables, figures, and verdicts on the paper's claims."""

from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import mean_and_interval
from experiments.harness.reporting import below_zero
from experiments.images.config import Data
from experiments.vision.config import Config
from jaxsens import plots
from jaxsens.data import patches
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

Results = dict[str, list[dict[str, Array]]]
"""Architecture to the results of its models, one for each seed."""

PUBLISHED = {
    "fashion_mnist": ("C1", {"vit": 0.0098, "mlp": 0.0559, "mlp_sigmoid": 0.0505, "cnn": 0.0453}),
    "cifar10": ("C2", {"vit": 0.0050, "convmixer": 0.0829}),
    "svhn_cropped": ("C3", {"vit": 0.0147}),
    "imagenet2012": ("C4", {"vit": 0.0191}),
}
"""Claim and final token sensitivities by data set (Vasudeva et al., s.5 and App. D; one run each, no error bars)."""

PAPER = (
    "the paper: plain SGD, batches of 100, a learning rate for each architecture (ViT .1 or .2, MLP .1, sigmoid .5, "
    "CNN .005, ConvMixer .06), all training images, epochs not stated (50 in its code), 5 draws on about 30 % of the "
    "training images, one run; its ViTs normalise the pixels of a patch (vit_patch_norm does, vit does not) and use "
    "shifted patch tokenisation, a class token and dropout"
)
"""What the set-up is to be compared with, beside every number."""

SHARPNESS_PUBLISHED = {"output_sharpness": "39.166 -> 9.025", "prediction_sharpness": ".5346 -> .3982"}
"""Vasudeva et al., Table 2: ViT-small on CIFAR-10, plain and regularised; one run."""

QUANTITIES = {
    "test_accuracy": ("test_correct", True),
    "sensitivity": ("sensitivity", True),
    "output_sharpness": ("output_sharpness", False),
    "prediction_sharpness": ("prediction_sharpness", True),
}
"""Quantity to the key of its values, and whether they are rates."""


def write(run: harness.Run, config: Config, data: Data, results: Results) -> None:
    """Write all tables and figures of a run, and print the table of architectures."""
    table = {name: {q: overall(found, q) for q in QUANTITIES} for name, found in results.items()}
    run.table("models", [row for name, found in results.items() for row in _model_rows(name, found)])
    run.table("architectures", [_architecture_row(name, results[name], table[name]) for name in results])
    run.table("training", [row for name, found in results.items() for row in _training_rows(name, found)])
    if len(results) > 1:
        run.table("differences", _difference_rows(results))
    run.comparison(_claims(config, data, results, table))
    _figures(run, config, data, results, table)
    print(_printed(config, results, table))


def values(found: list[dict[str, Array]], quantity: str) -> np.ndarray:
    """Return what was measured, model by independent unit: ``[seeds examples]`` or ``[seeds draws]``."""
    stacked = np.stack([model[QUANTITIES[quantity][0]] for model in found]).astype(np.float64)
    return stacked.mean(2) if quantity == "sensitivity" else stacked


def overall(found: list[dict[str, Array]], quantity: str) -> Estimate:
    """Estimate a quantity of an architecture, over its models and over what they were measured on."""
    return estimate.over_models(values(found, quantity), rate=QUANTITIES[quantity][1])


def _model_rows(name: str, found: list[dict[str, Array]]) -> list[dict[str, Any]]:
    rows = []
    for seed, model in enumerate(found):
        row = {"architecture": name, "seed": seed, "parameters": int(model["parameters"])}
        row |= {"learning_rate": float(model["learning_rate"]), "training_loss": float(model["losses"][-1])}
        for quantity, (_, rate) in QUANTITIES.items():
            one = estimate.from_values(values([model], quantity)[0], rate=rate)
            row |= harness.cells(one, f"{quantity}_")
        rows.append(row | {"logit_scale": float(model["scale"])})
    return rows


def _architecture_row(name: str, found: list[dict[str, Array]], estimates: dict[str, Estimate]) -> dict[str, Any]:
    row = {"architecture": name, "parameters": int(found[0]["parameters"]), "models": len(found)}
    row |= {"learning_rate": float(found[0]["learning_rate"])}
    for quantity, value in estimates.items():
        row |= harness.cells(value, f"{quantity}_")
    return row


def _training_rows(name: str, found: list[dict[str, Array]]) -> list[dict[str, Any]]:
    rows = []
    for i, epoch in enumerate(found[0]["curve_epochs"]):
        row = {"architecture": name, "epoch": int(epoch)}
        for quantity in ("sensitivity", "accuracy"):
            at_epoch = estimate.over_models(np.stack([model[f"curve_{quantity}"][i] for model in found]), rate=True)
            row |= harness.cells(at_epoch, f"{quantity}_")
        rows.append(row)
    return rows


def _difference_rows(results: Results) -> list[dict[str, Any]]:
    names = list(results)
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for quantity in QUANTITIES:
                if (
                    quantity.endswith("sharpness")
                    and results[first][0]["parameters"] != results[second][0]["parameters"]
                ):
                    continue  # draws are shared only by models of one shape
                paired = difference(results, first, second, quantity)
                row = {"first": first, "second": second, "quantity": quantity}
                rows.append(row | harness.cells(paired, "difference_"))
    return rows


def difference(results: Results, first: str, second: str, quantity: str) -> Estimate:
    """Estimate first minus second, paired over examples or draws."""
    rate = QUANTITIES[quantity][1]
    return estimate.difference(values(results[first], quantity), values(results[second], quantity), rate=rate)


def _claims(config: Config, data: Data, results: Results, table: dict[str, dict[str, Estimate]]) -> list[harness.Claim]:
    """Compare with the paper: a verdict where both sides of a comparison are in it, plain numbers elsewhere."""
    claim, published = PUBLISHED.get(config.dataset, ("", {}))
    setting = _setting(config, data, results)
    notes = {
        name: f"{name}: {results[name][0]['parameters']} parameters, {_rate(config, results[name])}, "
        f"test accuracy {table[name]['test_accuracy'].mean:.3f}"
        for name in results
    }
    rows = []
    for name, estimates in table.items():
        value = published.get(_counterpart(name))
        row = _claim(claim, f"token sensitivity on {config.dataset}, {name}", value, "s.5", estimates["sensitivity"])
        rows.append(row | {"note": f"{notes[name]}; {setting}; {PAPER}"})
    for first in (name for name in results if name in ("vit", "vit_patch_norm")):
        for second in (name for name in results if not name.startswith("vit")):
            paired = difference(results, first, second, "sensitivity")
            claimed = {_counterpart(first), second} <= set(published)
            words = "transformer lower" if claimed else "no such comparison"
            quantity = f"token sensitivity on {config.dataset}, {first} minus {second}"
            row = _claim(claim if claimed else "", quantity, words, "s.5", paired)
            verdict = below_zero(paired, config.seeds) if claimed else ""
            rows.append(row | {"verdict": verdict, "note": f"{notes[first]}; {notes[second]}; {setting}; {PAPER}"})
    if {"vit", "vit_regularised"} <= set(results):
        both = "; ".join(notes[name] for name in ("vit", "vit_regularised"))
        rows += _flatness(config, results, f"{both}; {setting}")
    return [harness.Claim(**row) for row in rows]


def _setting(config: Config, data: Data, results: Results) -> str:
    """Return how the numbers came about, in words."""
    measured = values(results[next(iter(results))], "sensitivity").shape[1]
    return (
        f"{data.source}; {config.seeds} seeds, {config.optimiser}, {config.schedule} learning rate, {config.epochs} "
        f"epochs on {len(data.train[1])} images, {measured} of them measured with {config.draws} draws, noise variance "
        f"{config.noise:g} on patches of {config.token}; accuracies are not matched"
    )


def _rate(config: Config, found: list[dict[str, Array]]) -> str:
    rate = float(found[0]["learning_rate"])
    edge = rate in (min(config.learning_rates), max(config.learning_rates)) and len(config.learning_rates) > 1
    return f"learning rate {rate:g}" + (" (edge of the grid)" if edge else "")


def _counterpart(name: str) -> str:
    """Return under which name the paper has an architecture."""
    return "vit" if name == "vit_patch_norm" else name


def _flatness(config: Config, results: Results, setting: str) -> list[dict[str, Any]]:
    """Judge C13: regularised minus plain, as it is, and with the size of the function divided out."""
    rows = []
    for quantity, published in SHARPNESS_PUBLISHED.items():
        paired = difference(results, "vit_regularised", "vit", quantity)
        rows.append(
            _claim(
                "C13", f"{quantity} on {config.dataset}, vit_regularised minus vit", published, "s.7.2, Table 2", paired
            )
        )
        rows[-1] |= {"verdict": below_zero(paired, config.seeds)}
    relative = {
        name: values(results[name], "output_sharpness") / np.stack([model["scale"] for model in results[name]])[:, None]
        for name in ("vit_regularised", "vit")
    }
    paired = estimate.difference(relative["vit_regularised"], relative["vit"])
    text = f"output_sharpness / sum |centred logits| on {config.dataset}, vit_regularised minus vit"
    rows.append(_claim("C13", text, None, "control, not in the paper", paired))
    rows[-1] |= {"verdict": below_zero(paired, config.seeds)}
    note = (
        f"{setting}; weight noise of deviation {config.deviation:g}, evaluation mode; regulariser of strength .25 with "
        f"noise variance {config.noise:g}; the paper: CIFAR-10, one model, deviation .005, regulariser's variance 1"
    )
    return [row | {"note": note} for row in rows]


def _claim(claim: str, quantity: str, published: float | str | None, place: str, found: Estimate) -> dict[str, Any]:
    about = {"claim": claim, "quantity": quantity, "published": published, "place": f"Vasudeva et al., {place}"}
    return about | harness.Claim.numbers(found)


def _figures(
    run: harness.Run, config: Config, data: Data, results: Results, table: dict[str, dict[str, Estimate]]
) -> None:
    titles = {"dataset": config.dataset}
    noise = f"noise variance {config.noise:g}"
    seeds = f"{config.seeds} models each"
    curves = {
        quantity: {name: _curve(found, quantity) for name, found in results.items()}
        for quantity in ("sensitivity", "accuracy")
    }
    run.figure(
        "training",
        plots.training_curves(
            curves["sensitivity"], accuracy=curves["accuracy"], **titles,
            sample=f"{len(results[next(iter(results))][0]['curve_sensitivity'][0])} training images, {seeds}, {noise}",
        ),
    )  # fmt: skip
    sample = f"{values(results[next(iter(results))], 'sensitivity').shape[1]} training images, {seeds}, {noise}"
    measured = {name: mean_and_interval(found["sensitivity"]) for name, found in table.items()}
    published = {name: [value] for name, value in PUBLISHED.get(config.dataset, ("", {}))[1].items() if name in results}
    run.figure("sensitivity", plots.bars_with_intervals(measured, published=published or None, sample=sample, **titles))
    points = {name: (*mean_and_interval(found["output_sharpness"]), *measured[name]) for name, found in table.items()}
    dots = {
        name: tuple(values(found, quantity).mean(1) for quantity in ("output_sharpness", "sensitivity"))
        for name, found in results.items()
    }
    run.figure(
        "sharpness",
        plots.scatter_with_intervals(
            points, seeds=dots, sample=f"{sample}, weight noise {config.deviation:g}",
            x_unit="sum over logits of |change|", **titles,
        ),
    )  # fmt: skip
    maps = {name: np.mean([model["sensitivity"] for model in found], 0) for name, found in results.items()}
    most = int(np.argmax(np.mean([one.mean(1) for one in maps.values()], 0)))
    image = patches.from_patches(data.train[0][most : most + 1], config.token, data.image_shape)[0] / 2 + 0.5
    draws = f"the most sensitive of {sample}, {config.draws} draws a model"
    run.figure(
        "map",
        plots.token_map(
            np.clip(image, 0, 1), {name: one[most] for name, one in maps.items()}, config.token, sample=draws, **titles
        ),
    )


def _curve(found: list[dict[str, Array]], quantity: str) -> tuple[np.ndarray, ...]:
    every = np.stack([model[f"curve_{quantity}"] for model in found], 1).astype(np.float64)
    triples = np.array([mean_and_interval(estimate.over_models(at_epoch, rate=True)) for at_epoch in every])
    return (found[0]["curve_epochs"], *triples.T)


def _shown(found: Estimate) -> tuple[float, float, float] | float:
    """Return mean and interval for a terminal, or the mean alone where a single model leaves the interval open."""
    return mean_and_interval(found) if np.isfinite(found.sem) else float(found.mean)


def _printed(config: Config, results: Results, table: dict[str, dict[str, Estimate]]) -> str:
    headings = {
        "architecture": "architecture", "parameters": "parameters", "learning_rate": "rate",
        "test_accuracy": "test accuracy", "sensitivity": "token sensitivity",
        "output_sharpness": "output sharpness", "prediction_sharpness": "prediction sharpness",
    }  # fmt: skip
    rows = [
        {"architecture": name, "parameters": int(results[name][0]["parameters"])}
        | {"learning_rate": float(results[name][0]["learning_rate"])}
        | {quantity: _shown(value) for quantity, value in table[name].items()}
        for name in results
    ]
    heading = f"\n{config.dataset}: mean of {config.seeds} models [95 % interval]\n\n"
    return heading + harness.format_table(rows, headings)
