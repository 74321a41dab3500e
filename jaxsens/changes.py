"""Changes: what is recorded of an output and of the output after a perturbation, for one example.

Each function maps ``(clean [*k], changed [*k])`` to a scalar. Booleans are events: their mean is a rate. Differences
are taken in float32 at least: integers never wrap, and those of outputs in float16 and bfloat16 are not rounded. Of
complex differences the absolute value is taken. ``over_positions`` is for models that give an output for each token: it
takes the mean of such a change over the positions of the output.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks
from jaxsens.output_positions import WORDS, OverPositions, one_position
from jaxsens.typing import Array, Change, PyTree

__all__ = [
    "OverPositions",
    "absolute_change",
    "at_least_float32",
    "euclidean_change",
    "largest_change",
    "nonfinite",
    "over_positions",
    "prediction_change",
    "sign_change",
    "squared_change",
    "warn_of_coordinates",
]


def prediction_change(clean: Array, changed: Array) -> Array:
    """Return whether the predicted class changed: ``argmax clean != argmax changed``.

    An output ``[]`` or ``[1]`` is the score of a binary classifier and predicts by its sign. (The change of Def. 4.1 in
    Vasudeva et al., Transformers Learn Low Sensitivity Functions.)

    Args:
        clean: The logits ``[k]``, or one score ``[]`` or ``[1]``.
        changed: The same, after the perturbation.

    Returns:
        A boolean scalar.

    Raises:
        ValueError: If outputs have more than one axis, or are complex.

    Example:
        >>> bool(prediction_change(jnp.array([1.0, 3.0, -2.0]), jnp.array([4.0, 3.0, 2.0])))
        True
    """
    clean, changed = _outputs(clean, changed)
    if clean.size == 1:
        return sign_change(clean, changed)
    _require_real(clean)
    if clean.ndim != 1 or not clean.size:
        raise ValueError(
            f"prediction_change needs logits [k] for an example, got shape {clean.shape}: where the model gives logits "
            "for each token, pass changes.over_positions(changes.prediction_change)"
        )
    return clean.argmax() != changed.argmax()


def sign_change(clean: Array, changed: Array) -> Array:
    """Return whether the sign of a score changed: ``(clean > 0) != (changed > 0)``; a score of 0 counts as negative.

    Args:
        clean: The score, ``[]`` or ``[1]``: a logit, not a probability.
        changed: The same, after the perturbation.

    Returns:
        A boolean scalar.

    Raises:
        ValueError: If there is more than one score, or it is complex.

    Example:
        >>> bool(sign_change(jnp.array(0.0), jnp.array(-1.0)))
        False
    """
    clean, changed = _outputs(clean, changed)
    _require_real(clean)
    if clean.size != 1:
        raise ValueError(f"sign_change needs one score for an example, got shape {clean.shape}")
    return ((clean > 0) != (changed > 0)).reshape(())


def squared_change(clean: Array, changed: Array) -> Array:
    """Return ``sum_k |changed_k - clean_k|^2``, in squared units of the output.

    Args:
        clean: Outputs ``[*k]`` of any dtype.
        changed: The same, after the perturbation.

    Example:
        >>> float(squared_change(jnp.uint8([5, 0]), jnp.uint8([3, 20])))
        404.0
    """
    return jnp.sum(_distance(clean, changed) ** 2)


def absolute_change(clean: Array, changed: Array) -> Array:
    """Return ``sum_k |changed_k - clean_k|``: the l1 norm of the change of all outputs, not their mean.

    Args:
        clean: Outputs ``[*k]`` of any dtype.
        changed: The same, after the perturbation.

    Example:
        >>> float(absolute_change(jnp.array([1.0, 3.0]), jnp.array([4.0, -1.0])))
        7.0
    """
    return jnp.sum(_distance(clean, changed))


def euclidean_change(clean: Array, changed: Array) -> Array:
    """Return ``sqrt(sum_k |changed_k - clean_k|^2)``: the l2 norm of the change.

    Args:
        clean: Outputs ``[*k]`` of any dtype.
        changed: The same, after the perturbation.

    Example:
        >>> float(euclidean_change(jnp.array([1.0, 3.0]), jnp.array([4.0, -1.0])))
        5.0
    """
    return jnp.sqrt(squared_change(clean, changed))


def largest_change(clean: Array, changed: Array) -> Array:
    """Return ``max_k |changed_k - clean_k|``: the l-infinity norm of the change.

    Args:
        clean: Outputs ``[*k]`` of any dtype.
        changed: The same, after the perturbation.

    Example:
        >>> float(largest_change(jnp.array([1.0, 3.0]), jnp.array([4.0, -1.0])))
        4.0
    """
    return jnp.max(_distance(clean, changed))


def over_positions(change: Change = prediction_change, positions: str | int | Sequence[int] = "all") -> "OverPositions":
    """Return the change of a model that gives an output for each token: the mean of ``change`` over output positions.

    ``C = sum over j in P of change(clean_j, changed_j) / |P|``, where ``clean_j [*k]`` is the output at token j. Of an
    event such as ``prediction_change`` it is the share of positions where it occurs, in [0, 1].

    Args:
        change: Function of ``(clean_j [*k], changed_j [*k])`` to a scalar.
        positions: The set P. Padding is never in it.

            - ``"all"``: every real token.
            - ``"sites"``: the tokens that are sites, such as the words without the tokens that mark start and end.
            - ``"replaced"``: the replaced token only; of a group, its tokens.
            - ``"others"``: every real token but the replaced one.
            - ``"onward"``: the replaced token and all real ones after it, which are all that can change in a causal
              model; of a group, its first token and all after it.
            - One position, or several, counted from 0, the same for all examples.

    Returns:
        A change for ``token_sensitivity``, of outputs ``(clean [t *k], changed [t *k])``; equal arguments give equal
        changes, which share compiled code. Measures that replace no token, such as ``output_sharpness``, take it with
        ``"all"`` or with positions given as numbers; they have no mask, and count padding.

    Raises:
        ValueError: If positions are none of these. When measured, if the model does not give an output for each token,
            a position is beyond the tokens, or P is empty for an example.

    Example:
        >>> clean, changed = jnp.array([[1.0], [-1.0], [2.0], [2.0]]), jnp.array([[1.0], [1.0], [-2.0], [2.0]])
        >>> float(over_positions(prediction_change)(clean, changed))
        0.5
        >>> float(over_positions(absolute_change, [2, 3])(clean, changed))
        2.0
    """
    checks.require_functions(change=change)
    if isinstance(change, OverPositions):
        raise ValueError("change must be the change of one position's output, got one that is over positions already")
    if isinstance(positions, str):
        if positions not in WORDS:
            raise ValueError(f"positions must be one of {', '.join(WORDS)}, or numbers, got {positions!r}")
        return OverPositions(change, positions)
    numbers = checks.host_values(positions, "positions")
    if numbers.dtype.kind not in "iu" or numbers.ndim > 1 or not numbers.size or numbers.min() < 0:
        raise ValueError(f"positions must be one of {', '.join(WORDS)}, or numbers of tokens from 0, got {positions!r}")
    return OverPositions(change, tuple(sorted(set(np.atleast_1d(numbers).tolist()))))


def nonfinite(outputs: PyTree) -> Array:
    """Return for every example of a batch ``[b *k]`` whether any of its outputs is NaN or infinite, ``[b]``.

    Example:
        >>> nonfinite(jnp.array([[1.0, 2.0], [jnp.nan, 0.0]])).tolist()
        [False, True]
    """
    rows = [~jnp.isfinite(a).reshape(len(a), -1).all(1) for a in jax.tree.leaves(outputs)]
    return jnp.stack(rows).any(0)


def at_least_float32(values: Array) -> Array:
    """Return numbers or booleans in a floating-point dtype of at least 32 bits; float32 and float64 stay.

    Example:
        >>> at_least_float32(jnp.bfloat16(1)).dtype, at_least_float32(jnp.int8(1)).dtype
        (dtype('float32'), dtype('float32'))
    """
    values = jnp.asarray(values)
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return values.astype(jnp.result_type(float))
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def warn_of_coordinates(apply: Any, change: Any, *, stacklevel: int = 4) -> None:
    """Warn where predictions would be read from an encoder of this library that has no classifier.

    Args:
        apply: A module, or a function of one as ``models.evaluation`` and the adapters of ``models`` make it.
        change: What is recorded; only with ``prediction_change`` are predictions read.
        stacklevel: Of the warning: 4 for the caller of a measure.

    Example:
        >>> warn_of_coordinates(lambda params, tokens: tokens, prediction_change)  # no encoder of this library
    """
    while hasattr(apply, "apply") and not hasattr(apply, "module"):
        apply = apply.apply
    static = getattr(apply, "static", ())
    parts = (apply, getattr(apply, "module", None), *(static if isinstance(static, tuple) else ()))
    config = next((part.config for part in parts if hasattr(part, "config")), None)
    headless = getattr(config, "classes", 0) is None and getattr(config, "read_out", "next") != "next"
    if headless and one_position(change) is prediction_change:
        warnings.warn(
            "the model has no classifier, so that the prediction is the number of its largest coordinate: build or "
            "load it with classes, or pass another change, such as changes.euclidean_change",
            UserWarning,
            stacklevel=stacklevel,
        )


def _distance(clean: Array, changed: Array) -> Array:
    """Return ``|changed - clean|`` element by element, as floating-point numbers."""
    clean, changed = _outputs(clean, changed)
    if jnp.issubdtype(clean.dtype, jnp.integer):
        # The larger less the smaller one, as unsigned numbers: exact for the whole range of every integer dtype.
        unsigned = jnp.dtype(f"uint{8 * clean.dtype.itemsize}")
        larger, smaller = jnp.maximum(clean, changed), jnp.minimum(clean, changed)
        return at_least_float32(larger.astype(unsigned) - smaller.astype(unsigned))
    return jnp.abs(at_least_float32(changed) - at_least_float32(clean))


def _outputs(clean: Array, changed: Array) -> tuple[Array, Array]:
    """Return both outputs as arrays of JAX, or raise ValueError unless they are numbers of one shape and kind."""
    clean, changed = (
        value if isinstance(value, jax.Array) else jnp.asarray(checks.host_values(value, name, narrow=True))
        for name, value in (("clean", clean), ("changed", changed))
    )
    if clean.shape != changed.shape or clean.dtype != changed.dtype:
        raise ValueError(
            f"clean and changed must have one shape and dtype, got {clean.shape} {clean.dtype} and {changed.shape} "
            f"{changed.dtype}"
        )
    return clean, changed


def _require_real(outputs: Array) -> None:
    if jnp.issubdtype(outputs.dtype, jnp.complexfloating):
        raise ValueError(
            f"predictions need real outputs, got {outputs.dtype}: take the real part or the absolute value"
        )


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
