"""Shared parts of all models: checks of arguments, the configuration of image models, and modules as pure functions.

The file is long since each of the checks has an example.
"""

import dataclasses
import functools
import math
import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.execution.keys import require_key
from jaxsens.execution.parallel import bind
from jaxsens.typing import Apply, Array, Key, PyTree, TrainApply

__all__ = [
    "FLOATS",
    "ImageConfig",
    "Patches",
    "as_sizes",
    "evaluation",
    "init",
    "parameter_count",
    "read_tokens",
    "require",
    "require_choice",
    "require_classes",
    "require_dtype",
    "require_flags",
    "require_mask",
    "require_number",
    "require_positive",
    "require_rows",
    "require_shapes",
    "require_unmasked",
    "require_variables",
    "shapes_by_path",
    "train_apply",
]

FLOATS = ("bfloat16", "float16", "float32", "float64")
"""The dtypes that a model may compute in."""


def require(holds: bool, argument: str, value: object, allowed: str) -> None:
    """Raise ValueError with the argument's name, its value and the values allowed, unless ``holds``.

    Example:
        >>> require(False, "width", -1, "at least 1")
        Traceback (most recent call last):
        ValueError: width is -1, but must be at least 1.
    """
    if not holds:
        raise ValueError(f"{argument} is {value!r}, but must be {allowed}.")


def require_positive(**arguments: Any) -> None:
    """Raise ValueError unless every argument is an integer of at least one.

    Example:
        >>> require_positive(width=4, depth=0)
        Traceback (most recent call last):
        ValueError: depth is 0, but must be an integer of at least 1.
    """
    for argument, value in arguments.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        require(whole and value >= 1, argument, value, "an integer of at least 1")


def require_flags(**arguments: Any) -> None:
    """Raise ValueError unless every argument is True or False; a text such as "no" would count as true.

    Example:
        >>> require_flags(states="no")
        Traceback (most recent call last):
        ValueError: states is 'no', but must be True or False.
    """
    for argument, value in arguments.items():
        require(isinstance(value, bool | np.bool_), argument, value, "True or False")


def require_choice(argument: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ValueError unless the value is one of the texts allowed.

    Example:
        >>> require_choice("read_out", "last", ("last", "mean"))
        >>> require_choice("read_out", "first", ("last", "mean"))
        Traceback (most recent call last):
        ValueError: read_out is 'first', but must be one of last, mean.
    """
    allowed = tuple(allowed)
    require(isinstance(value, str) and value in allowed, argument, value, f"one of {', '.join(allowed)}")


def require_number(argument: str, value: object, holds: Callable[[float], bool], allowed: str) -> None:
    """Raise ValueError unless the value is a finite real number, no boolean, for which ``holds`` is true.

    Example:
        >>> require_number("dropout", 1.5, lambda value: 0 <= value < 1, "from 0 to 1")
        Traceback (most recent call last):
        ValueError: dropout is 1.5, but must be from 0 to 1.
    """
    real = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool_)
    require(real and math.isfinite(value) and holds(value), argument, value, allowed)


def require_path(path: Any) -> None:
    """Raise ValueError unless the value can be the path of a file or folder."""
    require(isinstance(path, str | os.PathLike), "path", path, "a path")


def require_classes(classes: int | None) -> None:
    """Raise ValueError unless ``classes`` is None, for a model without a classifier, or a positive integer.

    Example:
        >>> require_classes(None)
        >>> require_classes(0)
        Traceback (most recent call last):
        ValueError: classes is 0, but must be an integer of at least 1, or None.
    """
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    require(classes is None or (whole and classes >= 1), "classes", classes, "an integer of at least 1, or None")


def require_rows(rows: int | None) -> None:
    """Raise ValueError unless ``rows``, evaluated at once, is None or an integer of at least 1.

    Example:
        >>> require_rows(None)
        >>> require_rows(0)
        Traceback (most recent call last):
        ValueError: rows must be at least 1, or None for all at once, got 0
    """
    whole = isinstance(rows, int | np.integer) and not isinstance(rows, bool)
    if not (rows is None or (whole and rows >= 1)):
        raise ValueError(f"rows must be at least 1, or None for all at once, got {rows!r}")


def require_mask(mask: Array | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless there is no mask, or one of booleans and of this shape.

    Example:
        >>> require_mask(np.ones((2, 3), bool), (2, 3))
        >>> require_mask(np.ones((2, 3)), (2, 3))
        Traceback (most recent call last):
        ValueError: mask's dtype is 'float64', but must be bool.
    """
    if mask is not None:
        require(np.shape(mask) == shape, "mask's shape", np.shape(mask), f"{shape}, one per token")
        require(mask.dtype == np.bool_, "mask's dtype", str(mask.dtype), "bool")


def require_unmasked(argument: str, values: Array) -> None:
    """Raise ValueError for a masked array of NumPy, whose mask JAX would drop.

    Example:
        >>> require_unmasked("tokens", np.ma.masked_array([1, 2], [False, True]))
        Traceback (most recent call last):
        ValueError: tokens is 'a masked array', but must be an array; give the mask as the argument mask.
    """
    masked = isinstance(values, np.ma.MaskedArray)
    require(not masked, argument, "a masked array", "an array; give the mask as the argument mask")


def require_dtype(dtype: Any) -> np.dtype:
    """Return a dtype that models compute in, one of ``FLOATS``, or raise ValueError.

    Example:
        >>> require_dtype("bfloat16")
        dtype(bfloat16)
    """
    try:
        resolved = jnp.dtype(dtype)
    except TypeError:
        resolved = None
    require(resolved is not None and str(resolved) in FLOATS, "dtype", dtype, f"one of {', '.join(FLOATS)}")
    return resolved


def as_sizes(argument: str, values: Any) -> tuple[int, ...]:
    """Return positive integers as a tuple, or raise ValueError; lists come from files of settings.

    Example:
        >>> as_sizes("channels", [8, 16])
        (8, 16)
    """
    is_iterable = isinstance(values, Iterable) and not isinstance(values, str | bytes)
    require(is_iterable, argument, values, "a tuple of integers")
    values = tuple(values)
    require_positive(**{f"{argument}[{index}]": value for index, value in enumerate(values)})
    return values


class Patches:
    """The patches of an image, for configurations with ``image_shape`` and ``patch``.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config(Patches):
        ...     image_shape: tuple[int, int, int] = (4, 6, 1)
        ...     patch: int = 2
        >>> Config().grid, Config().token_shape
        ((2, 3), (6, 4))
    """

    image_shape: tuple[int, int, int]
    patch: int

    def require_patches(self) -> None:
        """Make ``image_shape`` a tuple, and raise ValueError unless it is ``(h, w, c)`` and the patch divides it."""
        # Equal settings must become equal modules.
        object.__setattr__(self, "image_shape", as_sizes("image_shape", self.image_shape))
        require_positive(patch=self.patch)
        require(len(self.image_shape) == 3, "image_shape", self.image_shape, "(h, w, c)")
        height, width, _ = self.image_shape
        divides = height % self.patch == 0 and width % self.patch == 0
        require(divides, "patch", self.patch, f"a divisor of the image's height {height} and width {width}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        height, width, _ = self.image_shape
        return height // self.patch, width // self.patch

    @property
    def token_shape(self) -> tuple[int, int]:
        """``(t, d)`` of the tokens: number of patches, pixels times channels of a patch."""
        return math.prod(self.grid), self.patch**2 * self.image_shape[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig(Patches):
    """The settings that all image models share. Configurations of equal values are equal, and hash equal.

    Attributes:
        classes: Number of classes.
        image_shape: ``(h, w, c)``.
        patch: Side of the square patches that are the tokens, in pixels; divides h and w.
        dtype: The dtype of activations. Parameters are always created in float32, and logits are at least float32;
            ``bfloat16`` is therefore mixed precision.

    Example:
        >>> ImageConfig(classes=10, image_shape=(28, 28, 1), patch=4).token_shape
        (49, 16)
    """

    classes: int
    image_shape: tuple[int, int, int]
    patch: int
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        self.require_patches()
        self.require_classes()
        object.__setattr__(self, "dtype", require_dtype(self.dtype))

    def require_classes(self) -> None:
        """Raise ValueError unless ``classes`` is a positive integer."""
        require_positive(classes=self.classes)

    @property
    def logits_dtype(self) -> Any:
        """Dtype of logits and of attention weights: float32, or float64 where the model computes in it."""
        return jnp.promote_types(jnp.float32, self.dtype)


def read_tokens(config: ImageConfig, tokens: Array, mask: Array | None) -> jax.Array:
    """Check ``tokens [b t d]`` and ``mask [b t]``, cast to the model's dtype, and set padding to zero.

    Raises:
        ValueError: If a shape does not fit the configuration, if ``mask`` is not of booleans, or if the model is to
            compute in float64 while JAX has it switched off.

    Example:
        >>> config = ImageConfig(classes=2, image_shape=(2, 4, 1), patch=2)
        >>> read_tokens(config, np.ones((1, 2, 4)), np.array([[True, False]]))[0].tolist()
        [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    count, size = config.token_shape
    expected = f"[b, {count}, {size}]: the {config.patch} x {config.patch} patches of images {config.image_shape}"
    require(np.ndim(tokens) == 3 and np.shape(tokens)[1:] == (count, size), "tokens' shape", np.shape(tokens), expected)
    if config.dtype == jnp.float64:
        require(jax.config.jax_enable_x64, "dtype", "float64", "used with jax_enable_x64 on")
    require_unmasked("tokens", tokens)
    tokens = jnp.asarray(tokens, config.dtype)
    if mask is None:
        return tokens
    require(np.shape(mask) == tokens.shape[:2], "mask's shape", np.shape(mask), f"{tokens.shape[:2]}, one per token")
    require(mask.dtype == np.bool_, "mask's dtype", str(mask.dtype), "bool")
    return jnp.where(mask[:, :, None], tokens, 0)


def require_module(module: nn.Module) -> None:
    """Raise ValueError unless the value is a module of Linen."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a module of Linen, as models.build returns it, got {module!r}")


def init(module: nn.Module, key: Key) -> PyTree:
    """Return the initial variables of an image model: ``params``, and ``batch_stats`` if the model has them.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("mlp", "small", image_shape=(8, 8, 1), classes=10, patch=2)
        >>> sorted(models.init(module, jax.random.key(0)))
        ['params']
    """
    require_module(module)
    return module.init(require_key(key, traced=True), jnp.zeros((1, *module.config.token_shape), module.config.dtype))


def parameter_count(variables: PyTree) -> int:
    """Return the number of trained parameters: all of ``params``, none of ``batch_stats``.

    Example:
        >>> parameter_count({"params": {"w": np.zeros((2, 3))}, "batch_stats": {"mean": np.zeros(3)}})
        6
    """
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def evaluation(module: nn.Module) -> Apply:
    """Return ``apply(variables, tokens [b t *s], mask [b t] = None) -> logits [b classes]``, deterministic.

    Functions of equal modules are equal and hash equal, so they share compiled code; bound methods ``module.apply`` do
    not, because they are compared by the identity of the object.

    Raises:
        ValueError: When called, if tokens, mask or variables do not fit the module. Variables are compared with those
            that the module would create, since Flax ignores variables that it does not need, such as a surplus layer.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("mlp", "small", image_shape=(8, 8, 1), classes=10, patch=2)
        >>> variables = models.init(module, jax.random.key(0))
        >>> evaluation(module)(variables, np.zeros((3, 16, 4), np.float32)).shape
        (3, 10)
    """
    require_module(module)
    return bind(_evaluate, module)


def train_apply(module: nn.Module) -> TrainApply:
    """Return ``train_apply(variables, tokens, key) -> (logits, variables)``: training mode.

    Dropout draws from ``key``; normalization uses the statistics of the batch, and the variables returned have the new
    ``batch_stats``, if the model has them. Functions of equal modules are equal and hash equal.

    Raises:
        ValueError: When called, if tokens or variables do not fit the module.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("mlp", "small", image_shape=(8, 8, 1), classes=10, patch=2)
        >>> variables = models.init(module, jax.random.key(0))
        >>> logits, _ = train_apply(module)(variables, np.zeros((3, 16, 4), np.float32), jax.random.key(1))
        >>> logits.shape
        (3, 10)
    """
    require_module(module)
    return bind(_train, module)


def _evaluate(module: nn.Module, variables: PyTree, tokens: Array, mask: Array | None = None, /) -> jax.Array:
    require_variables(module, variables, tokens)
    return module.apply(variables, tokens, mask)


def _train(module: nn.Module, variables: PyTree, tokens: Array, key: Key, /) -> tuple[jax.Array, PyTree]:
    require_variables(module, variables, tokens)
    logits, updated = module.apply(variables, tokens, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
    return logits, {**variables, **updated}


def require_variables(module: nn.Module, variables: PyTree, tokens: Array) -> None:
    """Raise ValueError unless variables have the shapes that the module would create for ``tokens [b t *s]``.

    Example:
        >>> module, tokens = nn.Dense(2), np.ones((1, 3), np.float32)
        >>> require_variables(module, {"params": {"kernel": np.ones((3, 2)), "bias": np.ones(2)}}, tokens)
    """
    require(hasattr(tokens, "dtype"), "tokens", tokens, "an array [b t *s]")
    require_shapes(
        module, variables, _variable_shapes(module, tokens.shape[1:], jax.dtypes.canonicalize_dtype(tokens.dtype))
    )


def require_shapes(module: nn.Module, variables: PyTree, expected: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless the leaves of variables have the paths and shapes expected; see ``shapes_by_path``.

    Example:
        >>> require_shapes(nn.Dense(2), {"kernel": np.ones((3, 2))}, {"['kernel']": (4, 2)})
        Traceback (most recent call last):
        ValueError: variables['kernel'] is (3, 2), but Dense needs it to be (4, 2).
    """
    shapes = shapes_by_path(variables)
    for path in sorted(expected.keys() | shapes.keys()):
        needed, present = expected.get(path, "absent"), shapes.get(path, "absent")
        if needed != present:
            raise ValueError(f"variables{path} is {present}, but {type(module).__name__} needs it to be {needed}.")


@functools.lru_cache(maxsize=256)
def _variable_shapes(module: nn.Module, shape: tuple[int, ...], dtype: np.dtype) -> dict[str, tuple[int, ...]]:
    example = jax.ShapeDtypeStruct((1, *shape), dtype)
    return shapes_by_path(jax.eval_shape(lambda tokens: module.init(jax.random.key(0), tokens), example))


def shapes_by_path(variables: PyTree) -> dict[str, tuple[int, ...]]:
    """Return the shape of every leaf by its path, as text.

    Example:
        >>> shapes_by_path({"dense": {"bias": np.zeros(2)}})
        {"['dense']['bias']": (2,)}
    """
    leaves, _ = jax.tree.flatten_with_path(variables)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
