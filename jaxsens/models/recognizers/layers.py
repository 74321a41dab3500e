"""The layers of a transformer recognizer, as functions of stacked parameters.

Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, s.2.2, 2.3, F.1.
The steps of a layer are separate functions, so that ``jaxsens.models.substitution.recognizer`` can share them among all
flips of a string; the parameters of the layers are stacked, so that all depths share one compiled program.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models.recognizers.config import Config
from jaxsens.typing import Array, PyTree

__all__ = [
    "affine",
    "after_attention",
    "attention",
    "attention_input",
    "center",
    "contract",
    "finite_factor",
    "join_heads",
    "layer",
    "mlp",
    "normalize",
    "project",
    "read_out",
    "score_scale",
    "take_layer",
    "through_layers",
]


def through_layers(config: Config, variables: PyTree, x: jax.Array, first: int, stop: int) -> jax.Array:
    """Return ``x [b t d]`` after layers ``first`` to ``stop - 1``; ``stop`` counts from the variables' own depth.

    Example:
        >>> config = Config(depth=2, heads=1, head_size=2)
        >>> params = jax.tree.map(lambda spec: jnp.ones(spec.shape), config.specs)
        >>> x = np.zeros((1, 3, config.width), np.float32)
        >>> jax.eval_shape(lambda x: through_layers(config, {"params": params}, x, 0, 2), x).shape
        (1, 3, 2)
    """
    stack = variables["params"]["layers"]
    if "depth" not in variables:
        chosen = jax.tree.map(lambda a: a[first:stop], stack)
        return jax.lax.scan(lambda x, weights: (layer(config, weights, x)[0], None), x, chosen)[0]
    stop = variables["depth"] - (config.depth - stop)
    return jax.lax.fori_loop(first, stop, lambda i, x: layer(config, take_layer(stack, i), x)[0], x)


def take_layer(stack: PyTree, index: Array | int) -> PyTree:
    """Return the parameters of one layer.

    Example:
        >>> take_layer({"w": jnp.arange(6).reshape(3, 2)}, 1)["w"].tolist()
        [2, 3]
    """
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, keepdims=False), stack)


def layer(config: Config, weights: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map activations ``[b t d]`` to the next ones, and return the normalizers ``[r b t]`` used on the way.

    Example:
        >>> config = Config(depth=1, heads=1, head_size=2)
        >>> weights = jax.tree.map(lambda spec: jnp.ones(spec.shape[1:]), config.specs["layers"])
        >>> x = np.zeros((1, 3, config.width), np.float32)
        >>> jax.eval_shape(lambda x: layer(config, weights, x), x)[0].shape
        (1, 3, 2)
    """
    attended, z_input = attention_input(config, weights, x)
    x, *z = after_attention(config, weights, x, attention(config, weights, attended))
    return x, jnp.stack([*z_input, *z])


def attention_input(config: Config, weights: PyTree, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Return the input of the heads, from ``x [... d]``, and the normalizer if normalization comes first.

    Example:
        >>> config = Config(depth=1, heads=1, head_size=2)  # it normalizes after the heads
        >>> attention_input(config, {}, np.ones(2))
        (array([1., 1.]), ())
    """
    if not config.norm_first:
        return x, ()
    y, z = normalize(config, x, weights, "attention")
    return y, (z,)


def after_attention(config: Config, weights: PyTree, x: jax.Array, attended: jax.Array) -> tuple[jax.Array, ...]:
    """Return the rest of a layer, for rows ``x [... d]`` and their attention outputs, and the normalizers ``[...]``.

    Example:
        >>> config = Config(depth=1, heads=1, head_size=2)
        >>> weights = jax.tree.map(lambda spec: jnp.ones(spec.shape[1:]), config.specs["layers"])
        >>> x = np.zeros((3, config.width), np.float32)
        >>> jax.eval_shape(lambda x: after_attention(config, weights, x, x), x)[0].shape
        (3, 2)
    """
    if not config.standard:
        return normalize(config, x + mlp(weights, attended))
    if config.norm_first:
        x += attended
        y, z = normalize(config, x, weights, "mlp")
        return x + mlp(weights, y), z
    x, z_attention = normalize(config, x + attended, weights, "attention")
    x, z_mlp = normalize(config, x + mlp(weights, x), weights, "mlp")
    return x, z_attention, z_mlp


def attention(config: Config, weights: PyTree, x: jax.Array, rows: jax.Array | None = None) -> jax.Array:
    """Return the heads of ``x [b t d]``, projected or summed, for its ``rows [b q d]`` or all (Eqs. 8a to 8c).

    Example:
        >>> config = Config(depth=1, heads=1, head_size=2)
        >>> weights = jax.tree.map(lambda spec: jnp.ones(spec.shape[1:]), config.specs["layers"])
        >>> jax.eval_shape(lambda x: attention(config, weights, x), np.zeros((1, 3, config.width), np.float32)).shape
        (1, 3, 2)
    """
    query = project(weights, "query", x if rows is None else rows)
    key, value = (project(weights, name, x) for name in ("key", "value"))
    scores = jnp.einsum("bqhk,bmhk->bhqm", query, key) * score_scale(config)
    mixed = jnp.einsum("bhqm,bmhk->bqhk", nn.softmax(scores), value)
    return join_heads(weights, mixed)


def project(weights: PyTree, name: str, x: jax.Array) -> jax.Array:
    """Return queries, keys or values ``[... h k]`` of ``x [... d]``.

    Example:
        >>> project({"query": jnp.ones((2, 1, 3))}, "query", jnp.ones((4, 2))).shape
        (4, 1, 3)
    """
    projected = jnp.einsum("...d,dhk->...hk", x, weights[name])
    bias = weights.get(f"{name}_bias")
    return projected if bias is None else projected + jnp.expand_dims(bias, range(x.ndim - 1))


def score_scale(config: Config) -> float:
    """Return the factor of scores.

    Example:
        >>> score_scale(Config(depth=1, heads=1, head_size=4))
        0.5
    """
    return config.head_size**-0.5 if config.scaled else 1.0


def join_heads(weights: PyTree, mixed: jax.Array) -> jax.Array:
    """Return ``[... d]`` of the heads' outputs ``[... h k]``: projected (standard block) or summed (paper).

    Example:
        >>> join_heads({}, np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
        [4.0, 6.0]
    """
    if "out" not in weights:
        return mixed.sum(-2)
    joined = jnp.einsum("...hk,hkd->...d", mixed, weights["out"])
    return joined + jnp.expand_dims(weights["out_bias"], range(joined.ndim - 1))


def mlp(weights: PyTree, x: jax.Array) -> jax.Array:
    """Return ``contract relu(expand x + bias) + bias`` of ``x [... d]`` (Eq. 10).

    Example:
        >>> weights = {"expand": np.eye(2), "expand_bias": np.zeros(2)}
        >>> weights |= {"contract": np.eye(2), "contract_bias": np.ones(2)}
        >>> mlp(weights, np.array([1.0, -1.0])).tolist()
        [2.0, 1.0]
    """
    return contract(weights, affine(x, weights["expand"], weights["expand_bias"]))


def contract(weights: PyTree, hidden: jax.Array) -> jax.Array:
    """Return the second half of the MLP, ``[... d]``, from its hidden units before the ReLU ``[... f]``.

    Example:
        >>> contract({"contract": np.eye(2), "contract_bias": np.ones(2)}, np.array([1.0, -1.0])).tolist()
        [2.0, 1.0]
    """
    return affine(nn.relu(hidden), weights["contract"], weights["contract_bias"])


def affine(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """Return ``x weight + bias`` over the last axis.

    Example:
        >>> affine(np.array([1.0, 2.0]), np.eye(2), np.ones(2)).tolist()
        [2.0, 3.0]
    """
    return x @ weight + jnp.expand_dims(bias, range(x.ndim - 1))


def normalize(config: Config, x: jax.Array, weights: Mapping[str, Any] = {}, name: str = "") -> tuple[jax.Array, Any]:
    """Return ``z (x - mean)`` over the last axis, with the gain and offset of ``name`` if there are, and ``z [...]``.

    ``z = 1 / sqrt(variance + epsilon)`` (Eqs. 11 to 13). Where both are zero, the result is 0, its gradient 0 and z
    infinite. Where the variance overflows beside a positive epsilon, both are NaN.

    Example:
        >>> config, x = Config(depth=1, heads=1, head_size=2), np.zeros((3, 2), np.float32)
        >>> y, z = jax.eval_shape(lambda x: normalize(config, x), x)
        >>> y.shape, z.shape
        ((3, 2), (3,))
    """
    centered, z = center(config, x)
    y = centered * finite_factor(z)
    prefix = f"{name}_" if name else ""
    if f"{prefix}gain" in weights:
        y = y * jnp.expand_dims(weights[f"{prefix}gain"], range(x.ndim - 1))
        y = y + jnp.expand_dims(weights[f"{prefix}offset"], range(x.ndim - 1))
    return y, z


def center(config: Config, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``x - mean`` over the last axis, and ``1 / sqrt(variance + epsilon)``, infinite where both are zero.

    Example:
        >>> centered, z = center(Config(depth=1, heads=1, head_size=2, epsilon=1.0), jnp.array([1.0, 3.0]))
        >>> centered.tolist(), round(float(z), 3)
        ([-1.0, 1.0], 0.707)
    """
    if config.epsilon > 0:
        centered = x - x.mean(-1, keepdims=True)
        stabilized = (centered**2).mean(-1) + config.epsilon
        # An overflow would turn a finite row into a row of zeros without a warning.
        return centered, jnp.where(jnp.isinf(stabilized), jnp.nan, 1 / jnp.sqrt(stabilized))
    x = x - x[..., :1]  # so that a constant row is exactly zero, rather than rounding noise blown up to size 1
    centered = x - x.mean(-1, keepdims=True)
    size = jax.lax.stop_gradient(jnp.abs(centered).max(-1))  # divided out, so that no square under- or overflows
    constant = size == 0
    size = jnp.where(constant, 1, size)
    variance = jnp.where(constant, 1, ((centered / size[..., None]) ** 2).mean(-1))
    return centered, jnp.where(constant, jnp.inf, 1 / (jnp.sqrt(variance) * size))


def finite_factor(z: jax.Array) -> jax.Array:
    """Return the factor of a centered row, ``[... 1]``: z, but 0 where z is infinite, since the row is 0 there.

    Example:
        >>> finite_factor(jnp.array([2.0, jnp.inf])).tolist()
        [[2.0], [0.0]]
    """
    return jnp.where(jnp.isinf(z), 0, z)[..., None]


def read_out(config: Config, weights: PyTree, final: jax.Array) -> jax.Array:
    """Return the logits ``[b]`` of the last activation of the end of string ``[b d]`` (Eq. 14).

    Example:
        >>> config = Config(depth=1, heads=1, head_size=2)
        >>> read_out(config, {"weight": np.ones(2), "bias": 1.0}, np.array([[1.0, 2.0]])).tolist()
        [4.0]
    """
    if config.norm_first:
        final = normalize(config, final, weights)[0]
    return final @ weights["weight"] + weights["bias"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
