"""What replaces a token, and how weights are moved: samplers ``(key, draw, x) -> alternative of x``.

A sampler is a frozen dataclass, so that two equal ones share compiled code, and a pytree whose numbers are traced, so
that a sweep over variances compiles once. Any function of the same form serves as well.

Randomness: the rows of an array, its tokens, are drawn each with ``key`` folded by the draw and by the row's number, so
that noise hangs on the position only, not on how many tokens or how much padding follows. A pytree of arrays, weights,
is drawn as one long vector: a draw for each leaf would take XLA seconds to compile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.checks import require_count
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key, Perturbation, PyTree, Scale

__all__ = [
    "Antithetic",
    "Gaussian",
    "Relative",
    "ReplaceUniform",
    "Sphere",
    "Uniform",
    "antithetic",
    "as_pytree",
    "dependent_draws",
    "gaussian",
    "relative",
    "replace_uniform",
    "sphere",
    "uniform",
]


def dependent_draws(perturbation: Perturbation) -> int:
    """Return how many successive draws depend on each other: 2 for antithetic pairs, 1 unless the sampler says more."""
    return getattr(perturbation, "dependent_draws", 1)


@partial(jax.tree_util.register_dataclass, data_fields=["variance"], meta_fields=[])
@dataclass(frozen=True)
class Gaussian:
    """Add Gaussian noise: ``x + xi``, ``xi ~ N(0, variance I)``.

    For tokens that are patches or embeddings (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.4; the
    variance is in units of the normalised pixels or embeddings, squared) and for weights (s.7.2 there, absolute, the
    same variance for every element).

    Args:
        variance: The variance per element, not the standard deviation; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the variance is negative or not finite; when called, if ``x`` has integers.
    """

    variance: float

    def __post_init__(self) -> None:
        _check_size(self, "variance")

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``."""

        def noisy(key: Key, row: Array) -> Array:
            deviation = jnp.sqrt(jnp.asarray(self.variance, row.dtype))
            return row + deviation * jax.random.normal(key, row.shape, row.dtype)

        return _sample(noisy, key, draw, _floating("gaussian noise", x))


gaussian = Gaussian


@partial(jax.tree_util.register_dataclass, data_fields=["half_width"], meta_fields=[])
@dataclass(frozen=True)
class Uniform:
    """Add uniform noise: ``x + xi``, ``xi`` uniform in ``[-half_width, half_width]`` for every element.

    In the units of ``x``; its variance is ``half_width^2 / 3``. (In the code of Andriushchenko et al., A Modern Look at
    the Relationship between Sharpness and Generalization, it is the average case beside the Gaussian one.)

    Args:
        half_width: Half the width of the interval; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the width is negative or not finite; when called, if ``x`` has integers.
    """

    half_width: float

    def __post_init__(self) -> None:
        _check_size(self, "half_width")

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``."""

        def noisy(key: Key, row: Array) -> Array:
            noise = jax.random.uniform(key, row.shape, row.dtype, -1, 1)
            return row + jnp.asarray(self.half_width, row.dtype) * noise

        return _sample(noisy, key, draw, _floating("uniform noise", x))


uniform = Uniform


@partial(jax.tree_util.register_dataclass, data_fields=["radius"], meta_fields=[])
@dataclass(frozen=True)
class Sphere:
    """Add a vector of fixed length and uniform direction: ``x + radius u / ||u||_2``, ``u ~ N(0, I)``.

    Weights, all the leaves of a pytree together, move by ``radius`` in l2; of an array of tokens each token does.

    Args:
        radius: The distance, in the units of ``x``; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the radius is negative or not finite; when called, if ``x`` has integers.
    """

    radius: float

    def __post_init__(self) -> None:
        _check_size(self, "radius")

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return point number ``draw`` of the sphere around ``x``."""

        def moved(key: Key, row: Array) -> Array:
            direction = jax.random.normal(key, row.shape, row.dtype)
            length = jnp.maximum(jnp.sqrt(jnp.sum(direction**2)), jnp.finfo(row.dtype).tiny)
            return row + jnp.asarray(self.radius, row.dtype) * (direction / length)

        return _sample(moved, key, draw, _floating("noise on a sphere", x))


sphere = Sphere


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=[])
@dataclass(frozen=True)
class Antithetic:
    """Make pairs of opposite draws: draw ``2 i`` is draw ``i`` of ``sampler``, draw ``2 i + 1`` its mirror image.

    The mirror image of ``x + xi`` is ``x - xi``: terms odd in the noise cancel from a pair, the gradient's above all.
    Estimators over draws take pairs for units.

    Args:
        sampler: Any sampler of floating-point alternatives.

    Raises:
        ValueError: If the sampler's draws depend on each other already; when called, if ``x`` has integers.
    """

    sampler: Perturbation

    def __post_init__(self) -> None:
        if dependent_draws(self.sampler) > 1:
            raise ValueError(f"sampler must have independent draws to be paired, got {self.sampler}")

    @property
    def dependent_draws(self) -> int:
        """Two draws are a pair."""
        return 2

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return draw ``draw // 2`` of the sampler, mirrored at ``x`` where ``draw`` is odd."""
        moved = self.sampler(key, draw // 2, _floating("an antithetic pair", x))
        # Not 2 x - moved: the noise as rounded is what both of a pair must share.
        return jax.tree.map(lambda a, b: jnp.where(draw % 2 == 0, b, a - (b - a)), x, moved)


antithetic = Antithetic


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=["scale"])
@dataclass(frozen=True)
class Relative:
    """Measure noise against the size of what it moves: ``x + scale(x) * xi``, element by element.

    ``xi`` is what ``sampler`` adds to 0. With ``scales.by_element`` and Gaussian noise this is adaptive average-case
    sharpness (Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization).

    Args:
        sampler: What adds noise, such as ``gaussian(0.01)``; now without units.
        scale: How large a weight is, such as ``scales.by_leaf``.

    Raises:
        ValueError: If the sampler is relative itself: around 0 it would not move.
    """

    sampler: Perturbation
    scale: Scale

    def __post_init__(self) -> None:
        inner = self.sampler
        while inner is not None:
            if isinstance(inner, Relative):
                raise ValueError(
                    f"sampler must add noise in absolute units, got {self.sampler}, which is relative already"
                )
            inner = getattr(inner, "sampler", None)

    @property
    def dependent_draws(self) -> int:
        """As many as of the sampler inside."""
        return dependent_draws(self.sampler)

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``, scaled."""
        noise = self.sampler(key, draw, jax.tree.map(jnp.zeros_like, _floating("relative noise", x)))
        return jax.tree.map(lambda a, s, n: a + s * n, x, self.scale(x), noise)


relative = Relative


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["vocabulary"])
@dataclass(frozen=True)
class ReplaceUniform:
    """Replace every token by one drawn uniformly from ``0 .. vocabulary - 1``.

    The token itself may be drawn, as in Def. 4.1 of Vasudeva et al. (Transformers Learn Low Sensitivity Functions):
    a fraction ``1 / vocabulary`` of all replacements changes nothing.

    Args:
        vocabulary: The number of token ids.

    Raises:
        ValueError: If the vocabulary is smaller than 2; when called, if tokens are not integers.
    """

    vocabulary: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "vocabulary", require_count("vocabulary", self.vocabulary, 2))

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return replacement number ``draw`` of every token in ``x``."""

        def replaced(key: Key, row: Array) -> Array:
            if not jnp.issubdtype(row.dtype, jnp.integer):
                raise ValueError(f"replace_uniform needs integer ids, got {row.dtype}; use gaussian for vectors")
            if self.vocabulary - 1 > jnp.iinfo(row.dtype).max:
                raise ValueError(
                    f"replace_uniform needs ids of a dtype that holds {self.vocabulary - 1}, the last of the "
                    f"vocabulary, got {row.dtype}: cast the ids to int32"
                )
            return jax.random.randint(key, row.shape, 0, self.vocabulary, row.dtype)

        return _sample(replaced, key, draw, x)


replace_uniform = ReplaceUniform


def as_pytree(perturbation: Perturbation) -> Perturbation:
    """Return the sampler in a form that can be an argument of a compiled function.

    Samplers of this module are pytrees of numbers already, which are traced: a sweep over variances compiles once. Any
    other function becomes a pytree without leaves, compiled once for each function, by ``==``.
    """
    leaves = jax.tree.leaves(perturbation)
    if all(isinstance(leaf, int | float | np.ndarray | jax.Array) for leaf in leaves):
        return perturbation
    return jax.tree_util.Partial(perturbation)


def _sample(sample: Callable[[Key, Array], Array], key: Key, draw: Array, x: PyTree) -> PyTree:
    """Apply ``sample(key, values)`` to the rows of an array, or to all values of a pytree at once."""
    key = jax.random.fold_in(require_key(key, traced=True), draw)
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
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{what} needs floating-point x, got {dtype}; use replace_uniform for ids")
        if jnp.finfo(dtype).bits < 32:
            raise ValueError(
                f"{what} needs x in float32 or float64, got {dtype}, whose rounding, {float(jnp.finfo(dtype).eps):.1g} "
                "of a value, would lose smaller noise: cast x to float32"
            )
    return x


def _check_size(sampler: Perturbation, name: str) -> None:
    """Check a number of a sampler and make it a float; leaves that JAX put in its place while tracing pass."""
    value = getattr(sampler, name)
    if isinstance(value, int | float | np.generic):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        object.__setattr__(sampler, name, float(value))
