"""Training of one model of ``experiments.language``, and what is measured of it during training and at its end."""

from typing import Any

import jax
import numpy as np

import jaxsens
from experiments import harness
from experiments.language import models
from experiments.language.config import FAMILIES, KEYS, Config
from experiments.language.data import ORDINARY, Reading
from experiments.language.perturbations import TREATMENTS, Noise, OtherWord, of_embeddings, of_ids
from jaxsens import substitution, training
from jaxsens.execution import Execution
from jaxsens.models.text import encoder
from jaxsens.sensitivity import Groups
from jaxsens.typing import Array, PyTree

__all__ = ["measure", "name_of", "search", "train_and_measure"]

_EVALUATION = Execution(chunk=100)


def search(config: Config, reading: Reading, family: str, rate: float) -> dict[str, Array]:
    """Train one more model, which is not among those that are compared, at a learning rate.

    Returns:
        Of the model at the end of training, ``loss`` of the held-out texts, in nats, their ``accuracy``, and
        ``train_accuracy`` of the measured training texts; if training diverged, an infinite loss and accuracies of 0.
    """
    try:
        module, variables, _ = _train(config, reading, family, rate, config.seeds)
    except training.Diverged:
        return {"loss": np.inf, "accuracy": 0.0, "train_accuracy": 0.0}
    apply, (ids, labels) = models.evaluation(module), reading.validation
    logits = np.asarray(harness.outputs_on(apply, variables, ids, execution=_EVALUATION))
    log = np.asarray(jax.nn.log_softmax(logits))
    return {
        "loss": -log[np.arange(len(labels)), labels].mean(),
        "accuracy": (logits.argmax(1) == labels).mean(),
        "train_accuracy": training.accuracy(apply, variables, *_shown(config, reading), execution=_EVALUATION).mean(),
    }


def train_and_measure(config: Config, reading: Reading, family: str, rate: float, seed: int) -> dict[str, Array]:
    """Train one model and measure it.

    Returns:
        ``parameters``; ``losses [epochs]``, in nats; ``curve_sensitivity [e b]`` and ``curve_accuracy [e n]`` of
        training texts after the epochs ``config.points``; ``test_correct [n]`` and ``train_correct [b]``;
        ``majority``, the accuracy of the most frequent class on the measured training texts; and what `measure` gives.
    """
    curve: list[dict[str, np.ndarray]] = []
    points = config.points

    def follow(epoch: int, variables: PyTree) -> None:
        if epoch in points:
            curve.append(_point(config, reading, module, variables))

    module = models.module(config, family, reading.vocabulary)
    _, variables, losses = _train(config, reading, family, rate, seed, follow)
    shown, apply = _shown(config, reading), models.evaluation(module)
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "losses": losses,
        "curve_sensitivity": np.stack([point["sensitivity"] for point in curve]),
        "curve_accuracy": np.stack([point["accuracy"] for point in curve]),
        "test_correct": training.accuracy(apply, variables, *reading.test, execution=_EVALUATION),
        "train_correct": training.accuracy(apply, variables, *shown, execution=_EVALUATION),
        "majority": np.bincount(shown[1]).max() / len(shown[1]),
    } | measure(config, reading, module, variables)


def measure(config: Config, reading: Reading, module: Any, variables: PyTree) -> dict[str, Array]:
    """Measure the sensitivity of a model on the measured training texts.

    Returns:
        Shares of draws that change the prediction: for every treatment and variance, for ``words``, and for
        ``nearest``, which has a single draw, ``[b t]``, NaN where a token is no site; and for ``sentence`` and every
        variance, raw noise on all sites of a text at once, ``[b]``. Names are those of `name_of`.
    """
    read, key = reading.measured, KEYS(config.seed, "noise")
    x, mask = _embeddings(module, variables, read.tokens, read.mask), read.mask
    options = {"draws": config.draws}
    results = {}
    whole = np.where(read.sites, 0, -1)
    plain = substitution.one_at_a_time(encoder.from_embeddings(module))
    for variance in config.noise:
        for treatment in TREATMENTS:
            substitute = of_embeddings(module, treatment, config.rows)
            sensitivity_of = jaxsens.token_sensitivity(substitute, Noise(variance, treatment), **options)
            results[name_of(treatment, variance)] = sensitivity_of(key, variables, x, mask, read.sites).values
        sensitivity_of = jaxsens.token_sensitivity(plain, Noise(variance, "raw"), **options)
        results[name_of("sentence", variance)] = sensitivity_of(key, variables, x, mask, Groups(whole)).values[:, 0]
    words, key = OtherWord(ORDINARY, reading.vocabulary), KEYS(config.seed, "words")
    substitute, ids = of_ids(module, config.rows), np.where(mask, read.tokens, 0).astype(np.int32)
    sensitivity_of = jaxsens.token_sensitivity(substitute, words, **options)
    results["words"] = sensitivity_of(key, variables, ids, mask, read.sites).values
    nearest = jaxsens.nearest_tokens(variables["params"]["tokens"], exclude=range(ORDINARY))
    sensitivity_of = jaxsens.token_sensitivity(substitute, nearest)
    results["nearest"] = sensitivity_of(key, variables, ids, mask, read.sites).values
    return results


def name_of(treatment: str, variance: float) -> str:
    """Return the name of a measurement.

    Example:
        >>> name_of("raw", 15.0)
        'raw_15'
    """
    return f"{treatment}_{variance:g}"


def _train(
    config: Config, reading: Reading, family: str, rate: float, seed: int, follow: Any = None
) -> tuple[Any, PyTree, np.ndarray]:
    module, number = models.module(config, family, reading.vocabulary), FAMILIES.index(family)
    fitted = training.fit(
        KEYS(config.seed, "training", number, seed), models.train_apply(family, module),
        encoder.init(module, KEYS(config.seed, "weights", number, seed)), *reading.train,
        training.Config(
            config.epochs, config.batch, rate,
            training.Optimizer(
                "adamw", weight_decay=config.weight_decay, schedule=config.schedule,
                warmup=0.0 if config.schedule == "constant" else 0.1,
            ),
            reproducible=config.reproducible,
        ),
        after_epoch=follow, progress=f"{reading.name}, {family}, seed {seed}",
    )  # fmt: skip
    return module, *fitted


def _point(config: Config, reading: Reading, module: Any, variables: PyTree) -> dict[str, np.ndarray]:
    """Measure a model during its training, by one draw of the first variance, raw."""
    count = config.curve_texts
    tokens, mask, sites = (part[:count] for part in reading.measured[:3])
    substitute = of_embeddings(module, "raw", config.rows)
    sensitivity_of = jaxsens.token_sensitivity(substitute, Noise(config.noise[0], "raw"))
    x = _embeddings(module, variables, tokens, mask)
    sensitivity = sensitivity_of(KEYS(config.seed, "noise"), variables, x, mask, sites)
    accuracy = training.accuracy(models.evaluation(module), variables, *_shown(config, reading), execution=_EVALUATION)
    return {"sensitivity": sensitivity.per_example, "accuracy": accuracy}


def _shown(config: Config, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and labels of the measured training texts."""
    ids, labels = reading.train
    return ids[: config.measured], labels[: config.measured]


def _embeddings(module: Any, variables: PyTree, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(encoder.embed(module))(variables, np.where(mask, tokens, 0), mask))
