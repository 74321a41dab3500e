"""What replaces a token, and how weights are moved: samplers ``(key, draw, x) -> alternative of x``.

A sampler is a frozen dataclass, so that equal values share compiled code, and a pytree whose numbers are traced, so
that a sweep over variances compiles once. Any function of the same form is a sampler too.

Randomness: each row of an array, a token, is drawn with ``key`` folded by the draw and the number of the row, so that
the noise depends only on the position, not on the number of tokens or the padding. A pytree of weights is drawn as one
long vector, since a draw for each leaf would take XLA seconds to compile.

Noise is not added to float16 or bfloat16, whose rounding would lose it: samplers refuse such ``x``, and measures copy
it to float32 first. (All samplers are in this file, each with its law and an example, which makes it long.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.checks import host_values, require_count, require_functions, require_numbers
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key, Perturbation, PyTree, Scale

__all__ = [
    "Antithetic",
    "Baseline",
    "Clipped",
    "Gaussian",
    "OtherExample",
    "Relative",
    "ReplaceUniform",
    "Sphere",
    "Uniform",
    "antithetic",
    "as_pytree",
    "baseline",
    "clipped",
    "dependent_draws",
    "gaussian",
    "other_example",
    "relative",
    "replace_uniform",
    "sphere",
    "uniform",
]


def dependent_draws(perturbation: Perturbation) -> int:
    """Return how many successive draws depend on each other: 2 for antithetic pairs, 1 by default.

    Example:
        >>> dependent_draws(antithetic(gaussian(1.0))), dependent_draws(gaussian(1.0))
        (2, 1)
    """
    return getattr(perturbation, "dependent_draws", 1)


def _pytree(numbers: Sequence[str] = (), static: Sequence[str] = ()) -> Callable[[type], type]:
    """Register a frozen dataclass as a pytree that is put together again without the checks of its constructor.

    While JAX traces, it puts tracers, None and objects in the place of the numbers.
    """

    def register(cls: type) -> type:
        def take_apart(sampler: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            children = tuple((jax.tree_util.GetAttrKey(name), getattr(sampler, name)) for name in numbers)
            return children, tuple(getattr(sampler, name) for name in static)

        def put_together(values: tuple[Any, ...], children: Sequence[Any]) -> Any:
            sampler = object.__new__(cls)
            for name, value in zip((*static, *numbers), (*values, *children), strict=True):
                object.__setattr__(sampler, name, value)
            return sampler

        jax.tree_util.register_pytree_with_keys(cls, take_apart, put_together)
        return cls

    return register


@_pytree(numbers=["variance"])
@dataclass(frozen=True)
class Gaussian:
    """Add Gaussian noise: ``x + xi``, ``xi ~ N(0, variance I)``.

    For tokens that are patches or embeddings (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.4; the
    variance is in squared units of the normalized pixels or embeddings) and for weights (s.7.2 there, with the same
    variance for every element).

    Args:
        variance: The variance per element, not the standard deviation; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the variance is negative or not finite; when called, if ``x`` is not in float32 or float64, or
            the key is not a typed threefry key.

    Example:
        >>> gaussian(variance=0.25)(jax.random.key(0), 0, jnp.zeros((3, 2))).shape
        (3, 2)
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


@_pytree(numbers=["half_width"])
@dataclass(frozen=True)
class Uniform:
    """Add uniform noise: ``x + xi``, ``xi`` uniform in ``[-half_width, half_width]`` for every element.

    In the units of ``x``; its variance is ``half_width^2 / 3``. (In the code of Andriushchenko et al., A Modern Look at
    the Relationship between Sharpness and Generalization, it is the other average case, next to the Gaussian one.)

    Args:
        half_width: Half the width of the interval; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the width is negative or not finite; when called, if ``x`` is not in float32 or float64, or the
            key is not a typed threefry key.

    Example:
        >>> bool(jnp.abs(uniform(half_width=0.5)(jax.random.key(0), 0, jnp.zeros((3, 2)))).max() <= 0.5)
        True
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


@_pytree(numbers=["radius"])
@dataclass(frozen=True)
class Sphere:
    """Add a vector of fixed length and uniform direction: ``x + radius u / ||u||_2``, ``u ~ N(0, I)``.

    A pytree of weights moves by ``radius`` in l2, all leaves together; of an array of tokens each token does.

    Args:
        radius: The distance, in the units of ``x``; 0 leaves ``x`` as it is.

    Raises:
        ValueError: If the radius is negative or not finite; when called, if ``x`` is not in float32 or float64, or the
            key is not a typed threefry key.

    Example:
        >>> moved = sphere(radius=2.0)(jax.random.key(0), 0, jnp.zeros((3, 5)))
        >>> jnp.linalg.norm(moved, axis=1).round(4).tolist()
        [2.0, 2.0, 2.0]
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


@_pytree(numbers=["sampler"])
@dataclass(frozen=True)
class Antithetic:
    """Make pairs of opposite draws: draw ``2 i`` is draw ``i`` of ``sampler``, draw ``2 i + 1`` its mirror image.

    The mirror image of ``x + xi`` is ``x - xi``: terms odd in the noise cancel in a pair, in particular that of the
    gradient. The independent units of estimators over draws are then the pairs.

    Args:
        sampler: Any sampler of floating-point alternatives.

    Raises:
        ValueError: If the draws of the sampler depend on each other already; when called, if ``x`` is not in float32 or
            float64, or the key is not a typed threefry key.

    Example:
        >>> pairs, x = antithetic(gaussian(1.0)), jnp.zeros(3)
        >>> bool(jnp.all(pairs(jax.random.key(0), 4, x) == -pairs(jax.random.key(0), 5, x)))
        True
    """

    sampler: Perturbation

    def __post_init__(self) -> None:
        _require_sampler(self.sampler)
        if dependent_draws(self.sampler) > 1:
            raise ValueError(f"sampler must have independent draws to be paired, got {self.sampler}")

    @property
    def dependent_draws(self) -> int:
        """Two draws are a pair."""
        return 2

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return draw ``draw // 2`` of the sampler, mirrored at ``x`` where ``draw`` is odd."""
        moved = self.sampler(key, draw // 2, _floating("an antithetic pair", x))
        # Not 2 x - moved: both of a pair must have the noise as it was rounded.
        return jax.tree.map(lambda a, b: jnp.where(draw % 2 == 0, b, a - (b - a)), x, moved)


antithetic = Antithetic


@_pytree(numbers=["sampler"], static=["scale"])
@dataclass(frozen=True)
class Relative:
    """Add noise in proportion to the scale of what it moves: ``x + scale(x) * xi``, element by element.

    ``xi`` is what ``sampler`` adds to 0. With ``scales.by_element`` and Gaussian noise this is adaptive average-case
    sharpness (Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization).

    Args:
        sampler: Sampler of the noise, such as ``gaussian(0.01)``; its size is a number without units here.
        scale: Scale of each weight, such as ``scales.by_leaf``.

    Raises:
        ValueError: If the sampler is relative itself, since it does not move 0; when called, if ``x`` is not in float32
            or float64, or the key is not a typed threefry key.

    Example:
        >>> from jaxsens import scales
        >>> relative(gaussian(0.01), scales.by_element)(jax.random.key(0), 0, (jnp.zeros(2),))
        (Array([0., 0.], dtype=float32),)
    """

    sampler: Perturbation
    scale: Scale

    def __post_init__(self) -> None:
        _require_sampler(self.sampler)
        require_functions(scale=self.scale)
        inner = self.sampler
        while inner is not None:
            if isinstance(inner, Relative):
                raise ValueError(
                    f"sampler must add noise in absolute units, got {self.sampler}, which is relative already"
                )
            inner = getattr(inner, "sampler", None)

    @property
    def dependent_draws(self) -> int:
        """The number of dependent draws of the wrapped sampler."""
        return dependent_draws(self.sampler)

    def __call__(self, key: Key, draw: Array, x: PyTree) -> PyTree:
        """Return ``x`` plus noise number ``draw``, scaled."""
        noise = self.sampler(key, draw, jax.tree.map(jnp.zeros_like, _floating("relative noise", x)))
        return jax.tree.map(lambda a, s, n: a + s * n, x, self.scale(x), noise)


relative = Relative


@_pytree(static=["vocabulary"])
@dataclass(frozen=True)
class ReplaceUniform:
    """Replace every token by one drawn uniformly from ``0 .. vocabulary - 1``.

    The token itself may be drawn, as in Def. 4.1 of Vasudeva et al. (Transformers Learn Low Sensitivity Functions):
    a fraction ``1 / vocabulary`` of all replacements changes nothing.

    Args:
        vocabulary: The number of token ids.

    Raises:
        ValueError: If the vocabulary is not an integer of at least 2; when called, if tokens are not integers of a
            dtype that holds ``vocabulary - 1``, or the key is not a typed threefry key.

    Example:
        >>> bool(replace_uniform(5)(jax.random.key(0), 0, jnp.zeros(100, jnp.int32)).max() == 4)
        True
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

        require_numbers("x", x)
        return _sample(replaced, key, draw, x)


replace_uniform = ReplaceUniform


@partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Baseline:
    """Replace every token by one value, such as 0, the mean of all tokens, or the id of a mask token.

    Nothing is random: one draw is enough. (Occlusion: Zeiler and Fergus, Visualizing and Understanding Convolutional
    Networks, 2014.)

    Args:
        value: A number, or an array of the shape of a token ``[*s]``.

    Raises:
        ValueError: If the value is not finite; when called, if it does not fit the shape or the dtype of the tokens, or
            the key is not a typed threefry key.

    Example:
        >>> baseline(7)(jax.random.key(0), 0, jnp.array([1, 2, 3])).tolist()
        [7, 7, 7]
    """

    value: Array | float

    def __post_init__(self) -> None:
        _check_values("value", self.value)

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return the value in the place of every token."""
        del draw
        require_key(key, traced=True)
        return jnp.broadcast_to(_as_tokens("value", self.value, x, x.shape[1:]), x.shape)


baseline = Baseline


@partial(jax.tree_util.register_dataclass, data_fields=["tokens", "order", "counts"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class OtherExample:
    """Replace every token by the token at the same position of an example drawn uniformly; see ``other_example``.

    Attributes:
        tokens: The examples ``[n t *s]``.
        order: For each position the numbers of the examples, those with a real token first ``[n t]``.
        counts: How many examples have a real token there ``[t]``.

    Example:
        >>> other = OtherExample(np.array([[7, 8]]), np.array([[0, 0]]), np.array([1, 1]))
        >>> other.counts.tolist()
        [1, 1]
    """

    tokens: Array
    order: Array
    counts: Array

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return replacement number ``draw`` of every token in ``x``."""
        count = self.tokens.shape[1]
        if len(x) != count:
            raise ValueError(f"tokens must be as many as those of the examples drawn from, {count}, got {len(x)}")
        key, positions = jax.random.fold_in(require_key(key, traced=True), draw), jnp.arange(count, dtype=jnp.uint32)
        keys = jax.vmap(partial(jax.random.fold_in, key))(positions)
        ranks = jax.vmap(lambda key, most: jax.random.randint(key, (), 0, most))(keys, jnp.asarray(self.counts))
        chosen = jnp.asarray(self.order)[ranks, positions]
        return _as_tokens("tokens", jnp.asarray(self.tokens)[chosen, positions], x, x.shape)


def other_example(tokens: Array, mask: Array | None = None) -> OtherExample:
    """Make the sampler that replaces a token by that of another example at the same position.

    Examples are drawn uniformly among those with a real token at the position, so that a replacement is one that occurs
    in the data. If the example itself is among the n, it is drawn with probability ``1 / n``, and nothing changes then.
    (Permutation: Breiman, Random Forests, 2001, s.10, here for one position of one example at a time.)

    Args:
        tokens: The examples to draw from ``[n t *s]``, such as those that are measured; on every device.
        mask: Which of their tokens are real ``[n t]``; by default all.

    Raises:
        ValueError: If there are fewer than two examples, the mask is not booleans ``[n t]``, or no example has a real
            token at a position; when called, if there are more or fewer tokens than in the examples, they have another
            shape or dtype, or the key is not a typed threefry key.

    Example:
        >>> sampler = other_example(np.array([[1, 2], [3, 4]]))
        >>> {tuple(sampler(jax.random.key(0), i, jnp.array([1, 2])).tolist()) for i in range(50)} == {
        ...     (1, 2), (1, 4), (3, 2), (3, 4)}
        True
    """
    tokens = host_values(tokens, "tokens", narrow=True)
    if tokens.ndim < 2 or len(tokens) < 2 or not tokens.shape[1]:
        raise ValueError(f"tokens must be two examples or more, [n t *s], got shape {tokens.shape}")
    real = np.ones(tokens.shape[:2], bool) if mask is None else host_values(mask, "mask")
    if real.dtype != bool or real.shape != tokens.shape[:2]:
        raise ValueError(f"mask must be booleans [n t] = {tokens.shape[:2]}, got {real.dtype} of shape {real.shape}")
    counts = real.sum(0).astype(np.int32)
    if not counts.all():
        raise ValueError(f"mask: no example has a real token at position {int(np.argmin(counts))}; cut tokens and mask")
    return OtherExample(tokens, np.argsort(~real, 0, kind="stable").astype(np.int32), counts)


@partial(jax.tree_util.register_dataclass, data_fields=["sampler", "low", "high"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Clipped:
    """Move every alternative of another sampler into the range of valid values: ``min(max(x', low), high)``.

    For pixels, whose noise would leave the range of images. An ``x`` outside of the range is moved, too.

    Args:
        sampler: The sampler, such as ``gaussian(0.1)``.
        low: The smallest value: a number, or an array of the shape of a token.
        high: The largest.

    Raises:
        ValueError: If ``low`` is not below ``high`` everywhere; when called, where the sampler raises it.

    Example:
        >>> perturbed = clipped(gaussian(9.0), -1, 1)(jax.random.key(0), 0, jnp.zeros(100))
        >>> float(perturbed.min()), float(perturbed.max())
        (-1.0, 1.0)
    """

    sampler: Perturbation
    low: Array | float
    high: Array | float

    def __post_init__(self) -> None:
        _require_sampler(self.sampler)
        for name in ("low", "high"):
            _check_values(name, getattr(self, name))
        ends = self.low, self.high
        concrete = all(_is_numbers(end) and not isinstance(end, jax.core.Tracer) for end in ends)
        if concrete and not np.all(np.less(*ends)):
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")

    @property
    def dependent_draws(self) -> int:
        """The number of dependent draws of the wrapped sampler."""
        return dependent_draws(self.sampler)

    def __call__(self, key: Key, draw: Array, x: Array) -> Array:
        """Return draw number ``draw`` of the sampler, moved into the range."""
        moved = self.sampler(key, draw, x)
        ends = (_as_tokens(name, getattr(self, name), x, x.shape[1:]) for name in ("low", "high"))
        low, high = (jnp.broadcast_to(end, x.shape) for end in ends)
        return jnp.clip(moved, low, high)


clipped = Clipped


def as_pytree(perturbation: Perturbation) -> Perturbation:
    """Return the sampler in a form that can be an argument of a compiled function.

    Samplers of this module are pytrees of numbers, which are traced: a sweep over variances compiles once. Any other
    function becomes a pytree without leaves, compiled once for each function, by ``==``.

    Example:
        >>> jax.tree.leaves(as_pytree(gaussian(0.5))), jax.tree.leaves(as_pytree(lambda key, draw, x: x))
        ([0.5], [])
    """
    leaves = jax.tree.leaves(perturbation)
    # Shapes stand for numbers where only the shapes of results are asked for.
    if all(isinstance(leaf, int | float | np.ndarray | jax.Array | jax.ShapeDtypeStruct) for leaf in leaves):
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
    require_numbers("x", x)
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


def _require_sampler(sampler: Any) -> None:
    if not callable(sampler):
        raise ValueError(f"sampler must be a function (key, draw, x), such as gaussian(0.1), got {sampler!r}")


def _is_numbers(value: Any) -> bool:
    return isinstance(value, int | float | np.ndarray | np.generic | jax.Array)


def _check_values(name: str, value: Any) -> None:
    """Raise ValueError unless a value is finite numbers; what JAX puts in its place in a pytree passes."""
    if isinstance(value, str | bytes | bool | list | tuple | dict | complex | np.ma.MaskedArray) or callable(value):
        raise ValueError(f"{name} must be a finite number or an array of them, got {value!r}")
    if _is_numbers(value) and not isinstance(value, jax.core.Tracer):
        array = np.asarray(value)
        if array.dtype == bool or not jnp.issubdtype(array.dtype, jnp.number) or not np.isfinite(array).all():
            raise ValueError(f"{name} must be a finite number or an array of them, got {value!r}")


def _as_tokens(name: str, value: Any, x: Any, shape: tuple[int, ...]) -> Array:
    """Return a value in the dtype of the tokens, if it has their shape and kind; a number has every shape."""
    if not hasattr(x, "dtype") or not x.ndim:
        raise ValueError(f"x must be an array of tokens [t *s], got {jax.tree.structure(x)}")
    array = jnp.asarray(value)
    fits = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if not fits or array.shape not in ((), shape):
        raise ValueError(
            f"{name} must be a number or have the shape {shape} and kind of the tokens, {x.dtype}, got {array.dtype} "
            f"of shape {array.shape}"
        )
    return array.astype(x.dtype)


def _check_size(sampler: Perturbation, name: str) -> None:
    """Check a number of a sampler and make it a float; a traced one stays as it is."""
    value = getattr(sampler, name)
    real = isinstance(value, int | float | np.number | np.ndarray | jax.Array) and not isinstance(
        value, bool | np.ma.MaskedArray
    )
    if not real or np.shape(value) != () or np.dtype(getattr(value, "dtype", float)).kind not in "fiu":
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    if isinstance(value, jax.core.Tracer):
        return
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    object.__setattr__(sampler, name, float(value))


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
