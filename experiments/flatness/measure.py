"""How sensitive one trained model is, and how sharp its minimum: every measure of ``experiments.flatness``."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.flatness.config import Config
from experiments.images.config import Data
from experiments.images.training import key_of, logits_of, scale_of
from jaxsens import changes, curvature, models, parameters, perturb, scales, substitution, training
from jaxsens.execution import Execution, batches, parallel
from jaxsens.sensitivity import token
from jaxsens.sharpness import average, classification, worst_case
from jaxsens.typing import Apply, Array, Key, PyTree

AVERAGED = ("loss", "error", "output", "prediction")
RELATIVE = {"by_leaf": scales.by_leaf, "by_filter": scales.by_filter, "by_element": scales.by_element}


def measure(config: Config, data: Data, module: Any, variables: PyTree, label: str) -> dict[str, Array]:
    """Return all measures of a model, each as the values of its independent units (images, draws, groups, probes)."""
    apply = models.evaluation(module)
    batch = tuple(part[: config.measured] for part in data.train)
    tokens = token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(config.noise), draws=config.draws, execution=Execution(chunk=config.chunk, progress=f"{label}: tokens"),
        )(key_of(config, "noise"), variables, batch[0])  # fmt: skip
    found = {
        "parameters": models.parameter_count(variables),
        "sensitivity": tokens.per_example,
        "test_correct": training.accuracy(apply, variables, *data.test),
        "train_correct": training.accuracy(apply, variables, *data.train),
        "chunk": tokens.chunk,
    }
    logits = logits_of(apply, variables, batch[0])
    # By it output sharpness is divided, to tell flat from merely small.
    found["scale"] = scale_of(logits)
    found |= average_cases(config, apply, variables, batch, label)
    found |= worst_cases(config, apply, variables, batch, label)
    found |= curvatures(config, apply, variables, batch)
    return found | train_mode_copies(config, module, variables, batch[0], logits)


def average_cases(
    config: Config, apply: Apply, variables: PyTree, batch: tuple[Array, Array], label: str
) -> dict[str, Array]:
    """Return the rise of loss and error, and the changes of outputs and predictions, under noise on the weights."""
    noises = {f"gaussian_{deviation:g}": perturb.gaussian(deviation**2) for deviation in config.deviations}
    relative = perturb.gaussian(config.relative_deviation**2)
    noises |= {name: perturb.relative(relative, scale) for name, scale in RELATIVE.items()}
    found = {}
    for name, noise in noises.items():
        four = partial(
            average.classifier_sharpness, perturbation=noise, draws=config.sharpness_draws, execution=Execution(chunk=config.chunk, progress=f"{label}: {name}"),
            )  # fmt: skip
        estimates = four(apply)(key_of(config, "weights"), variables, batch)
        found |= {f"{what}_{name}": estimates[what].values for what in AVERAGED}
        if name.startswith("gaussian"):
            blind = four(classification.NormalizedLogits(apply))(key_of(config, "weights"), variables, batch)
            found[f"normalised_loss_{name}"] = blind["loss"].values
    return found


def worst_cases(
    config: Config, apply: Apply, variables: PyTree, batch: tuple[Array, Array], label: str
) -> dict[str, Array]:
    """Return the largest rise of the loss of each group of images, in four balls around the weights."""
    balls = {
        "worst_l2": ("l2", scales.absolute, config.radius),
        "worst_linf": ("linf", scales.absolute, config.box),
        "worst_adaptive_l2": ("l2", scales.by_element, config.relative_radius),
        "worst_adaptive_linf": ("linf", scales.by_element, config.relative_box),
    }
    found = {}
    for name, (norm, scale, radius) in balls.items():
        worst = worst_case.worst_case_sharpness(
            classification.CrossEntropy(apply), radius, norm=norm, scale=scale, group=config.group,
            iterations=config.iterations, keep=False, execution=Execution(chunk=config.chunk, progress=f"{label}: {name}"), )(key_of(config, "starts"), variables, batch)  # fmt: skip
        found |= {name: worst.values}
        if norm == "l2":
            found[name.replace("worst", "one_step")] = worst.one_step
    return found


def curvatures(config: Config, apply: Apply, variables: PyTree, batch: tuple[Array, Array]) -> dict[str, Array]:
    """Return trace, top eigenvalue and spectral density of the Hessian of the loss."""
    product = curvature.hessian_product(classification.CrossEntropy(apply), execution=Execution(chunk=config.chunk))
    key = key_of(config, "probes")
    trace = curvature.trace(product, probes=config.probes)(key, variables, batch)
    top = curvature.top_eigenpairs(product, 1, steps=config.lanczos_steps, tolerance=config.tolerance)
    pair = top(key, variables, batch)
    density = curvature.spectral_density(product, probes=config.density_probes, steps=config.lanczos_steps)
    spectrum = density(key, variables, batch)
    return {
        "trace": trace.values,
        "top_eigenvalue": pair.values[0],
        "top_residual": pair.residuals[0],
        "top_converged": pair.converged[0],
        "atoms": spectrum.atoms,
        "atom_weights": spectrum.weights,
    }


def train_mode_copies(config: Config, module: Any, variables: PyTree, tokens: Array, clean: Array) -> dict[str, Array]:
    """Return output and prediction sharpness as the published code has them: the noisy copy is in training mode.

    It drops activations, and normalises by the statistics of its batch, ``config.group`` images; the model it is
    compared with, of logits ``clean [b k]``, does not. At deviation 0 that alone is left. The draws are those of
    ``average_cases``.
    """
    blocks = batches.in_blocks(tokens, len(tokens) // config.group, config.group)
    copy = _TrainModeCopy(module)
    found = {}
    for deviation in (0.0, *config.deviations):
        output, prediction = parallel.map_items(
            copy, np.arange(config.sharpness_draws, dtype=np.uint32), key_of(config, "weights"),
            key_of(config, "dropout"), np.float32(deviation**2), variables, blocks, clean, execution=Execution(chunk=1),
        )  # fmt: skip
        found |= {f"train_mode_output_{deviation:g}": output, f"train_mode_prediction_{deviation:g}": prediction}
    return found


@dataclass(frozen=True)
class _TrainModeCopy:
    module: Any

    def __call__(
        self, draw: Array, key: Key, dropout: Key, variance: Array, variables: PyTree, blocks: Array, clean: Array
    ) -> tuple[Array, Array]:
        weights, put_back = parameters.weights(variables)
        moved = put_back(perturb.Gaussian(variance)(key, draw, weights))
        keys = jax.random.split(jax.random.fold_in(dropout, draw), len(blocks))
        apply = models.train_apply(self.module)
        with jax.default_matmul_precision("highest"):
            logits = jax.lax.map(lambda pair: apply(moved, pair[0], pair[1])[0], (blocks, keys))
        logits = logits.reshape(clean.shape)
        output = jax.vmap(changes.absolute_change)(clean, logits).mean()
        return output, jax.vmap(changes.prediction_change)(clean, logits).mean(dtype=jnp.float32)
