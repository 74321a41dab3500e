"""Random initial weights of recognizers: the four schemes of Kövér et al. (F.1), and two of Bhattamishra et al.

A scheme defines how weights are drawn. Papers often leave open how biases, gains and embeddings are, so these are
separate arguments.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution.keys import require_key
from jaxsens.models.common import require
from jaxsens.typing import Array, Key, PyTree

__all__ = ["ROLES", "SCHEMES", "Architecture", "Spec", "draw"]

ROLES = ("weight", "bias", "gain", "offset", "embedding")


@dataclasses.dataclass(frozen=True)
class Spec:
    """The shape and the role of an array of parameters, by which it is drawn.

    Attributes:
        shape: Its shape, with the layers it is stacked over.
        role: ``weight``, ``bias`` (added to a product), ``gain`` and ``offset`` (of a normalization), ``embedding``.
        fans: ``(fan in, fan out)`` of a weight or an embedding.

    Example:
        >>> Spec((3, 2), role="weight", fans=(3, 2)).shape
        (3, 2)
    """

    shape: tuple[int, ...]
    role: str = "weight"
    fans: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        require(self.role in ROLES, "role", self.role, f"one of {', '.join(ROLES)}")


class Architecture(Protocol):
    """A configuration with a specification of its parameters.

    Example:
        >>> from jaxsens.models import recognizers
        >>> sorted(recognizers.Config(depth=1, heads=1, head_size=2).specs)
        ['embedding', 'layers', 'readout']
    """

    @property
    def specs(self) -> PyTree:
        """A tree of ``Spec``."""
        ...


def _uniform(key: Key, spec: Spec, limit: float) -> Array:
    return limit * _numbers(key, spec.shape, "uniform")


def _normal(key: Key, spec: Spec, deviation: float) -> Array:
    return deviation * _numbers(key, spec.shape, "normal")


def _numbers(key: Key, shape: tuple[int, ...], kind: str) -> Array:
    """Draw numbers, uniform on [-1, 1] or standard normal, in blocks of few sizes, since each size is compiled."""
    count = math.prod(shape)
    size = min(2**20, 1 << (count - 1).bit_length())
    blocks = [_block(jax.random.fold_in(key, i), kind, size) for i in range(max(1, -(-count // size)))]
    host = not any(isinstance(block, jax.core.Tracer) for block in blocks)
    joined = np.concatenate(blocks) if host else jnp.concatenate(blocks)
    return joined[:count].reshape(shape)


@partial(jax.jit, static_argnames=("kind", "size"))
def _block(key: Key, kind: str, size: int) -> jax.Array:
    if kind == "uniform":
        return jax.random.uniform(key, (size,), jnp.float32, -1.0, 1.0)
    return jax.random.normal(key, (size,), jnp.float32)


def _xavier_uniform(key: Key, spec: Spec) -> Array:
    return _uniform(key, spec, math.sqrt(6 / sum(spec.fans)))


def _xavier_normal(key: Key, spec: Spec) -> Array:
    return _normal(key, spec, math.sqrt(2 / sum(spec.fans)))


SCHEMES: dict[str, Callable[[Key, Spec], Array]] = {
    "uniform": partial(_uniform, limit=1.0),
    "normal": partial(_normal, deviation=1.0),
    "xavier_uniform": _xavier_uniform,
    "xavier_normal": _xavier_normal,
    "uniform_10": partial(_uniform, limit=10.0),
    "normal_10": partial(_normal, deviation=10.0),
}
"""How weights are drawn: uniform on [-1, 1], standard normal, Xavier (Glorot and Bengio 2010) with gain 1, and the
uniform on [-10, 10] and normal of deviation 10 of Bhattamishra et al. 2023."""


def draw(
    key: Key, specs: PyTree, scheme: str, *, biases: str = "scheme", gains: str = "ones", embedding: str = "normal"
) -> PyTree:
    """Draw the parameters that a tree of ``Spec`` describes; a leaf depends only on its position in the tree.

    Args:
        key: The random key.
        specs: Tree of ``Spec``.
        scheme: One of ``SCHEMES``, for weights.
        biases: ``"scheme"``: drawn as weights are, but 0 under Xavier, which is not defined for them; or ``"zero"``.
        gains: ``"ones"``: gains 1 and offsets 0; or ``"scheme"``: both drawn as weights are (not under Xavier).
        embedding: ``"normal"``: standard normal; or ``"scheme"``: as weights are.

    Returns:
        The tree with float32 arrays in the place of specs; on the host, unless it is traced.

    Raises:
        ValueError: If an argument is none of those.

    Example:
        >>> weights = draw(jax.random.key(0), {"w": Spec((3, 4), fans=(3, 4))}, "uniform")["w"]
        >>> weights.shape, bool(abs(weights).max() <= 1)
        ((3, 4), True)
    """
    require_key(key, traced=True)
    require(isinstance(scheme, str) and scheme in SCHEMES, "scheme", scheme, f"one of {', '.join(SCHEMES)}")
    require(biases in ("scheme", "zero"), "biases", biases, "'scheme' or 'zero'")
    require(gains in ("ones", "scheme"), "gains", gains, "'ones' or 'scheme'")
    require(embedding in ("normal", "scheme"), "embedding", embedding, "'normal' or 'scheme'")
    leaves, structure = jax.tree.flatten(specs)
    how = (biases, gains, embedding)
    return structure.unflatten([_leaf(jax.random.fold_in(key, i), spec, scheme, *how) for i, spec in enumerate(leaves)])


def _leaf(key: Key, spec: Spec, scheme: str, biases: str, gains: str, embedding: str) -> Any:
    xavier = scheme.startswith("xavier")
    drawn = SCHEMES[scheme]
    if spec.role == "embedding" and embedding == "normal":
        drawn = SCHEMES["normal"]
    elif spec.role == "bias" and (biases == "zero" or xavier):
        return np.zeros(spec.shape, np.float32)
    elif spec.role in ("gain", "offset") and (gains == "ones" or xavier):
        return np.full(spec.shape, spec.role == "gain", np.float32)
    numbers = drawn(key, spec)
    return np.asarray(numbers) if isinstance(numbers, np.generic) else numbers


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
