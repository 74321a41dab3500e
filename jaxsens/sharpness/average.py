"""Average-case sharpness: how outputs, predictions and the loss change when the weights are perturbed.

The draws, or antithetic pairs of them, are the independent units, conditional on the data. All examples see the same
draw, and so do all models that are measured together.
"""

from collections.abc import Callable

from jaxsens import changes, perturb
from jaxsens.execution import checks
from jaxsens.execution.checks import require_count
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.sharpness import classification
from jaxsens.sharpness.weight_noise import WeightNoiseEstimator
from jaxsens.typing import Array, Change, Loss, Perturbation, PyTree, Where

__all__ = [
    "average_sharpness",
    "classifier_sharpness",
    "output_sharpness",
    "prediction_sharpness",
    "weight_changes",
]


def output_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> WeightNoiseEstimator:
    """Measure ``ShOp = E_x,xi sum_k |f_k(params + xi; x) - f_k(params; x)|``, in units of the logits.

    The absolute change is summed over the logits and averaged over examples, as published (Vasudeva et al.,
    Transformers Learn Low Sensitivity Functions, s.7.2; the sum is in its code), but in evaluation mode.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, deterministic.
        perturbation: Sampler of weight noise, such as ``perturb.gaussian(variance=0.005**2)``.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, for a batch with leading axis ``b``; and
        ``measure.over_models(key, stacked, batch)`` for many models at once.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1, or not a multiple of the draws that depend on each
            other; when called, if the key is not a typed threefry key, the batch is empty or does not fit the model,
            outputs depend on the batch, or no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.

    Example:
        >>> measure = output_sharpness(lambda w, x: x @ w, perturb.gaussian(0.01), draws=100)
        >>> measure(jax.random.key(0), np.ones((3, 2), np.float32), np.eye(3, dtype=np.float32)).count
        100
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, where=where)
    return weight_changes(
        apply, perturbation, change=changes.absolute_change, draws=draws, where=where, execution=execution
    )


def prediction_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> WeightNoiseEstimator:
    """Measure ``ShPred = P_x,xi[prediction(params + xi; x) != prediction(params; x)]``.

    The prediction is the argmax of logits ``[b k]``, or the sign of a score ``[b]`` or ``[b 1]``. (Vasudeva et al.,
    Transformers Learn Low Sensitivity Functions, s.7.2, in evaluation mode.)

    Args:
        apply: ``apply(params, batch)`` -> logits ``[b k]`` or scores ``[b]``, deterministic.
        perturbation: Sampler of weight noise, such as ``perturb.gaussian(variance=0.005**2)``.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` of a rate over draws, for a batch with leading axis ``b``; and
        ``measure.over_models(key, stacked, batch)`` for many models at once.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1, or not a multiple of the draws that depend on each
            other; when called, if the key is not a typed threefry key, the batch is empty or does not fit the model,
            outputs depend on the batch, or no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.

    Example:
        >>> measure = prediction_sharpness(lambda w, x: x @ w, perturb.gaussian(0.0), draws=4)
        >>> measure(jax.random.key(0), np.ones(3, np.float32), np.eye(3, dtype=np.float32)).values.tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, where=where)
    changes.warn_of_coordinates(apply, changes.prediction_change, stacklevel=3)
    return weight_changes(
        apply, perturbation, change=changes.prediction_change, draws=draws, where=where, execution=execution
    )


def average_sharpness(
    loss: Loss,
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> WeightNoiseEstimator:
    """Measure ``E_xi L(params + xi) - L(params)``, with ``L`` the mean of a loss per example.

    For small Gaussian noise it is ``variance / 2 * trace(Hessian)``; exactly so where L is quadratic. (Average-case
    sharpness as in Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, s.2.)

    Args:
        loss: ``loss(params, batch)`` -> losses ``[b]``, deterministic.
        perturbation: Sampler of weight noise.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` over draws, in the units of the loss.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1, or not a multiple of the draws that depend on each
            other; when called, if the key is not a typed threefry key, the batch is empty or does not fit the model,
            outputs depend on the batch, or no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.

    Example:
        >>> loss = lambda w, x: ((x - w[None]) ** 2).sum(1)
        >>> measure = average_sharpness(loss, perturb.antithetic(perturb.gaussian(0.01)), draws=2000)
        >>> estimate = measure(jax.random.key(0), np.zeros(4, np.float32), np.ones((5, 4), np.float32))
        >>> abs(estimate.mean - 4 * 0.01) < 4 * estimate.sem
        np.True_
    """
    require_execution(execution)
    checks.require_functions(loss=loss, perturbation=perturbation, where=where)
    return weight_changes(loss, perturbation, change=_increase, draws=draws, where=where, execution=execution)


def classifier_sharpness(
    apply: Callable[[PyTree, PyTree], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> WeightNoiseEstimator:
    """Measure four sharpnesses of a classifier in one pass, from the same draws.

    ``loss`` is the rise of the mean cross-entropy in nats, ``error`` the rise of the fraction of wrong predictions,
    ``output`` the absolute change summed over the logits, and ``prediction`` the rate of changed predictions. (Loss and
    error sharpness as in Andriushchenko et al., A Modern Look at the Relationship between Sharpness and
    Generalization.)

    Args:
        apply: ``apply(params, inputs)`` -> logits ``[b k]``, deterministic.
        perturbation: Sampler of weight noise.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves that move, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, (inputs, labels [b]))`` -> ``{"loss", "error", "output", "prediction"}``, each an
        ``Estimate`` over draws.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1, or not a multiple of the draws that depend on each
            other; when called, if the key is not a typed threefry key, the batch is empty or does not fit the model,
            outputs depend on the batch, no leaf is chosen, logits are
            not ``[b k]`` of at least two classes, or labels not integers ``[b]``.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is. The
            loss of a label outside ``0 .. k - 1`` is not finite.

    Example:
        >>> measure = classifier_sharpness(lambda w, x: x @ w, perturb.gaussian(0.01), draws=4)
        >>> batch = 2 * np.eye(3, dtype=np.float32), np.array([0, 1, 2])
        >>> sorted(measure(jax.random.key(0), np.eye(3, dtype=np.float32), batch))
        ['error', 'loss', 'output', 'prediction']
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, where=where)
    return weight_changes(
        classification.ClassifierOutputs(apply),
        perturbation,
        change=classification.all_changes,
        draws=draws,
        where=where,
        execution=execution,
    )


def weight_changes(
    apply: Callable[[PyTree, PyTree], PyTree],
    perturbation: Perturbation,
    *,
    change: Change,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> WeightNoiseEstimator:
    """Measure ``E_x,xi change(f(params; x), f(params + xi; x))`` for any change.

    The leaves of ``parameters.weights`` are perturbed: trained floating-point leaves, never batch statistics. Weights
    in float16 or bfloat16 are copied to float32, and the model is evaluated with the copies, so that noise below their
    rounding is not lost; a model that casts its weights down itself loses it again. A draw that leaves all weights as
    they are changes nothing, to the bit.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``, a pytree of them allowed.
        perturbation: Sampler of weight noise: a sampler on the tuple of chosen leaves.
        change: Function recorded of ``(clean [*k], changed [*k])`` for an example. Where it is a pytree of scalars, the
            result is one of estimates, all from one pass.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves further, to a layer for instance.
        execution: How to run; its ``chunk`` counts model forwards, examples times draws.

    Returns:
        ``measure(key, params, batch)`` -> ``Estimate`` whose values are the means over examples, one for each draw, or
        for each antithetic pair; and ``measure.over_models(key, stacked, batch)`` for many models at once.

    Raises:
        ValueError: If ``draws`` is not an integer of at least 1, or not a multiple of the draws that depend on each
            other; when called, if the key is not a typed threefry key, the batch is empty or does not fit the model,
            outputs depend on the batch, or no leaf is chosen.
        FloatingPointError: When called, if an output is not finite; the message says where the first one is.

    Example:
        >>> measure = weight_changes(
        ...     lambda w, x: x @ w, perturb.gaussian(4.0), change=changes.squared_change, draws=2000
        ... )
        >>> estimate = measure(jax.random.key(0), np.zeros((3, 2), np.float32), np.eye(3, dtype=np.float32))
        >>> abs(estimate.mean - 2 * 4.0) < 4 * estimate.sem
        np.True_
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, change=change, where=where)
    draws = require_count("draws", draws)
    together = perturb.dependent_draws(perturbation)
    if draws % together:
        raise ValueError(
            f"draws must be a multiple of {together}, the number of draws that depend on each other, got {draws}"
        )
    return WeightNoiseEstimator(apply, perturbation, change, draws, where, execution)


def _increase(before: Array, after: Array) -> Array:
    if before.ndim:
        raise ValueError(f"loss must give one number for an example, [b] for a batch, got [b, *{before.shape}]")
    return changes.at_least_float32(after) - changes.at_least_float32(before)
