"""Which leaves of a model's parameters perturbations and curvature touch."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxsens.typing import Array, PyTree, Where

__all__ = ["weights"]


def weights(
    params: PyTree, where: Where | None = None
) -> tuple[tuple[Array, ...], Callable[[Sequence[Array]], PyTree]]:
    """Return the leaves of ``params`` that perturbations move, and a function that puts others in their place.

    They are the floating-point leaves; where the variables have a collection ``params``, as Flax's do, only those in it
    (never batch statistics); ``where(path, leaf)`` narrows them further.

    Raises:
        ValueError: If no leaf is chosen.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    collections = isinstance(params, Mapping) and "params" in params
    chosen = [
        i
        for i, (path, leaf) in enumerate(leaves)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        and (not collections or path[0].key == "params")
        and (where is None or where(path, leaf))
    ]
    if not chosen:
        known = {jax.tree_util.keystr(path): str(jnp.result_type(leaf)) for path, leaf in leaves}
        who = "params have" if where is None else f"where, {where}, chooses"
        raise ValueError(f"{who} no real floating-point leaf to move; the leaves are {known or 'none'}")

    def put_back(moved: Sequence[Array]) -> PyTree:
        values = [leaf for _, leaf in leaves]
        for i, value in zip(chosen, moved, strict=True):
            values[i] = value
        return structure.unflatten(values)

    return tuple(leaves[i][1] for i in chosen), put_back
