"""Training of a group of models on modular addition in one launch, and of models on the sparse parity."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.grokking.config import ARCHITECTURES, KEYS, TREATMENTS, Config, Group
from experiments.grokking.measure import measure_with, scaled
from jaxsens import boolean, substitution, training
from jaxsens.boolean import languages
from jaxsens.execution import Execution, map_items
from jaxsens.execution.parallel import bind
from jaxsens.models import pair_transformer, recognizers
from jaxsens.noise_stability import CorrelatedGaussian
from jaxsens.typing import Apply, Array, Key, PyTree

PARITY_CURVES = ("train_accuracy", "test_accuracy", "sensitivity")
"""What is measured of a model on the sparse parity."""


@dataclass(frozen=True)
class Loss:
    """The mean loss over all pairs that are learned; equal ones share compiled code.

    With ``"penalty"``, ``training.NoiseStabilityPenalty`` on the embeddings of the numbers, with noise in units of
    their root mean square, through which no gradient flows. With ``"noise"``, cross-entropy of the same noisy copies in
    the place of the penalty.
    """

    module: pair_transformer.Config
    treatment: str = "none"
    rho: float = 0.9
    strength: float = 0.25

    def __call__(self, variables: PyTree, data: tuple[Array, Array], key: Key) -> Array:
        """Return the loss on pairs ``[n 2]`` and labels ``[n]``."""
        pairs, labels = data
        if self.treatment == "none":
            return _cross_entropy(pair_transformer.evaluation(self.module)(variables, pairs), labels)
        unit = jax.lax.stop_gradient(scaled(variables))
        vectors = pair_transformer.embed(self.module)(variables, pairs) / unit
        apply = pair_transformer.from_embeddings(self.module)

        def train_apply(variables: PyTree, vectors: Array, key: Key) -> tuple[Array, PyTree]:
            del key
            return apply(variables, unit * vectors), variables

        if self.treatment == "penalty":
            objective = training.NoiseStabilityPenalty(rho=self.rho, strength=self.strength)
            return objective(train_apply, variables, vectors, labels, key)[0]
        clean = _cross_entropy(pair_transformer.evaluation(self.module)(variables, pairs), labels)
        copies = CorrelatedGaussian()(key, jnp.uint32(0), vectors, self.rho)
        noisy = _cross_entropy(train_apply(variables, copies, key)[0], labels)
        return (1 - self.strength) * clean + self.strength * noisy


def learn(config: Config, group: Group, checkpoint: Path | None = None) -> dict[str, Array]:
    """Train the models of a group and follow them.

    All groups share the splits and learning rates of the seeds, and groups of an architecture their weights.

    Returns:
        ``epochs [p]``, ``learning_rate [seeds]`` and every measure ``[seeds p]``.
    """
    module, task = config.module(group.architecture), config.task
    train = np.stack([task.split(KEYS(config.seed, "split", seed), config.fraction)[0] for seed in range(config.seeds)])
    kind = ARCHITECTURES.index(group.architecture)
    start = [pair_transformer.init(module, KEYS(config.seed, "weights", kind, seed)) for seed in range(config.seeds)]
    rates = config.learning_rates()
    trained = training.fit_full_batch(
        KEYS(config.seed, "steps", kind, TREATMENTS.index(group.treatment)),
        Loss(module, group.treatment, config.rho, config.strength),
        training.stack(start),
        (task.pairs[train], task.labels[train]),
        training.FullBatchConfig(
            steps=config.epochs, every=config.every, models_per_device=config.models_per_device,
            reproducible=config.reproducible,
        ),
        learning_rate=rates,
        weight_decay=np.full(config.seeds, group.decay),
        measure=measure_with(config, module, train),
        checkpoint=checkpoint,
        progress=group.name,
    )  # fmt: skip
    return {"epochs": trained.steps, "learning_rate": rates, **trained.history}


def learn_parity(config: Config) -> dict[str, Array]:
    """Train transformers on the sparse parity of Vasudeva et al., A.6, and follow their sensitivity.

    Returns:
        ``epochs [p]``, and accuracies and normalized sensitivity on fresh strings ``[seeds p]``.
    """
    module, seeds = config.recognizer, range(config.parity_seeds)
    apply = recognizers.training_evaluation(module)
    train = [_parity(config, seed, "parity_strings", config.parity_strings) for seed in seeds]
    probes = [_parity(config, seed, "parity_probes", config.parity_probes) for seed in seeds]
    points = config.parity_measured
    curves = {name: np.full((len(seeds), len(points)), np.nan) for name in PARITY_CURVES}
    profile = boolean.sensitivity_profile(
        substitution.one_at_a_time(apply), execution=Execution(chunk=max(config.rows, config.parity_length + 1))
    )

    def follow(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        if epoch not in points:
            return
        place = int(np.searchsorted(points, epoch))
        for number, seed in enumerate(present):
            one = jax.tree.map(lambda a, n=number: a[n], variables)
            for name, (strings, labels) in zip(PARITY_CURVES, (train[seed], probes[seed]), strict=False):
                curves[name][seed, place] = _accuracy(config, apply, one, strings, labels)
            average = profile(jax.random.key(0), one, probes[seed][0]).normalized_average
            curves["sensitivity"][seed, place] = float(average.mean)

    start = [recognizers.init(module, KEYS(config.seed, "parity_weights", seed), "xavier_uniform") for seed in seeds]
    follow(0, np.arange(len(seeds)), training.stack(start))
    training.fit_many(
        KEYS(config.seed, "parity_order"),
        apply,
        training.stack(start),
        training.Members(
            learning_rate=[config.parity_rate] * len(seeds), batch=[config.parity_batch] * len(seeds),
            dataset=list(seeds),
        ),
        tuple(np.stack([one[part] for one in train]) for part in (0, 1)),
        training.ManyConfig(
            epochs=config.parity_epochs, lr_patience=None, patience=None, keep="last", rows=config.rows,
            models_per_device=config.models_per_device, reproducible=config.reproducible,
        ),
        # A few strings: the accuracies that are kept are taken at fewer epochs.
        validation=tuple(np.stack([one[part][: config.rows] for one in train]) for part in (0, 1)),
        after_epoch=follow,
        progress="sparse parity",
    )  # fmt: skip
    return {"epochs": points, **curves}


def _parity(config: Config, seed: int, purpose: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw strings and the parity of the bits of a seed."""
    drawn = np.random.default_rng([config.seed, 1, seed]).permutation(config.parity_length)[: config.parity_relevant]
    strings = np.asarray(
        boolean.strings.uniform(KEYS(config.seed, purpose, seed), count, config.parity_length), np.uint8
    )
    language = languages.sparse_parity(config.parity_length, sorted(drawn.tolist()))
    return strings, np.asarray(language.accept(strings), np.float32)


def _accuracy(config: Config, apply: Apply, variables: PyTree, strings: np.ndarray, labels: np.ndarray) -> float:
    scores = map_items(bind(_score, apply), strings, variables, execution=Execution(chunk=config.rows))
    return float(((scores > 0) == (labels > 0.5)).mean())


def _score(apply: Apply, string: Array, variables: PyTree) -> Array:
    return apply(variables, string[None])[0]


def _cross_entropy(logits: Array, labels: Array) -> Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
