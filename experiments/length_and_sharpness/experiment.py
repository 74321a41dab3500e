"""Are functions that depend on every bit learned only at sharp minima, and are these sharper for longer strings?

Trains transformers on Parity, Majority, First and Mean of strings of 4 to 30 bits (Hahn and Rofin, Why are Sensitive
Functions Hard for Transformers?, 2024), and measures evaluation loss, cumulative blow-up of layer normalization, weight
norm, average sensitivity, and average sharpness ``E L(theta + 0.02 noise) - L(theta)``, L the mean squared error. Two
more sections: the trade-off of weight norm and blow-up over many models of Parity, and the sensitivity of what is
learned from a part of a random function's strings. Measures what claims H1 to H5 of experiments/CLAIMS.md say.

    python -m experiments.length_and_sharpness --preset laptop
    python -m experiments.length_and_sharpness --preset paper    # on an accelerator

Leaves models.csv (a row for each model), lengths.csv (means by length), slopes.csv, pairs.csv (functions compared at
each length), tradeoff.csv, random_functions.csv (a row for each model), training_sizes.csv, comparison.csv, three
figures and manifest.json in the folder --out. Setting, results and figures: experiments/length_and_sharpness/README.md.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.harness.inputs import fingerprint
from experiments.length_and_sharpness import report, train
from experiments.length_and_sharpness.config import PRESETS, Config
from experiments.length_and_sharpness.estimates import Results
from experiments.length_and_sharpness.measure import LEARNED, MEASURED
from jaxsens.execution import memory
from jaxsens.models.recognizers import baselines


def units(
    config: Config, tables: np.ndarray | None = None
) -> Iterator[tuple[str, tuple[Any, ...], Callable[..., train.Columns], Sequence[str]]]:
    """Yield the units: section, the setting within it, what computes it, and which arrays may hold NaN."""
    for n in config.lengths:
        yield "length", (n,), partial(train.by_length, config, n), ("losses", *MEASURED)
    for group in range(config.tradeoff_models // config.tradeoff_group):
        yield "tradeoff", (group,), partial(train.tradeoff, config, group), ("losses", *MEASURED)
    yield "random", (), partial(train.random_functions, config, tables=tables), LEARNED


def with_functions(config: Config, tables: np.ndarray) -> Config:
    """Return the settings for truth tables ``[functions 2^n]`` in place of random functions.

    Raises:
        ValueError: If the tables are not rows of 2^n booleans, or shorter than a training set.
    """
    n = np.shape(tables)[-1].bit_length() - 1 if np.ndim(tables) == 2 else 0
    if n < 1 or np.shape(tables)[1] != 2**n or not np.isin(tables, (0, 1)).all():
        raise ValueError(f"data must be truth tables [functions 2^n] of 0 and 1, got the shape {np.shape(tables)}")
    return dataclasses.replace(
        config, functions=len(tables), function_length=n, own_functions=fingerprint(np.asarray(tables, bool))
    )


def setting(config: Config) -> dict[str, Any]:
    """Return what holds for all rows of the comparison, for the manifest."""
    return {
        "optimizer": "AdamW at a constant learning rate, mean squared error, fresh strings in every epoch",
        "steps": config.steps,
        "learning_rate": config.learning_rate,
        "seeds": config.seeds,
        "pairing": "models of a seed share initial weights, strings and weight noise",
        "converged": "accuracy above 0.99; for Mean a loss below 0.001",
        "published": "2 layers, 2 heads, width 128, 10,000 steps of 1,024 strings, learning rate 0.0003, decay 0.1",
        "differs": "sinusoidal positions, bits embedded at full width, blow-up 1 + 1 / deviation (Eq. 17)",
    }


def execute(config: Config, out: Path, data: np.ndarray | None = None) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Truth tables ``[functions 2^n]`` of 0 and 1 to learn in place of random functions; the order of strings
            is that of ``boolean.strings.exhaustive``. A run continues with the same tables only.
    """
    config = config if data is None else with_functions(config, data)
    with harness.Run.open(out, config, experiment="length_and_sharpness", trains=True) as run:
        parameters = baselines.parameter_count(config.architecture)
        run.record(budget_bytes=memory.budget(), precision="highest", parameters=parameters, setting=setting(config))
        results: Results = {}
        with tqdm(list(units(config, data)), desc="units", unit="unit", dynamic_ncols=True) as bar:
            for section, place, compute, nonfinite in bar:
                name = "-".join([section, *map(str, place)])
                bar.set_postfix_str(name)
                checkpoint = run.folder / "checkpoints" / name
                unit = run.unit(name, partial(compute, checkpoint), allow_nonfinite=nonfinite)
                run.discard(checkpoint)
                results.setdefault(section, {})[place] = unit
        run.discard(run.folder / "checkpoints")
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("length_and_sharpness", PRESETS, execute, __doc__, every_core=True)
