"""Correlated copies of an input: samplers ``(key, draw, x, rho) -> y``, in which every token of y is perturbed.

Randomness is that of ``perturb``: each token is drawn with the key folded by the draw and by its position. It does not
depend on rho, so that the points of a curve over rho share their noise and the curve is smooth.

All samplers are frozen dataclasses and pytrees of their numbers, as those of ``perturb`` are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import perturb
from jaxsens.execution import checks
from jaxsens.execution.keys import require_key
from jaxsens.typing import Array, Key, Perturbation

__all__ = ["CorrelatedBits", "CorrelatedGaussian", "Correlation", "Redrawn", "require_rhos"]


class Correlation(Protocol):
    """A sampler of correlated copies of an input.

    Example:
        >>> def copy_or_flip(key, draw, x, rho):
        ...     return jnp.where(rho > 0, x, 1 - x)
        >>> copy_or_flip(jax.random.key(0), 0, jnp.array([0, 1]), -1.0).tolist()
        [1, 0]
    """

    def __call__(self, key: Key, draw: Array, x: Array, rho: Array, /) -> Array:
        """Return a copy ``[t *s]`` of the tokens ``x [t *s]`` with correlation ``rho``, draw number ``draw``."""
        ...


@jax.tree_util.register_static
@dataclass(frozen=True)
class CorrelatedBits:
    """Flip each bit with probability ``(1 - rho) / 2``: for uniform bits, ``E[x_i y_i] = rho`` in values of +-1.

    The noise operator on the cube (O'Donnell, Analysis of Boolean Functions, Def. 2.40), for ``rho`` from -1 to 1.

    Raises:
        ValueError: When called, if tokens are not integers, or the key is not a typed threefry key.

    Example:
        >>> CorrelatedBits()(jax.random.key(0), 0, jnp.array([0, 1, 1]), -1.0).tolist()
        [1, 0, 0]
    """

    def __call__(self, key: Key, draw: Array, x: Array, rho: Array) -> Array:
        """Return bits with correlation ``rho``."""
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"tokens must be bits, integers 0 and 1, got {x.dtype}: CorrelatedGaussian takes vectors")
        uniform = _by_token(lambda key, token: jax.random.uniform(key, token.shape), key, draw, x)
        return jnp.where(uniform < (1 - rho) / 2, 1 - x, x)


@partial(jax.tree_util.register_dataclass, data_fields=["variance", "mean"], meta_fields=[])
@dataclass(frozen=True)
class CorrelatedGaussian:
    """Mix every element with Gaussian noise: ``y = mean + rho (x - mean) + sqrt(1 - rho^2) sqrt(variance) xi``.

    For embeddings and patches. Where x is normal with this mean and variance, so is y, with correlation rho between
    equal elements (Ornstein-Uhlenbeck; O'Donnell, Def. 11.6, from 0 to 1; here from -1 to 1). For other x the two do
    not have the same law, and the result is the similarity of outputs under this noise, no longer a norm.

    Args:
        variance: The variance of an element of x, in squared units of the embeddings or the normalized pixels.
        mean: Its mean, a number.

    Raises:
        ValueError: If the variance is negative or not finite, or the mean is no finite number; when called, if tokens
            are not in float32 or float64, or the key is not a typed threefry key.

    Example:
        >>> CorrelatedGaussian()(jax.random.key(0), 0, jnp.array([[1.0, 2.0]]), 1.0).tolist()
        [[1.0, 2.0]]
    """

    variance: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("variance", 0), ("mean", -np.inf)):
            if not _placed(getattr(self, name)):
                object.__setattr__(self, name, checks.require_finite(name, getattr(self, name), least))

    def __call__(self, key: Key, draw: Array, x: Array, rho: Array) -> Array:
        """Return embeddings or patches with correlation ``rho``."""
        noise = perturb.gaussian(1.0)(key, draw, jnp.zeros_like(x))
        rho, variance = (jnp.asarray(number, x.dtype) for number in (rho, self.variance))
        return self.mean + rho * (x - self.mean) + jnp.sqrt((1 - rho**2) * variance) * noise


@partial(jax.tree_util.register_dataclass, data_fields=["sampler"], meta_fields=[])
@dataclass(frozen=True)
class Redrawn:
    """Keep each token with probability ``rho``, else take that of another sampler; ``rho`` from 0 to 1.

    The noise operator on product spaces (O'Donnell, Def. 8.27), where the sampler draws tokens from their own law, as
    ``perturb.replace_uniform`` does for uniform ids and ``perturb.other_example`` for tokens of a data set.

    Args:
        sampler: Sampler of replacements for all tokens.

    Raises:
        ValueError: If the sampler is no function.

    Example:
        >>> Redrawn(perturb.replace_uniform(9))(jax.random.key(0), 0, jnp.array([3, 4]), 1.0).tolist()
        [3, 4]
    """

    least = 0.0

    sampler: Perturbation

    def __post_init__(self) -> None:
        if not _placed(self.sampler):
            checks.require_functions(sampler=self.sampler)

    def __call__(self, key: Key, draw: Array, x: Array, rho: Array) -> Array:
        """Return tokens of which each is kept with probability ``rho``."""
        kept_key, drawn_key = jax.random.split(require_key(key, traced=True))
        uniform = _by_token(lambda key, token: jax.random.uniform(key, token.shape[:0]), kept_key, draw, x)
        kept = (uniform < rho).reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(kept, x, self.sampler(drawn_key, draw, x))


def require_rhos(rhos: Sequence[float], noise: Any = None) -> np.ndarray:
    """Return different correlations as float64 ``[r]``.

    Args:
        rhos: The correlations.
        noise: A sampler, whose attribute ``least`` is the smallest correlation that it takes, by default -1.

    Raises:
        ValueError: If there is none, one is outside [-1, 1] (or [0, 1], as the sampler says), or two are equal.

    Example:
        >>> require_rhos([0.5, 1.5])
        Traceback (most recent call last):
        ValueError: rhos must be different numbers from -1 to 1, got [0.5 1.5]
    """
    least = getattr(noise, "least", -1.0)
    values = checks.host_values(rhos, "rhos")
    real = values.dtype.kind in "iuf" and values.ndim == 1 and values.size
    if not real or not ((values >= least) & (values <= 1)).all() or len(np.unique(values)) < len(values):
        raise ValueError(f"rhos must be different numbers from {least:g} to 1, got {values}")
    return values.astype(np.float64)


def _by_token(sample: Callable[[Key, Array], Array], key: Key, draw: Array, x: Array) -> Array:
    """Return ``sample(key, token)`` for every token ``x [t *s]``."""
    key = jax.random.fold_in(require_key(key, traced=True), draw)
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(x), dtype=jnp.uint32))
    return jax.vmap(sample)(keys, x)


def _placed(value: Any) -> bool:
    """Return whether JAX put a value of its own in the place of a field, when it rebuilds a pytree."""
    return type(value) is object or isinstance(value, jax.Array | jax.ShapeDtypeStruct)
