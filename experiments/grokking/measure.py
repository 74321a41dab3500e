"""Measures of many models on modular addition: everything that is followed during training.

All models of a group are measured in one launch by the library's samplers. What needs all logits, the Fourier measures,
is computed on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.grokking.config import KEYS, Config
from jaxsens import changes, perturb
from jaxsens.data.modular_addition import ModularAddition
from jaxsens.execution import Execution, map_items
from jaxsens.models import pair_transformer
from jaxsens.noise_stability import CorrelatedGaussian
from jaxsens.theory import cyclic
from jaxsens.typing import Array, PyTree

MEASURES = (
    "train_loss", "test_loss", "train_accuracy", "test_accuracy", "mirrored_accuracy", "token_sensitivity",
    "pair_sensitivity", "weight_norm", "output_sharpness", "noise_stability", "restricted_loss", "excluded_loss",
    "embedding_gini", "readout_gini",
)  # fmt: skip
"""Names of what is measured, in the order of the tables."""


def unseen(task: ModularAddition, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs are for the test, and which are mirrored, ``[p^2]`` each, given the numbers of those learned.

    A pair (a, b) that is not learned while (b, a) is learned is mirrored: a model that is symmetric in its two numbers
    gives it the right sum by memorizing. Pairs for the test are those of which neither order is learned.

    Raises:
        ValueError: If no pair is left for the test.
    """
    learned = np.zeros(task.modulus**2, bool)
    learned[train] = True
    mirror = learned[task.mirrors]
    test = ~learned & ~mirror
    if not test.any():
        raise ValueError(
            f"no pair is left for the test: all {(~learned).sum()} pairs that are not learned have a mirror (b, a) "
            f"that is learned; take a smaller fraction, or a larger modulus than {task.modulus}"
        )
    return test, ~learned & mirror


def scaled(variables: PyTree) -> Array:
    """Return the root mean square of the embeddings of numbers, the unit of correlated noise."""
    return jnp.sqrt((variables["params"]["embedding"][:-1] ** 2).mean())


@dataclass(frozen=True)
class OnDevice:
    """Measures of one model on the device; equal ones share compiled code."""

    module: pair_transformer.Config
    noise: float
    draws: int
    weight_noise: float
    weight_draws: int
    rho: float

    def __call__(self, item: tuple[PyTree, Array, Array]) -> dict[str, Array]:
        """Return measures of parameters on the pairs that are learned ``[n]``, by a key's words, and all logits."""
        params, train, words = item
        variables, key = {"params": params}, jax.random.wrap_key_data(words)
        apply, evaluate = pair_transformer.from_embeddings(self.module), pair_transformer.evaluation(self.module)
        pairs = jnp.asarray(ModularAddition(self.module.numbers).pairs)
        logits = evaluate(variables, pairs)
        clean, vectors = logits[train], pair_transformer.embed(self.module)(variables, pairs[train])
        keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(len(train)))
        sampler = perturb.gaussian(self.noise**2)
        changed = jax.vmap(changes.prediction_change)

        def noisy(draw: Array) -> Array:
            return jax.vmap(lambda key, x: sampler(key, draw, x))(keys, vectors)

        def of_draw(draw: Array) -> tuple[Array, Array]:
            moved = noisy(draw)
            at = (jnp.arange(2) == token for token in range(2))
            by_token = [
                changed(clean, apply(variables, jnp.where(here[None, :, None], moved, vectors))).mean() for here in at
            ]
            return jnp.stack(by_token).mean(), changed(clean, apply(variables, moved)).mean()

        token, pair = jax.lax.map(of_draw, jnp.arange(self.draws, dtype=jnp.uint32))
        weights = perturb.gaussian(self.weight_noise**2)

        def of_weights(draw: Array) -> Array:
            leaves, tree = jax.tree.flatten(params)
            moved = weights(jax.random.fold_in(key, len(train)), draw, tuple(leaves))
            return jnp.abs(evaluate({"params": tree.unflatten(moved)}, pairs[train]) - clean).sum(-1).mean()

        unit = scaled(variables)
        copies = jax.vmap(lambda key, x: CorrelatedGaussian()(key, jnp.uint32(self.draws), x, self.rho))
        same = ~changed(clean, apply(variables, unit * copies(keys, vectors / unit)))
        return {
            "logits": logits, "token_sensitivity": token.mean(), "pair_sensitivity": pair.mean(),
            "weight_norm": jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(params))),
            "output_sharpness": jax.lax.map(of_weights, jnp.arange(self.weight_draws, dtype=jnp.uint32)).mean(),
            "noise_stability": same.mean(),
        }  # fmt: skip


def measures_of(config: Config, module: pair_transformer.Config) -> OnDevice:
    """Return the measures of a model of an architecture, with the noise of the settings."""
    return OnDevice(module, config.noise, config.draws, config.weight_noise, config.weight_draws, config.rho)


def measure_with(
    config: Config, module: pair_transformer.Config, train: np.ndarray
) -> Callable[[int, PyTree], dict[str, np.ndarray]]:
    """Return ``measure(epochs done, variables [m ...])`` of ``fit_full_batch``.

    Args:
        config: The settings.
        module: The architecture.
        train: Numbers of the pairs that each model learns ``[m n]``.
    """
    on_device = measures_of(config, module)

    def measure(done: int, variables: PyTree) -> dict[str, np.ndarray]:
        keys = [KEYS(config.seed, "measure", member, done) for member in range(len(train))]
        words = np.stack([np.asarray(jax.random.key_data(key)) for key in keys])
        measures: dict[str, Any] = map_items(
            on_device, (variables["params"], train.astype(np.int32), words), execution=Execution(chunk=1)
        )
        logits = measures.pop("logits")
        rows = [
            on_host(config, logits[member], train[member], jax.tree.map(lambda a, m=member: a[m], variables["params"]))
            for member in range(len(train))
        ]
        measures |= {name: np.array([row[name] for row in rows]) for name in rows[0]}
        return {name: np.asarray(measures[name], np.float32) for name in MEASURES}

    return measure


def on_host(config: Config, logits: np.ndarray, train: np.ndarray, params: PyTree) -> dict[str, float]:
    """Return losses, accuracies and Fourier measures of one model, of its logits ``[p^2 p]``.

    The key frequencies are those of this model at this epoch; a model with logits that are not finite has none.
    """
    test, mirrored = unseen(config.task, train)
    labels, count = config.task.labels, config.modulus
    right = logits.argmax(1) == labels
    row = {"train_accuracy": right[train].mean(), "test_accuracy": right[test].mean()}
    row["mirrored_accuracy"] = right[mirrored].mean() if mirrored.any() else np.nan
    names = ("train_loss", "test_loss", "restricted_loss", "excluded_loss", "embedding_gini", "readout_gini")
    if not np.isfinite(logits).all():
        return row | dict.fromkeys(names, np.nan)
    grid = logits.reshape(count, count, count)
    chosen = cyclic.key_frequencies(cyclic.sum_power(grid), config.frequencies)
    losses = cross_entropy(logits, labels)
    row |= {"train_loss": losses[train].mean(), "test_loss": losses[test].mean()}
    kept, left = (part(grid, chosen).reshape(logits.shape) for part in (cyclic.restricted, cyclic.excluded))
    row["restricted_loss"] = cross_entropy(kept, labels)[test].mean()
    row["excluded_loss"] = cross_entropy(left, labels)[train].mean()
    for name, weights in (("embedding", params["embedding"][:-1]), ("readout", params["readout"].T)):
        row[f"{name}_gini"] = cyclic.gini(np.sqrt(cyclic.frequency_power(weights)))
    return row


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of every example ``[n]``, in nats and float64."""
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(1, keepdims=True)
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
