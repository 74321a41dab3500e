"""What is wrong with a call of a measure of tokens: the first of its parts that does not fit, and the remedy.

``require_parts`` and ``require_mask`` look at signatures only. ``misfit`` is called once a call has failed: it tries
the model, the perturbation, the substitution and the change one by one, on shapes.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import substitution
from jaxsens.execution import batches, checks
from jaxsens.output_positions import one_position
from jaxsens.typing import Apply, Array, Change, Key, Perturbation, PyTree, Substitute, SubstituteAt

__all__ = ["misfit", "misfit_of_model", "require_mask", "require_parts"]

_NO_MASKS = (
    "train", "training", "is_training", "deterministic", "inference", "use_running_average",
    "key", "rng", "rngs", "dropout_rng", "state", "dtype", "rows",
)  # fmt: skip
"""Names of arguments that are no masks, where the mask of the tokens would be taken for one."""


def require_parts(substitute: Any, perturbation: Any, change: Any) -> None:
    """Raise ValueError unless a substitution, a sampler and a change can be called as such.

    Example:
        >>> require_parts(lambda params, tokens: tokens.sum(1), lambda key, draw, x: x, max)
        Traceback (most recent call last):
        ValueError: substitute must be a function (params, tokens, alternatives, mask), ... one_at_a_time(apply)
    """
    substitution.require_substitute(substitute)
    if not callable(perturbation) or isinstance(perturbation, type):
        kind = f"the class {perturbation.__name__}" if isinstance(perturbation, type) else repr(perturbation)
        raise ValueError(
            f"perturbation must be a function (key, draw, tokens), got {kind}: pass a sampler, such as "
            "perturb.gaussian(variance=1.0)"
        )
    checks.require_functions(change=change)


def require_mask(substitute: Any, mask: Array | None) -> None:
    """Raise ValueError if there is a mask that the model would not take, or would take for something else.

    Example:
        >>> substitute = substitution.one_at_a_time(lambda params, tokens, train=False: tokens.sum(1))
        >>> require_mask(substitute, np.ones((2, 3), bool))
        Traceback (most recent call last):
        ValueError: mask would be the argument train of the model: pass a function (params, tokens, mask) ...
    """
    if mask is None or not isinstance(substitute, substitution.OneAtATime):
        return
    third = _argument(substitute.apply, 2)
    if third in _NO_MASKS:
        raise ValueError(
            f"mask would be the argument {third} of the model: pass a function (params, tokens, mask) to "
            "one_at_a_time, such as lambda params, tokens, mask: apply(params, tokens, mask=mask), or leave mask out"
        )
    if not _takes(substitute.apply, 3):
        raise ValueError(
            "mask is given, but the model takes two arguments only: leave mask out, or pass a function "
            "(params, tokens, mask) to one_at_a_time"
        )


def misfit(
    substitute: Substitute | SubstituteAt,
    perturbation: Perturbation,
    change: Change,
    key: Key,
    params: PyTree,
    tokens: jax.ShapeDtypeStruct,
    mask: jax.ShapeDtypeStruct | None,
    error: Exception,
) -> ValueError:
    """Return the error that says which part of a call fails, for one example of tokens ``[t *s]`` and mask ``[t]``.

    Example:
        >>> tokens = jax.ShapeDtypeStruct((3,), np.float32)
        >>> model = substitution.one_at_a_time(lambda params, x: x.sum())
        >>> str(misfit(model, None, None, jax.random.key(0), None, tokens, None, TypeError("it fails")))[:37]
        'the model must give outputs [b *k], w'
    """
    if isinstance(substitute, substitution.OneAtATime):
        diagnosis = misfit_of_model(substitute.apply, params, tokens, mask)
    else:
        diagnosis = None
    diagnosis = diagnosis or _of_perturbation(perturbation, key, tokens)
    if diagnosis is None:
        diagnosis, outputs = _of_substitute(substitute, params, tokens, mask)
    diagnosis = diagnosis or _of_change(change, *outputs, tokens.shape[0])
    return diagnosis or ValueError(
        f"tokens of shape {tokens.shape} and type {tokens.dtype} (for one example), params, perturbation and change do "
        f"not fit together: {error}"
    )


def misfit_of_model(
    apply: Apply, params: PyTree, tokens: jax.ShapeDtypeStruct, mask: jax.ShapeDtypeStruct | None
) -> ValueError | None:
    """Return the error of a model that does not give outputs ``[b *k]`` for tokens ``[t *s]`` of b examples.

    Example:
        >>> tokens = jax.ShapeDtypeStruct((3,), np.float32)
        >>> misfit_of_model(lambda params, x: x.sum(1), None, tokens, None) is None
        True
        >>> misfit_of_model(lambda params, x: x.sum(0), None, tokens, None) is None
        False
    """
    # Outputs seldom have a size of 7 or 11, so that no other axis is taken for that of the examples.
    count = next(n for n in range(7, 99, 4) if n not in tokens.shape)
    batch = [jax.ShapeDtypeStruct((count, *part.shape), part.dtype) for part in (tokens, mask) if part is not None]
    needed = _argument(apply, 2) if mask is None and not _takes(apply, 2) else None
    if needed is not None:
        remedy = (
            f"pass lambda params, tokens: apply(params, tokens, {needed}=...), in evaluation mode"
            if needed in _NO_MASKS
            else "pass mask, such as np.ones(tokens.shape[:2], bool), or give the argument a default"
        )
        return ValueError(f"the model has a third argument, {needed}, without a default: {remedy}")
    try:
        outputs = jax.eval_shape(apply, params, *batch)
    except Exception as error:
        shape = ", ".join(map(str, ("b", *tokens.shape)))
        return ValueError(
            f"the model, params and tokens [{shape}] of {tokens.dtype}{'' if mask is None else ' with their mask'} do "
            f"not fit together (tokens are [b t *s]; a single example is tokens[None]): {error}"
        )
    shapes = [leaf.shape for leaf in jax.tree.leaves(outputs)]
    if not shapes or any(shape[:1] != (count,) for shape in shapes):
        shown = ", ".join(map(str, shapes)) or "nothing"
        return ValueError(
            f"the model must give outputs [b *k], with the axis of the examples first, got the shape {shown} for "
            f"{count} examples: do not average over them; a model of one example becomes one of many by "
            "jax.vmap(apply, (None, 0))"
        )
    return None


def _of_perturbation(perturbation: Perturbation, key: Key, tokens: jax.ShapeDtypeStruct) -> ValueError | None:
    try:
        moved = jax.eval_shape(lambda key, x: perturbation(key, jnp.uint32(0), x), key, tokens)
    except Exception as error:
        return ValueError(
            f"perturbation(key, draw, tokens) fails for the tokens of an example, {tokens.shape} of {tokens.dtype}: "
            f"{error}"
        )
    if (getattr(moved, "shape", None), getattr(moved, "dtype", None)) != (tokens.shape, tokens.dtype):
        return ValueError(
            "perturbation(key, draw, tokens) must return an alternative of the shape and dtype of each token, "
            f"{tokens.shape} {tokens.dtype} for an example, got {jax.tree.map(_text, moved)}"
        )
    return None


def _of_substitute(
    substitute: Substitute, params: PyTree, tokens: jax.ShapeDtypeStruct, mask: jax.ShapeDtypeStruct | None
) -> tuple[ValueError | None, tuple[PyTree, PyTree]]:
    """Return what is wrong with a substitution, and the shapes of an example's outputs, clean and changed."""
    try:
        outputs = jax.eval_shape(substitute, params, tokens, tokens, mask)
    except Exception as error:
        remedy = (
            ""
            if isinstance(substitute, substitution.OneAtATime)
            else " (for a model apply(params, tokens, mask) pass one_at_a_time(apply))"
        )
        diagnosis = ValueError(
            f"substitute{remedy} and params do not fit together with the tokens of an example, {tokens.shape} of "
            f"{tokens.dtype}: {error}"
        )
        return diagnosis, (None, None)
    count = tokens.shape[0]
    pair = outputs if isinstance(outputs, tuple) and len(outputs) == 2 else ((), None)
    expected = jax.tree.map(lambda a: _text(jax.ShapeDtypeStruct((count, *a.shape), a.dtype)), pair[0])
    if jax.tree.map(_text, pair[1]) != expected:
        shown = jax.tree.map(_text, outputs)
        return ValueError(
            f"substitute must return (clean [*k], changed [t *k]) for an example of {count} tokens, got {shown}: for a "
            "model apply(params, tokens, mask) pass one_at_a_time(apply)"
        ), (None, None)
    return None, (outputs[0], batches.item_spec(outputs[1]))


def _of_change(change: Change, clean: PyTree, changed: PyTree, count: int) -> ValueError | None:
    per_position = one_position(change)
    name = getattr(per_position, "__name__", str(per_position)) + ("" if per_position is change else " over positions")
    shown = jax.tree.map(_text, clean)
    where = () if per_position is change else (jax.ShapeDtypeStruct((count,), bool),) * 2
    try:
        recorded = jax.eval_shape(change, clean, changed, *where)
    except Exception as error:
        several = "it takes one array: let the model return the logits only, or pass a change of your own"
        reason = error if hasattr(clean, "shape") else several
        return ValueError(f"change, {name}, fails for an example's output of {shown}: {reason}")
    if getattr(recorded, "shape", None) != ():
        return ValueError(
            f"change, {name}, must map an example's outputs to a scalar, got {jax.tree.map(_text, recorded)} for "
            f"outputs of {shown}"
        )
    return None


def _argument(function: Any, place: int) -> str | None:
    """Return the name of a positional argument of a function; None if there is none, or it is not known."""
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    try:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in positional]
    except (TypeError, ValueError):
        return None
    return parameters[place].name if place < len(parameters) else None


def _takes(function: Any, count: int) -> bool:
    """Return whether a function can be called with so many positional arguments, as far as that is known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _text(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}{list(array.shape)}"
