"""Are transformers less sensitive than LSTMs after training, and do they generalize better under label noise?

Two experiments of Bhattamishra et al. (Simplicity Bias in Transformers and their Ability to Learn Sparse Boolean
Functions, 2023, arXiv 2211.12316), with LSTMs of as many parameters as the transformers. Sparse parities with label
noise: the label is the parity of --relevant of --length bits, flipped with a probability of 0 to 20 %; every seed has
its own bits, strings and weights; the learning rate of a kind and noise level is the one with the best mean accuracy on
clean validation strings. Random labels: strings with random labels, trained until none is wrong. Measures what claims
B1 to B3 of experiments/CLAIMS.md say.

    python -m experiments.simplicity_bias --preset laptop
    python -m experiments.simplicity_bias --preset paper --rows 500 --models-per-device 32    # on an accelerator

Leaves models.csv (a row for each model on a sparse parity), noise_levels.csv (the table that is printed), curves.csv
(accuracies and sensitivity during training), random_labels.csv (a row for each model), labels.csv (means over data
sets), comparison.csv, figures and manifest.json in the folder --out. A run that was killed continues from the last
finished unit, with random labels from the last checkpoint. Setting, results and figures:
experiments/simplicity_bias/README.md.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.harness.inputs import fingerprint
from experiments.simplicity_bias import report, train
from experiments.simplicity_bias.config import KINDS, PRESETS, Config
from jaxsens.typing import Array


def with_labels(config: Config, strings: Array, labels: Array) -> Config:
    """Return the settings for given sets of strings ``[d c n]`` and labels ``[d c]`` in place of random ones.

    Raises:
        ValueError: If the shapes do not agree, or there is something other than 0 and 1.
    """
    shape = np.shape(strings)
    if len(shape) != 3 or np.shape(labels) != shape[:2] or not (_binary(strings) and _binary(labels)):
        raise ValueError(
            f"data must be strings [d c n] and labels [d c] of 0 and 1, got the shapes {shape} and {np.shape(labels)}"
        )
    return dataclasses.replace(
        config, label_sets=shape[0], label_strings=shape[1], label_length=shape[2],
        label_batch=min(config.label_batch, shape[1]), own_labels=fingerprint(_plain(strings, labels)),
    )  # fmt: skip


def _binary(values: Array) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _plain(strings: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(strings, np.uint8), np.asarray(labels, np.float32)


def setting(config: Config) -> dict[str, Any]:
    """Return what holds for all rows of the comparison, for the manifest."""
    return {
        "optimizer": "Adam at a constant learning rate, cross-entropy",
        "seeds": config.seeds,
        "pairing": "both kinds, all noise levels and all learning rates of a seed share bits, strings and noise",
        "chosen": "learning rate with the best mean accuracy on clean validation strings; tested on other strings",
        "random labels": "only models without a training error count; data sets are the units",
        "published": "parities of 4 of 40 bits, 30,000 to 1,000 strings; 1,000 strings with random labels, 20 sets",
    }


def execute(config: Config, out: Path, data: tuple[Array, Array] | None = None) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Strings ``[d c n]`` and labels ``[d c]`` of 0 and 1 to learn in place of random labels. A run continues
            with the same data only.
    """
    if data is not None:
        config, data = with_labels(config, *data), _plain(*data)
    parities = [
        ("parity", kind, count, seed) for count in config.counts for kind in KINDS for seed in range(config.seeds)
    ]
    results: dict[tuple[str | int, ...], Mapping[str, Array]] = {}
    with harness.Run.open(out, config, experiment="simplicity_bias", trains=True) as run:
        run.record(matmul_precision="highest", setting=setting(config))
        with tqdm(desc="all groups", total=len(parities) + len(KINDS), unit="group", dynamic_ncols=True) as bar:
            for unit in parities:
                compute = partial(train.learn_parity, config, *unit[1:])
                results[unit] = run.unit("-".join(map(str, unit)), compute, allow_nonfinite=train.MAY_BE_NONFINITE)
                bar.update()
            for kind in KINDS:
                checkpoint = run.folder / "checkpoints"
                compute = partial(train.learn_labels, config, kind, checkpoint, data)
                results["labels", kind] = run.unit(f"labels-{kind}", compute, allow_nonfinite=["accuracy"])
                run.discard(checkpoint)
                bar.update()
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("simplicity_bias", PRESETS, execute, __doc__, every_core=True)
