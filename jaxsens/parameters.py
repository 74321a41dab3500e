"""Which leaves of a model's parameters perturbations and curvature move."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.changes import at_least_float32
from jaxsens.typing import Array, PyTree, Where

__all__ = ["in_zeros", "leaves_of", "weights", "widened", "zeros_like"]

_NOT_TRAINED = {
    "BatchStat", "Cache", "Intermediate", "OptState", "OptArray", "OptVariable", "Perturbation", "RngState",
}  # fmt: skip
"""Variable types of Flax NNX that training does not move by a gradient."""

_STATISTICS = ({"mean", "var"}, {"running_mean", "running_var"}, {"moving_mean", "moving_variance"})
"""Names that running statistics have where only names tell them from weights."""


def weights(
    params: PyTree, where: Where | None = None
) -> tuple[tuple[Array, ...], Callable[[Sequence[Array]], PyTree]]:
    """Return the leaves of ``params`` that perturbations move, and a function that puts others in their place.

    They are the real floating-point leaves that are trained:

    - of Flax Linen variables, those in the collection ``params``, never batch statistics;
    - of a state or module of Flax NNX, those of variables of type ``nnx.Param``, never ``BatchStat``;
    - of any other pytree all, such as the inexact arrays of an Equinox module.

    ``where(path, leaf)`` narrows them further.

    Args:
        params: The variables of a model.
        where: Chooses leaves, by their path as in ``jax.tree_util`` and their value.

    Returns:
        The chosen leaves in the order of the pytree, and ``put_back(leaves)`` -> a pytree like ``params``.

    Raises:
        ValueError: If no leaf is chosen; or if ``where`` is None and it cannot be told what is trained: a variable of
            NNX has a type of the user's own that is no ``nnx.Param``, or a dict holds a mean and a variance of one
            shape, which look like running statistics.

    Example:
        >>> variables = {"params": {"w": np.float32(2)}, "batch_stats": {"mean": np.float32(1)}}
        >>> leaves, put_back = weights(variables)
        >>> put_back([10 * leaf for leaf in leaves])
        {'batch_stats': {'mean': np.float32(1.0)}, 'params': {'w': np.float32(20.0)}}
    """
    leaves, structure = jax.tree.flatten(params)
    chosen = _chosen(params, where)

    def put_back(moved: Sequence[Array]) -> PyTree:
        values = list(leaves)
        for i, value in zip(chosen, moved, strict=True):
            values[i] = value
        return structure.unflatten(values)

    return tuple(leaves[i] for i in chosen), put_back


def _chosen(params: PyTree, where: Where | None) -> list[int]:
    """Return which leaves are chosen, by their number in the order of the pytree."""
    _require_arrays(params)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    collections = isinstance(params, Mapping) and "params" in params
    trained = list(_trained(params, where is None))
    if where is None and not collections:
        _require_no_statistics([path for path, _ in leaves], [leaf for _, leaf in leaves], trained)
    chosen = [
        i
        for i, (path, leaf) in enumerate(leaves)
        if jnp.issubdtype(_dtype(leaf), jnp.floating)
        and trained[i]
        and (not collections or path[0].key == "params")
        and (where is None or where(path, leaf))
    ]
    if not chosen:
        present = {jax.tree_util.keystr(path): str(_dtype(leaf)) for path, leaf in leaves}
        subject = "params have" if where is None else f"where, {where}, chooses"
        raise ValueError(f"{subject} no real floating-point leaf to move; the leaves are {present or 'none'}")
    return chosen


def _require_arrays(params: PyTree) -> None:
    """Raise ValueError for strings and other objects among the leaves of ``params``."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not (hasattr(leaf, "dtype") or isinstance(leaf, bool | int | float | complex)):
            raise ValueError(f"params{jax.tree_util.keystr(path)} must be an array, got {leaf!r}")


def widened(leaves: Sequence[Array]) -> tuple[Array, ...]:
    """Return weights in float16 or bfloat16 as float32; others stay as they are.

    Noise below the rounding of a narrow dtype would be lost: bfloat16 has 8 significant bits. Measures therefore
    perturb float32 copies, and evaluate the model with these.

    Example:
        >>> [str(leaf.dtype) for leaf in widened([jnp.bfloat16(1), jnp.float32(1)])]
        ['float32', 'float32']
    """
    return tuple(at_least_float32(leaf) for leaf in leaves)


def zeros_like(params: PyTree) -> PyTree:
    """Return 0 for every number of ``params``, and int32 zeros, which are no weights, in the place of random keys.

    Example:
        >>> zeros_like({"count": np.int32(3), "w": np.ones(2, np.float32)})
        {'count': Array(0, dtype=int32), 'w': Array([0., 0.], dtype=float32)}
    """
    return jax.tree.map(lambda a: jnp.zeros(jnp.shape(a), jnp.int32 if _is_key(a) else _dtype(a)), params)


def in_zeros(params: PyTree, chosen: Sequence[Array], where: Where | None = None) -> PyTree:
    """Return directions in the space of the weights as a pytree like ``params``, with 0 where nothing moves.

    The zeros take no memory until they are moved or copied.

    Args:
        params: The variables of a model.
        chosen: The leaves that ``weights(params, where)`` chooses, or several of each, ``[k *leaf]``.
        where: As there.

    Example:
        >>> tree = in_zeros({"w": np.ones(2), "steps": np.int32(7)}, [np.array([[1.0, 2.0], [3.0, 4.0]])])
        >>> tree["w"].tolist(), tree["steps"].tolist()
        ([[1.0, 2.0], [3.0, 4.0]], [0, 0])
    """
    leaves, structure = jax.tree.flatten(params)
    places = _chosen(params, where)
    ahead = chosen[0].shape[: chosen[0].ndim - jnp.ndim(leaves[places[0]])]

    def zeros(leaf: Array) -> np.ndarray:
        dtype = np.dtype(np.int32) if _is_key(leaf) else jax.dtypes.canonicalize_dtype(_dtype(leaf))
        return np.broadcast_to(np.zeros((), dtype), ahead + jnp.shape(leaf))

    by_place = dict(zip(places, chosen, strict=True))
    return structure.unflatten([by_place[i] if i in by_place else zeros(leaf) for i, leaf in enumerate(leaves)])


def leaves_of(direction: PyTree, params: PyTree, where: Where | None = None) -> tuple[Array, ...]:
    """Return the leaves of a direction, a pytree like ``params``, where ``weights(params, where)`` chooses.

    Example:
        >>> leaves_of({"steps": np.int32(0), "w": np.ones(2)}, {"steps": np.int32(7), "w": np.zeros(2)})
        (array([1., 1.]),)
    """
    leaves = jax.tree.leaves(direction)
    return tuple(leaves[i] for i in _chosen(params, where))


def _trained(params: PyTree, strict: bool) -> Iterator[bool]:
    """Yield for every leaf whether its variable is trained; leaves outside of variables of Flax NNX are.

    Variables are recognized by the name of their class, so that Flax is not imported here.
    """
    for part in jax.tree.leaves(params, is_leaf=_is_variable):
        trained = True
        if _is_variable(part):
            kind = getattr(part, "type", None)
            kind = kind if isinstance(kind, type) else type(part)
            names = {c.__name__ for c in kind.__mro__}
            trained = "Param" in names
            if strict and not trained and not names & _NOT_TRAINED:
                raise ValueError(
                    f"params hold a variable of type {kind.__name__}, which is neither an nnx.Param nor known not to "
                    "be trained: say which leaves move by where=, or split the state, nnx.split(model, nnx.Param, ...)"
                )
            trained = trained or not (strict or names & _NOT_TRAINED)
        yield from [trained] * len(jax.tree.leaves(part))


def _is_variable(part: Any) -> bool:
    return any(
        c.__module__.startswith("flax.nnx") and c.__name__ in ("Variable", "VariableState") for c in type(part).__mro__
    )


def _require_no_statistics(paths: list[tuple[Any, ...]], leaves: list[Array], trained: list[bool]) -> None:
    siblings: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
    for path, leaf, counted in zip(paths, leaves, trained, strict=True):
        if counted and path and isinstance(path[-1], jax.tree_util.DictKey):
            siblings.setdefault(path[:-1], {})[str(path[-1].key)] = jnp.shape(leaf)
    for path, shapes in siblings.items():
        for names in _STATISTICS:
            if names <= shapes.keys() and len({shapes[name] for name in names}) == 1:
                raise ValueError(
                    f"params{jax.tree_util.keystr(path)} hold {' and '.join(sorted(names))} of one shape, which look "
                    "like running statistics, and these are not trained: pass only the trained parameters, or say "
                    "which leaves move by where="
                )


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def _dtype(leaf: Array) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
