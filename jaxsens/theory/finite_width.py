"""Kernels of single-layer attention of finite width: means over random networks, with error bars.

The network is that of ``attention_kernels``, with softmax scores, too. Its conjugate kernel depends on the width of the
keys only, since the means over values and read-outs are taken in closed form; the tangent kernel is that of one head
with values as wide as the keys, by automatic differentiation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.execution import checks, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.keys import require_key
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.theory.attention_kernels import READ_OUTS, require_tokens
from jaxsens.typing import Array, Key, PyTree

__all__ = ["KINDS", "SCORES", "FiniteWidthKernel", "finite_width_kernel"]

KINDS = ("conjugate", "tangent")
SCORES = ("linear", "softmax", "relu")

_PHI = {"linear": lambda scores: scores, "softmax": jax.nn.softmax, "relu": jax.nn.relu}


def finite_width_kernel(
    kind: str,
    *,
    score: str = "softmax",
    read_out: str = "all",
    width: int = 64,
    networks: int = 1000,
    execution: Execution = DEFAULT,
) -> "FiniteWidthKernel":
    """Estimate a kernel of single-layer attention by its mean over random networks, the independent units.

    For linear scores the mean is that of the limit at every width; for others it differs by about ``1 / width``.

    Args:
        kind: ``"conjugate"`` or ``"tangent"``.
        score: ``"linear"``, ``"softmax"`` over the tokens, or ``"relu"``.
        read_out: ``"all"``, ``"mean"`` or ``"first"``.
        width: Width k of the keys, and of the values for the tangent kernel.
        networks: Random networks.
        execution: How to run; its ``chunk`` counts networks.

    Returns:
        ``measure(key, tokens [m t w])`` -> ``Estimate`` of the kernel ``[m m]`` over networks.

    Raises:
        ValueError: If a word is unknown, or width or networks are no integers of at least 1 (2 networks); when called,
            if the key is not a typed threefry key, or tokens are not finite ``[m t w]``.

    Example:
        >>> from jaxsens.theory.attention_kernels import conjugate_kernel, cube_tokens
        >>> tokens = cube_tokens(2, 2)
        >>> kernel = finite_width_kernel("conjugate", score="linear", width=4)(jax.random.key(0), tokens)
        >>> bool((np.abs(kernel.mean - conjugate_kernel(tokens)) < 4 * kernel.sem + 1e-6).all())
        True
    """
    for name, value, choices in (("kind", kind, KINDS), ("score", score, SCORES), ("read_out", read_out, READ_OUTS)):
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    require_execution(execution)
    width, networks = checks.require_count("width", width), checks.require_count("networks", networks, 2)
    return FiniteWidthKernel(kind, score, read_out, width, networks, execution)


@dataclass(frozen=True)
class FiniteWidthKernel:
    """The measure that ``finite_width_kernel`` returns.

    Attributes:
        kind: ``"conjugate"`` or ``"tangent"``.
        score: What is applied to the scores.
        read_out: Which tokens the output reads.
        width: Width of the keys.
        networks: Random networks.
        execution: How to run.

    Example:
        >>> finite_width_kernel("tangent", width=3).width
        3
    """

    kind: str
    score: str
    read_out: str
    width: int
    networks: int
    execution: Execution

    @property
    def network(self) -> Callable[[Array, Key, Array], Array]:
        """``network(number, key, tokens)``: the kernel ``[m m]`` of one random network."""
        sample = {"conjugate": _conjugate, "tangent": _tangent}[self.kind]
        return parallel.bind(_sampled, sample, self.score, self.read_out, self.width)

    def __call__(self, key: Key, tokens: Array) -> Estimate:
        """Return the estimate of the kernel ``[m m]`` over random networks."""
        tokens = require_tokens("tokens", tokens).astype(np.float32)
        numbers = np.arange(self.networks, dtype=np.uint32)
        values = parallel.map_items(self.network, numbers, require_key(key), tokens, execution=self.execution)
        return estimate.from_values(values, rate=False, unit="networks")


def _sampled(
    sample: Callable[..., Array], score: str, read_out: str, width: int, number: Array, key: Key, tokens: Array
) -> Array:
    count, size = tokens.shape[1:]
    shapes = {"queries": (size, width), "keys": (size, width), "values": (size, width), "output": (count, width)}
    draws = {name: jax.random.fold_in(jax.random.fold_in(key, number), i) for i, name in enumerate(shapes)}
    weights = {name: jax.random.normal(draws[name], shape) for name, shape in shapes.items()}
    return sample(score, read_out, weights, tokens)


def _attended(score: str, read_out: str, weights: PyTree, tokens: Array) -> Array:
    """Return the tokens that the output reads, each a weighted sum of the inputs, ``[r w]``."""
    size, width = weights["queries"].shape
    scores = (tokens @ weights["queries"]) @ (tokens @ weights["keys"]).T / (size * jnp.sqrt(width))
    mixed = _PHI[score](scores) @ tokens / jnp.sqrt(size)
    return {"all": mixed, "mean": mixed.mean(0, keepdims=True), "first": mixed[:1]}[read_out]


def _conjugate(score: str, read_out: str, weights: PyTree, tokens: Array) -> Array:
    features = jax.vmap(lambda one: _attended(score, read_out, weights, one).ravel())(tokens)
    return features @ features.T


def _tangent(score: str, read_out: str, weights: PyTree, tokens: Array) -> Array:
    def output(weights: PyTree, one: Array) -> Array:
        values = _attended(score, read_out, weights, one) @ weights["values"]
        return (weights["output"][: len(values)] * values).sum() / jnp.sqrt(values.shape[1])

    slopes = jax.vmap(jax.grad(output), (None, 0))(weights, tokens)
    flat = jnp.concatenate([leaf.reshape(len(tokens), -1) for leaf in jax.tree.leaves(slopes)], 1)
    return flat @ flat.T
