"""What replaces a token, and how weights are moved: samplers ``(key, draw, x) -> alternative of x``.

A sampler is a frozen dataclass, so that two equal ones share compiled code, and a pytree whose numbers are traced, so
that a sweep over variances compiles once. Any function of the same form serves as well.

Randomness: the rows of an array, its tokens, are drawn each with ``key`` folded by the draw and by the row's number, so
that noise hangs on the position only, not on how many tokens or how much padding follows. A pytree of arrays, weights,
is drawn as one long vector: a draw for each leaf would take XLA seconds to compile.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.typing import Array, Key, Perturbation, PyTree, Where


def gaussian(variance: float) -> Perturbation:
    """Add Gaussian noise: ``x + xi``, ``xi ~ N(0, variance I)``.

    For tokens that are patches or embeddings (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.4; the
    variance is in units of the normalised pixels or embeddings, squared) and for weights (s.7.2 there, absolute, the
    same variance for every element).

    Args:
        variance: The variance per element, not the standard deviation; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the variance is negative or not finite; when called, if ``x`` has integers.
    """
    if not (np.isfinite(variance) and variance >= 0):
        raise ValueError(f"variance must be a finite number of at least 0, got {variance}")
    return Gaussian(float(variance))


def replace_uniform(vocabulary: int) -> Perturbation:
    """Replace every token by one drawn uniformly from ``0 .. vocabulary - 1``.

    The token itself may be drawn, as in Def. 4.1 of Vasudeva et al. (Transformers Learn Low Sensitivity Functions):
    a fraction ``1 / vocabulary`` of all replacements changes nothing.

    Args:
        vocabulary: The number of token ids.

    Raises:
        ValueError: If the vocabulary is smaller than 2; when called, if tokens are not integers.
    """
    if vocabulary != int(vocabulary) or vocabulary < 2:
        raise ValueError(f"vocabulary must be an integer of at least 2, got {vocabulary}")
    return ReplaceUniform(int(vocabulary))


@partial(jax.tree_util.register_dataclass, data_fields=["variance"], meta_fields=[])
@dataclass(frozen=True)
class Gaussian:
    """The sampler that ``gaussian`` returns."""

    variance: float

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``."""

        def noisy(key: Key, row: Array) -> Array:
            if not jnp.issubdtype(row.dtype, jnp.floating):
                raise ValueError(f"gaussian noise needs floating-point x, got {row.dtype}; use replace_uniform for ids")
            deviation = jnp.sqrt(jnp.asarray(self.variance, row.dtype))
            return row + deviation * jax.random.normal(key, row.shape, row.dtype)

        return _sample(noisy, jax.random.fold_in(key, draw), x)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["vocabulary"])
@dataclass(frozen=True)
class ReplaceUniform:
    """The sampler that ``replace_uniform`` returns."""

    vocabulary: int

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return replacement number ``draw`` of every token in ``x``."""

        def replaced(key: Key, row: Array) -> Array:
            if not jnp.issubdtype(row.dtype, jnp.integer):
                raise ValueError(f"replace_uniform needs integer ids, got {row.dtype}; use gaussian for vectors")
            return jax.random.randint(key, row.shape, 0, self.vocabulary, row.dtype)

        return _sample(replaced, jax.random.fold_in(key, draw), x)


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
        raise ValueError("where chooses no floating-point leaf of params: nothing would be perturbed")

    def put_back(moved: Sequence[Array]) -> PyTree:
        values = [leaf for _, leaf in leaves]
        for i, value in zip(chosen, moved, strict=True):
            values[i] = value
        return structure.unflatten(values)

    return tuple(leaves[i][1] for i in chosen), put_back


def separate(perturbation: Perturbation) -> tuple[tuple[Array, ...], Callable[[tuple[Array, ...]], Perturbation]]:
    """Split a sampler into its numbers, to be traced, and a rebuilding function, to be compiled once (by value)."""
    leaves, structure = jax.tree.flatten(perturbation)
    if all(isinstance(leaf, int | float | np.ndarray | jax.Array) for leaf in leaves):
        return tuple(leaves), _Rebuild(structure)
    return (), _Constant(perturbation)


@dataclass(frozen=True)
class _Rebuild:
    structure: jax.tree_util.PyTreeDef

    def __call__(self, numbers: tuple[Array, ...]) -> Perturbation:
        return self.structure.unflatten(numbers)


@dataclass(frozen=True)
class _Constant:
    perturbation: Perturbation

    def __call__(self, numbers: tuple[Array, ...]) -> Perturbation:
        del numbers
        return self.perturbation


def _sample(sample: Callable[[Key, Array], Array], key: Key, x: PyTree) -> PyTree:
    """Apply ``sample(key, values)`` to the rows of an array, or to all values of a pytree at once."""
    leaves, structure = jax.tree.flatten(x)
    if jax.tree_util.treedef_is_leaf(structure):
        rows = jnp.atleast_1d(x)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(rows), dtype=jnp.uint32))
        return jax.vmap(sample)(keys, rows).reshape(jnp.shape(x))
    vector = sample(key, jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]))
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])[:-1]
    parts = [
        part.reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf))
        for part, leaf in zip(jnp.split(vector, ends), leaves, strict=True)
    ]
    return structure.unflatten(parts)
