"""What the experiments on images share: building a model, training it, and choosing its learning rate."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.images.config import TREATMENTS, Data, ImageSetting
from jaxsens import models, training
from jaxsens.execution import Execution, memory, parallel
from jaxsens.typing import Apply, Array, Key, PyTree

PURPOSES = ("train", "noise", "weights", "probes", "starts", "dropout")


def key_of(config: ImageSetting, purpose: str) -> Key:
    """Return the key of a purpose: all models see the same noise, so that their differences are paired."""
    return jax.random.fold_in(jax.random.key(config.seed), PURPOSES.index(purpose))


def build(config: ImageSetting, data: Data, architecture: str) -> Any:
    """Return the Linen module of an architecture."""
    treatment = TREATMENTS[architecture]
    variants = models.MODELS[treatment.model].variants
    own = f"paper_{config.dataset}"
    variant = own if config.variant == "paper" and own in variants else config.variant
    if variant not in variants:
        raise ValueError(
            f"variant must be 'small' for {architecture} on {config.dataset}: there are {sorted(variants)} only"
        )
    module = models.build(
        treatment.model, variant, image_shape=data.image_shape, classes=data.classes, patch=config.token,
        dtype=config.dtype,
    )  # fmt: skip
    return type(module)(dataclasses.replace(module.config, **dict(treatment.fields)))


def require_built(config: ImageSetting, data: Data, architectures: Sequence[str]) -> None:
    """Raise ValueError if an architecture does not fit: now, not in an hour."""
    for architecture in architectures:
        build(config, data, architecture)


def train(
    config: ImageSetting,
    data: Data,
    architecture: str,
    learning_rate: float,
    seed: int,
    label: str,
    after_epoch: Callable[[int, Any], None] | None = None,
    checkpoint: Path | None = None,
) -> tuple[Any, np.ndarray]:
    """Train a model; see ``training.fit``."""
    module = build(config, data, architecture)
    key = jax.random.fold_in(key_of(config, "train"), seed)
    variables = models.init(module, jax.random.fold_in(key, 0))
    if after_epoch is not None:
        after_epoch(0, variables)
    regulariser = training.NoiseConsistency(variance=config.noise) if TREATMENTS[architecture].regularised else None
    return training.fit(
        jax.random.fold_in(key, 1), models.train_apply(module), variables, *data.train, config.training(learning_rate),
        objective=regulariser, after_epoch=after_epoch, checkpoint=checkpoint, progress=label,
    )  # fmt: skip


def checkpoint_of(run: harness.Run, config: ImageSetting, name: str) -> Path | None:
    """Return where the training of a model is saved after every epoch, if it is to be."""
    return run.folder / "checkpoints" / name if config.checkpoints else None


def try_rate(config: ImageSetting, data: Data, architecture: str, learning_rate: float) -> dict[str, Any]:
    """Train the first model at a learning rate, and return its accuracy on validation images, 0 if it diverged."""
    label = f"{architecture}, rate {learning_rate:g}"
    try:
        variables, _ = train(config, data, architecture, learning_rate, seed=0, label=label)
        apply = models.evaluation(build(config, data, architecture))
        correct = training.accuracy(apply, variables, *data.validation)
    except FloatingPointError:
        return {"validation_accuracy": 0.0, "diverged": True}
    return {"validation_accuracy": correct.mean(), "diverged": False}


def best_rate(run: harness.Run, config: ImageSetting, data: Data, architecture: str, bar: tqdm) -> float:
    """Return the learning rate of the grid that does best on validation images.

    Raises:
        FloatingPointError: If the model diverged at every one.
    """
    accuracies = []
    for rate in config.learning_rates:
        tried = run.unit(f"{architecture}-rate{rate:g}", partial(try_rate, config, data, architecture, rate))
        accuracies.append(float(tried["validation_accuracy"]))
        bar.update()
    if max(accuracies) == 0:
        raise FloatingPointError(f"{architecture} diverged at every learning rate {config.learning_rates}")
    return config.learning_rates[int(np.argmax(accuracies))]


def results_of(
    run: harness.Run,
    config: ImageSetting,
    data: Data,
    architectures: Sequence[str],
    train_and_measure: Callable[[str, float, int], dict[str, Any]],
) -> dict[str, list[dict[str, Array]]]:
    """Return architecture -> results of its models, one for each seed, at the learning rate that does best.

    Args:
        run: Keeps what is done.
        config: What is trained, and how.
        data: On what.
        architectures: Names in ``TREATMENTS``.
        train_and_measure: Maps architecture, learning rate and seed to the results of a model.
    """
    require_same_images(run, config, data)
    run.record(data=data.source, budget_bytes=memory.BYTES, estimators_precision="highest")
    results: dict[str, list[dict[str, Array]]] = {}
    total = len(architectures) * (config.seeds + len(config.learning_rates))
    with tqdm(desc="all models", total=total, unit="model", dynamic_ncols=True) as bar:
        for architecture in architectures:
            best = best_rate(run, config, data, architecture, bar)
            results[architecture] = []
            for seed in range(config.seeds):
                compute = partial(train_and_measure, architecture, best, seed)
                results[architecture].append(run.unit(f"{architecture}-seed{seed}", compute))
                bar.update()
    run.record(chunk={name: int(found[0]["chunk"]) for name, found in results.items()})
    return results


def logits_of(apply: Apply, variables: PyTree, tokens: Array) -> np.ndarray:
    """Return the logits ``[b k]`` of tokens ``[b t d]``."""
    return parallel.map_items(_Logits(apply), tokens, variables, execution=Execution(chunk=min(500, len(tokens))))


def scale_of(logits: Array) -> float:
    """Return the size of a function, ``mean_x sum_k |f_k - mean_k f|``: output sharpness grows with it."""
    return float(np.abs(logits - logits.mean(-1, keepdims=True)).sum(-1).mean())


def require_same_images(run: harness.Run, config: ImageSetting, data: Data) -> None:
    """Raise ValueError if the run was begun with other images, a re-encoded copy of the same for instance."""
    digest = hashlib.sha256()
    for array in (*data.train, *data.validation, *data.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    found = {"sha256": digest.hexdigest()}
    if run.unit("data", lambda: found)["sha256"] != found["sha256"]:
        raise ValueError(
            f"data_dir holds other images of {config.dataset} than those that the run in {run.folder} was begun with: "
            "name that folder, or another --out"
        )


@dataclass(frozen=True)
class _Logits:
    apply: Apply

    def __call__(self, tokens: Array, variables: PyTree) -> Array:
        with jax.default_matmul_precision("highest"):
            return self.apply(variables, tokens[None])[0]
