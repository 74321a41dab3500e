"""What ``experiments.length_and_sharpness`` says of its results: tables, figures, and verdicts on claims."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import harness
from experiments.length_and_sharpness import claims as judging
from experiments.length_and_sharpness.config import FUNCTIONS, evaluation_strings
from experiments.length_and_sharpness.tradeoff_figure import cloud
from jaxsens import plots
from jaxsens.boolean import languages
from jaxsens.statistics import estimate
from jaxsens.training import many_models

if TYPE_CHECKING:
    from experiments.length_and_sharpness.config import Config

Results = judging.Results

MEASURED = (
    "loss", "accuracy", "blow_up_median", "blow_up_low", "blow_up_high", "blow_up_mean", "weight_norm", "sharpness",
    "sharpness_sem", "sensitivity", "sensitivity_sem",
)  # fmt: skip
"""What is measured of a model that did not diverge."""

LEARNED = ("train_accuracy", "train_loss", "unseen_accuracy", "sensitivity")
"""What is measured of a model of a random function; unseen accuracy is NaN too where no string is unseen."""

STATUS = {many_models.TRAINING: "trained", many_models.DIVERGED: "diverged"}

SHOWN = {
    "loss": ("evaluation loss", "mean squared error"),
    "sharpness": ("average sharpness; means of converged models", "increase of the loss under noise"),
    "blow_up_median": ("cumulative blow-up", "median over strings"),
    "weight_norm": ("weight norm", "l2 norm of all parameters"),
}
"""What the figure by length shows: titles, and what lies along y."""


def write(run: harness.Run, config: "Config", results: Results) -> None:
    """Write all tables and figures of a run, and print the table by length and what became of the claims."""
    tradeoff = _joined(list(results["tradeoff"].values()))
    learned = results["random"][()]
    run.table("models", _model_rows(config, results), allow_nonfinite=MEASURED)
    lengths = length_rows(config, results)
    run.table("lengths", lengths)
    slopes, pairs = judging.slope_rows(config, results), judging.pair_rows(config, results)
    run.table("slopes", slopes)
    run.table("pairs", pairs)
    run.table("tradeoff", _tradeoff_rows(tradeoff), allow_nonfinite=MEASURED)
    run.table("random_functions", _function_rows(learned), allow_nonfinite=LEARNED)
    sizes = judging.size_rows(config, learned)
    run.table("training_sizes", sizes)
    claims = [
        *judging.slope_claims(slopes, config.steps),
        *judging.pair_claims(pairs),
        *judging.tradeoff_claims(config, tradeoff),
        *judging.size_claims(config, sizes),
    ]
    run.comparison(claims)
    _figure_by_length(run, config, results)
    _figure_of_tradeoff(run, config, tradeoff)
    _figure_of_sizes(run, config, learned, sizes)
    print("\n" + harness.format_table(_summary(config, lengths)))
    rows = [
        {
            "quantity": c.quantity,
            "measured": c.measured if c.low is None else (c.measured, c.low, c.high),
            "published": c.published,
            "verdict": c.verdict,
        }
        for c in claims
    ]
    print("\n" + harness.format_table(rows))


def exact_sensitivity(function: str, n: int) -> float:
    """Return the average sensitivity of a function's decisions, in bits; the sign of the mean is the majority."""
    name = "majority" if function == "mean" else function
    return float(getattr(languages, name)(n).average_sensitivity)


def length_rows(config: "Config", results: Results) -> list[dict[str, Any]]:
    """Return every quantity of every function and length: its mean over the models, with the interval.

    Those named ``ln_`` are means of logarithms, as the figure draws them; models whose value is not positive have none,
    and are missing from ``used``. ``converged_share`` has the interval of Clopper and Pearson.
    """
    reached = judging.converged_by_function(results)
    columns = {name: judging.by_function(results, name) for name in ("status", *MEASURED)}
    rows = []
    for function in FUNCTIONS:
        for i, n in enumerate(config.lengths):
            of = {name: column[function][:, i] for name, column in columns.items()}
            counts = {"models": config.seeds, "converged": int(reached[function][:, i].sum())}
            counts |= {"diverged": int((of["status"] == many_models.DIVERGED).sum())}
            low, high = (float(end) for end in estimate.clopper_pearson(counts["converged"], config.seeds))
            share = {"mean": counts["converged"] / config.seeds, "sem": None, "low": low, "high": high}
            here = {"function": function, "length": n} | counts
            rows.append(here | {"quantity": "converged_share", "used": config.seeds} | share)
            values = {name: of[name] for name in ("loss", "accuracy", "sharpness", "weight_norm", "sensitivity")}
            values["sharpness_of_converged"] = np.where(reached[function][:, i], of["sharpness"], np.nan)
            logs = (*SHOWN, "sharpness_of_converged")
            values |= {f"ln_{name}": judging.logarithm((values | of)[name]) for name in logs}
            for name, column in values.items():
                used = int(np.isfinite(column).sum())
                rows.append(here | {"quantity": name, "used": used} | judging.cells(judging.estimated(column)))
    return rows


def _joined(units: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([unit[name] for unit in units]) for name in units[0]}


def _status(found: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
    return {"status": STATUS[int(found["status"][i])], "epochs": int(found["epochs"][i])}


def _model_rows(config: "Config", results: Results) -> list[dict[str, Any]]:
    rows = []
    for (n,), found in results["length"].items():
        count = len(evaluation_strings(config, "length", n)[0])
        for i, function in enumerate(found["function"].tolist()):
            row = {"function": function, "length": n, "seed": int(found["seed"][i])}
            row |= {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay} | _status(found, i)
            row |= {"converged": bool(judging.converged(found, found["function"])[i]), "strings": count}
            row |= {name: float(found[name][i]) for name in MEASURED}
            rows.append(row | {"exact_sensitivity": exact_sensitivity(function, n)})
    return rows


def _tradeoff_rows(found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    reached = judging.converged(found, "parity")
    return [
        {"number": int(found["number"][i]), "learning_rate": float(found["learning_rate"][i])}
        | {"weight_decay": float(found["weight_decay"][i])} | _status(found, i) | {"converged": bool(reached[i])}
        | {name: float(found[name][i]) for name in MEASURED}
        for i in range(len(reached))
    ]  # fmt: skip


def _function_rows(found: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"function": int(found["function"][i]), "size": int(found["size"][i]), "seed": int(found["seed"][i])}
        | _status(found, i) | {"target_sensitivity": float(found["target_sensitivity"][i])}
        | {name: float(found[name][i]) for name in LEARNED}
        for i in range(len(found["size"]))
    ]  # fmt: skip


def _summary(config: "Config", rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for function in FUNCTIONS:
        for n in config.lengths:
            own = {r["quantity"]: r for r in rows if r["function"] == function and r["length"] == n}
            found = {name: own[name]["mean"] for name in ("loss", "sharpness", "sharpness_of_converged")}
            found |= {name: own[name]["mean"] for name in ("weight_norm", "sensitivity")}
            blow_up = own["ln_blow_up_median"]["mean"]
            row = {"function": function, "length": n}
            row["converged"] = f"{own['loss']['converged']} of {own['loss']['models']}"
            row |= found | {"blow-up": None if blow_up is None else float(np.exp(blow_up))}
            table.append(row | {"exact sensitivity": exact_sensitivity(function, n)})
    return table


def _geometric(logs: np.ndarray) -> tuple[float, float, float] | None:
    """Return the geometric mean over models and its interval, from logarithms; without one where there is one model."""
    known = logs[np.isfinite(logs)]
    if not len(known):
        return None
    found = estimate.from_values(known)
    ends = found.interval() if found.count > 1 else (found.mean, found.mean)
    # An interval of a few models may leave float64, and any figure long before.
    low, high = np.clip(ends, float(found.mean) - 30, float(found.mean) + 30)
    return float(np.exp(found.mean)), float(np.exp(low)), float(np.exp(high))


def _figure_by_length(run: harness.Run, config: "Config", results: Results) -> None:
    reached = judging.converged_by_function(results)
    panels = {}
    for quantity, (title, unit) in SHOWN.items():
        series, models = {}, {}
        for function, values in judging.by_function(results, quantity).items():
            logs = judging.logarithm(values)
            # Of models that have not converged sharpness is no minimum's: they are dots without a mean.
            averaged = np.where(reached[function] | (quantity != "sharpness"), logs, np.nan)
            drawn = [(n, *triple) for n, column in zip(config.lengths, averaged.T, strict=True)
                     if (triple := _geometric(column))]  # fmt: skip
            if drawn:
                series[function] = tuple(np.array(drawn).T)
                at, known = np.broadcast_to(config.lengths, logs.shape), np.isfinite(logs)
                models[function] = (at[known], values[known], reached[function][known])
        if series:
            panels[title] = plots.Quantity(unit, series, models)
    if panels:
        figure = plots.side_by_side(
            panels, x="length of strings (bits)", heading="What is learned, by length",
            dataset=f"transformers of width {config.architecture.width} after {config.steps} steps",
            sample=f"{config.seeds} models each; geometric means",
            meaning="dots: models that converged, crosses: others",
        )  # fmt: skip
        run.figure("lengths", figure)


def _figure_of_tradeoff(run: harness.Run, config: "Config", found: Mapping[str, np.ndarray]) -> None:
    sound = found["status"] != many_models.DIVERGED
    if not (found["sharpness"][sound] > 0).any():
        return
    y = tuple(found[f"blow_up_{name}"][sound] for name in ("median", "low", "high"))
    figure = cloud(
        found["weight_norm"][sound], y, found["sharpness"][sound], solid=judging.converged(found, "parity")[sound],
        x_quantity="weight norm (l2)", y_quantity="cumulative blow-up, median over strings",
        colour_quantity="sharpness (mean squared error)", heading="Weight norm against blow-up",
        dataset=f"parity of {config.tradeoff_length} bits",
        sample=f"{int(sound.sum())} models of different learning rate and weight decay",
        whiskers="quartiles over strings",
    )  # fmt: skip
    run.figure("tradeoff", figure)


def _figure_of_sizes(
    run: harness.Run, config: "Config", found: Mapping[str, np.ndarray], rows: Sequence[Mapping[str, Any]]
) -> None:
    series = {}
    for models, label in (("all", "all models"), ("fitted", "fitted models")):
        drawn = [
            (row["size"], *(_end(row, f"learned_{part}") for part in ("mean", "low", "high")))
            for row in rows
            if row["models"] == models and row["learned_mean"] is not None
        ]
        if drawn:
            series[label] = tuple(np.array(drawn, float).T)
    if not series:
        return
    fitted = (found["train_accuracy"] > judging.ACCURATE) & np.isfinite(found["sensitivity"])
    known = np.isfinite(found["sensitivity"])
    target = np.mean([found["target_sensitivity"][found["function"] == f][0] for f in np.unique(found["function"])])
    everywhere = np.array(config.function_sizes), np.full(len(config.function_sizes), target)
    models = {"models": (found["size"][known], found["sensitivity"][known], fitted[known])}
    references = {"their targets, mean": everywhere}
    panel = plots.Quantity("average sensitivity (bits)", series, models, references, log=False)
    figure = plots.side_by_side(
        {"": panel}, x=f"training strings, of {2**config.function_length}",
        heading="How sensitive is what was learned?",
        dataset=f"{config.functions} random functions of {config.function_length} bits",
        sample=f"{config.function_seeds} model{'s' if config.function_seeds > 1 else ''} of each and size",
        meaning="dots: models that fit their training set, crosses: others",
    )  # fmt: skip
    run.figure("training_sizes", figure)


def _end(row: Mapping[str, Any], name: str) -> float:
    """Return a cell, or the mean where a single function leaves the interval open."""
    return row["learned_mean"] if row[name] is None else row[name]
