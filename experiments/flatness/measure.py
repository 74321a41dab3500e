"""How sensitive one trained model is, and how sharp its minimum: every measure of ``experiments.flatness``.

Each is kept as the values of its independent units: images, draws, groups of images, probes.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import harness
from experiments.images.bench import Bench, function_scale, logits, parameter_count
from jaxsens import changes, curvature, models, parameters, perturb, scales, substitution, training
from jaxsens.execution import Execution, batches, parallel
from jaxsens.sensitivity import token
from jaxsens.sharpness import average, classification, worst_case
from jaxsens.typing import Apply, Array, Key, PyTree

__all__ = ["AVERAGED", "RELATIVE", "measure", "train_and_measure", "train_mode_copies"]

AVERAGED = ("loss", "error", "output", "prediction")
"""What noise on the weights changes."""

RELATIVE = {"by_leaf": scales.by_leaf, "by_filter": scales.by_filter, "by_element": scales.by_element}
"""Noise in proportion to the size of the weights."""


def train_and_measure(run: harness.Run, bench: Bench, name: str, learning_rate: float, seed: int) -> dict[str, Array]:
    """Train one model, and measure everything."""
    label = f"{name}-seed{seed}"
    variables, losses = bench.trained(run, name, learning_rate, seed)
    measured = measure(bench, bench.module(name), variables, label)
    return measured | {"learning_rate": learning_rate, "losses": losses}


def measure(bench: Bench, module: Any, variables: PyTree, label: str) -> dict[str, Array]:
    """Return all measures of a model."""
    config, data, apply = bench.config, bench.data, models.evaluation(module)
    batch = tuple(part[: config.measured] for part in data.train)
    tokens = token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(config.noise), draws=config.draws,
        execution=Execution(chunk=config.chunk, progress=f"{label}: tokens"),
    )(bench.key("noise"), variables, batch[0])  # fmt: skip
    clean = logits(apply, variables, batch[0])
    return {
        "parameters": parameter_count(variables),
        "sensitivity": tokens.per_example,
        "test_correct": training.accuracy(apply, variables, *data.test),
        "train_correct": training.accuracy(apply, variables, *data.train),
        "chunk": tokens.chunk,
        # Output sharpness is divided by it, to tell a flat function from a small one.
        "scale": function_scale(clean),
        **average_cases(bench, apply, variables, batch, label),
        **worst_cases(bench, apply, variables, batch, label),
        **curvatures(bench, apply, variables, batch),
        **train_mode_copies(bench, module, variables, batch[0], clean),
    }


def average_cases(
    bench: Bench, apply: Apply, variables: PyTree, batch: tuple[Array, Array], label: str
) -> dict[str, Array]:
    """Return the rise of loss and error, and the changes of outputs and predictions, under noise on the weights."""
    config, key = bench.config, bench.key("weights")
    noises = {f"gaussian_{deviation:g}": perturb.gaussian(deviation**2) for deviation in config.deviations}
    relative = perturb.gaussian(config.relative_deviation**2)
    noises |= {name: perturb.relative(relative, scale) for name, scale in RELATIVE.items()}
    results = {}
    for name, noise in noises.items():
        sharpness = partial(
            average.classifier_sharpness, perturbation=noise, draws=config.sharpness_draws,
            execution=Execution(chunk=config.chunk, progress=f"{label}: {name}"),
        )  # fmt: skip
        estimates = sharpness(apply)(key, variables, batch)
        results |= {f"{what}_{name}": estimates[what].values for what in AVERAGED}
        if name.startswith("gaussian"):
            normalized = sharpness(classification.NormalizedLogits(apply))(key, variables, batch)
            results[f"normalized_loss_{name}"] = normalized["loss"].values
    return results


def worst_cases(
    bench: Bench, apply: Apply, variables: PyTree, batch: tuple[Array, Array], label: str
) -> dict[str, Array]:
    """Return the largest rise of the loss of each group of images, in four balls around the weights."""
    config = bench.config
    balls = {
        "worst_l2": ("l2", scales.absolute, config.radius),
        "worst_linf": ("linf", scales.absolute, config.box),
        "worst_adaptive_l2": ("l2", scales.by_element, config.relative_radius),
        "worst_adaptive_linf": ("linf", scales.by_element, config.relative_box),
    }
    results = {}
    for name, (norm, scale, radius) in balls.items():
        worst = worst_case.worst_case_sharpness(
            classification.CrossEntropy(apply), radius, norm=norm, scale=scale, group=config.group,
            iterations=config.iterations, keep=False,
            execution=Execution(chunk=config.chunk, progress=f"{label}: {name}"),
        )(bench.key("starts"), variables, batch)  # fmt: skip
        results |= {name: worst.values}
        if norm == "l2":
            results[name.replace("worst", "one_step")] = worst.one_step
    return results


def curvatures(bench: Bench, apply: Apply, variables: PyTree, batch: tuple[Array, Array]) -> dict[str, Array]:
    """Return trace, top eigenvalue and spectral density of the Hessian of the loss."""
    config, key = bench.config, bench.key("probes")
    product = curvature.hessian_product(classification.CrossEntropy(apply), execution=Execution(chunk=config.chunk))
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


def train_mode_copies(bench: Bench, module: Any, variables: PyTree, tokens: Array, clean: Array) -> dict[str, Array]:
    """Return output and prediction sharpness as the published code has them: the noisy copy is in training mode.

    It drops activations, and normalizes by the statistics of its batch of ``config.group`` images; the model it is
    compared with, of logits ``clean [b k]``, does not. At deviation 0 only these effects are left. The draws are those
    of `average_cases`.
    """
    config = bench.config
    blocks = batches.in_blocks(tokens, len(tokens) // config.group, config.group)
    results = {}
    for deviation in (0.0, *config.deviations):
        output, prediction = parallel.map_items(
            parallel.bind(_train_mode_copy, module), np.arange(config.sharpness_draws, dtype=np.uint32),
            bench.key("weights"), bench.key("dropout"), np.float32(deviation**2), variables, blocks, clean,
            execution=Execution(chunk=1),
        )  # fmt: skip
        results |= {f"train_mode_output_{deviation:g}": output, f"train_mode_prediction_{deviation:g}": prediction}
    return results


def _train_mode_copy(
    module: Any, draw: Array, key: Key, dropout: Key, variance: Array, variables: PyTree, blocks: Array, clean: Array
) -> tuple[Array, Array]:
    weights, put_back = parameters.weights(variables)
    moved = put_back(perturb.Gaussian(variance)(key, draw, weights))
    keys = jax.random.split(jax.random.fold_in(dropout, draw), len(blocks))
    apply = models.train_apply(module)
    noisy = jax.lax.map(lambda pair: apply(moved, pair[0], pair[1])[0], (blocks, keys)).reshape(clean.shape)
    output = jax.vmap(changes.absolute_change)(clean, noisy).mean()
    return output, jax.vmap(changes.prediction_change)(clean, noisy).mean(dtype=jnp.float32)
