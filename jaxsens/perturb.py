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

from jaxsens.typing import Array, Key, Perturbation, PyTree, Scale, Where

__all__ = [
    "Antithetic",
    "Gaussian",
    "Relative",
    "ReplaceUniform",
    "Sphere",
    "Uniform",
    "antithetic",
    "dependent_draws",
    "gaussian",
    "relative",
    "replace_uniform",
    "separate",
    "sphere",
    "uniform",
    "weights",
]


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
    return Gaussian(_not_negative("variance", variance))


def uniform(half_width: float) -> Perturbation:
    """Add uniform noise: ``x + xi``, ``xi`` uniform in ``[-half_width, half_width]`` for every element.

    In the units of ``x``; its variance is ``half_width^2 / 3``. (In the code of Andriushchenko et al., A Modern Look at
    the Relationship between Sharpness and Generalization, it is the average case beside the Gaussian one.)

    Args:
        half_width: Half the width of the interval; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the width is negative or not finite; when called, if ``x`` has integers.
    """
    return Uniform(_not_negative("half_width", half_width))


def sphere(radius: float) -> Perturbation:
    """Add a vector of fixed length and uniform direction: ``x + radius u / ||u||_2``, ``u ~ N(0, I)``.

    Weights, all the leaves of a pytree together, move by ``radius`` in l2; of an array of tokens each token does.

    Args:
        radius: The distance, in the units of ``x``; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the radius is negative or not finite; when called, if ``x`` has integers.
    """
    return Sphere(_not_negative("radius", radius))


def antithetic(sampler: Perturbation) -> Perturbation:
    """Make pairs of opposite draws: draw ``2 i`` is draw ``i`` of ``sampler``, draw ``2 i + 1`` its mirror image.

    The mirror image of ``x + xi`` is ``x - xi``: terms odd in the noise cancel from a pair, the gradient's above all.
    Estimators over draws take pairs for units.

    Args:
        sampler: Any sampler of floating-point alternatives.

    Raises:
        ValueError: If the sampler's draws depend on each other already; when called, if ``x`` has integers.
    """
    if dependent_draws(sampler) > 1:
        raise ValueError(f"sampler must have independent draws to be paired, got {sampler}")
    return Antithetic(sampler)


def relative(sampler: Perturbation, scale: Scale) -> Perturbation:
    """Measure noise against the size of what it moves: ``x + scale(x) * xi``, element by element.

    ``xi`` is what ``sampler`` adds to 0. With ``scales.by_element`` and Gaussian noise this is adaptive average-case
    sharpness (Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization).

    Args:
        sampler: What adds noise, such as ``gaussian(0.01)``; now without units.
        scale: How large a weight is, such as ``scales.by_leaf``.

    Raises:
        ValueError: If the sampler is relative itself: around 0 it would not move.
    """
    inner = sampler
    while inner is not None:
        if isinstance(inner, Relative):
            raise ValueError(f"sampler must add noise in absolute units, got {sampler}, which is relative already")
        inner = getattr(inner, "sampler", None)
    return Relative(sampler, scale)


def dependent_draws(perturbation: Perturbation) -> int:
    """Return how many successive draws depend on each other: 2 for antithetic pairs, 1 unless the sampler says more."""
    return getattr(perturbation, "dependent_draws", 1)


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
            deviation = jnp.sqrt(jnp.asarray(self.variance, row.dtype))
            return row + deviation * jax.random.normal(key, row.shape, row.dtype)

        return _sample(noisy, jax.random.fold_in(key, draw), _floating("gaussian noise", x))


@partial(jax.tree_util.register_dataclass, data_fields=["half_width"], meta_fields=[])
@dataclass(frozen=True)
class Uniform:
    """The sampler that ``uniform`` returns."""

    half_width: float

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``."""

        def noisy(key: Key, row: Array) -> Array:
            noise = jax.random.uniform(key, row.shape, row.dtype, -1, 1)
            return row + jnp.asarray(self.half_width, row.dtype) * noise

        return _sample(noisy, jax.random.fold_in(key, draw), _floating("uniform noise", x))


@partial(jax.tree_util.register_dataclass, data_fields=["radius"], meta_fields=[])
@dataclass(frozen=True)
class Sphere:
    """The sampler that ``sphere`` returns."""

    radius: float

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return point number ``draw`` of the sphere around ``x``."""

        def moved(key: Key, row: Array) -> Array:
            direction = jax.random.normal(key, row.shape, row.dtype)
            length = jnp.maximum(jnp.sqrt(jnp.sum(direction**2)), jnp.finfo(row.dtype).tiny)
            return row + jnp.asarray(self.radius, row.dtype) * (direction / length)

        return _sample(moved, jax.random.fold_in(key, draw), _floating("noise on a sphere", x))


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=[])
@dataclass(frozen=True)
class Antithetic:
    """The sampler that ``antithetic`` returns."""

    sampler: Perturbation

    @property
    def dependent_draws(self) -> int:
        """Two draws are a pair."""
        return 2

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return draw ``draw // 2`` of the sampler, mirrored at ``x`` where ``draw`` is odd."""
        moved = self.sampler(key, draw // 2, _floating("an antithetic pair", x))
        # Not 2 x - moved: the noise as rounded is what both of a pair must share.
        return jax.tree.map(lambda a, b: jnp.where(draw % 2 == 0, b, a - (b - a)), x, moved)


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=["scale"])
@dataclass(frozen=True)
class Relative:
    """The sampler that ``relative`` returns."""

    sampler: Perturbation
    scale: Scale

    @property
    def dependent_draws(self) -> int:
        """As many as of the sampler inside."""
        return dependent_draws(self.sampler)

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``, scaled."""
        noise = self.sampler(key, draw, jax.tree.map(jnp.zeros_like, _floating("relative noise", x)))
        return jax.tree.map(lambda a, s, n: a + s * n, x, self.scale(x), noise)


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
        known = {jax.tree_util.keystr(path): str(jnp.result_type(leaf)) for path, leaf in leaves}
        who = "params have" if where is None else f"where, {where}, chooses"
        raise ValueError(f"{who} no real floating-point leaf to move; the leaves are {known or 'none'}")

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


def _floating(what: str, x: PyTree) -> PyTree:
    for leaf in jax.tree.leaves(x):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(f"{what} needs floating-point x, got {jnp.result_type(leaf)}; use replace_uniform for ids")
    return x


def _not_negative(name: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    return float(value)
