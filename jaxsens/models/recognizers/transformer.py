"""Transformer recognizers of bit strings: a string, the end-of-string symbol, and a logit that is read there.

Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, s.2.2, 2.3, F.1.
All matrices lie open and those of the layers are stacked, so that ``recognizer_substitution`` can evaluate all flips of
a string together, and so that one compiled program serves all depths.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.common import require, require_positive
from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers.initialization import Architecture, Spec
from jaxsens.typing import Apply, Array, Internals, Key, PyTree

__all__ = [
    "BLOCKS",
    "EOS",
    "Config",
    "Recognizer",
    "affine",
    "after_attention",
    "at_depth",
    "attention",
    "attention_input",
    "center",
    "contract",
    "embed",
    "end",
    "evaluation",
    "finite_factor",
    "init",
    "internals",
    "join_heads",
    "layer",
    "mlp",
    "normalize",
    "positions",
    "project",
    "read_out",
    "require_strings",
    "require_variables",
    "score_scale",
    "sinusoidal_positions",
    "take_layer",
    "through_layers",
    "training_evaluation",
]

BLOCKS = ("standard", "paper")

EOS = 2
"""The end-of-string symbol, after the bits 0 and 1; the model appends it by itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The architecture of a recognizer. Equal configurations are equal, and hash equal.

    What F.1 leaves open of its encoder block is a field here, with the default of the original Transformer.

    Attributes:
        block: ``"standard"``, the encoder block of F.1: heads are concatenated to ``width`` and projected; attention
            and MLP each have a residual and a normalization with gain and offset. ``"paper"``, that of s.2.2: every
            head maps ``width`` to ``width``, heads are summed, ``d = y + mlp(sum of heads)`` has the only residual,
            and one normalization without gain and offset follows it (Eqs. 8 to 13).
        depth: Layers; with ``at_depth``, the most that the variables can hold.
        heads: Attention heads.
        head_size: Numbers of a query; in the block of the paper the width D.
        multiplier: Hidden units of the MLP over the width; the paper's s.2.2 has 1.
        epsilon: What layer normalization adds to the variance. With 0, a row of zero variance is mapped to 0.
        norm_first: Normalize before attention and MLP in place of after, and once more at the end (standard block).
        scaled: Divide scores by ``sqrt(head_size)``; by default in the standard block, not in the paper's (Eq. 8a).
    """

    block: str = "standard"
    depth: int
    heads: int
    head_size: int
    multiplier: int = 4
    epsilon: float = 1e-5
    norm_first: bool = False
    scaled: bool | None = None

    def __post_init__(self) -> None:
        require(self.block in BLOCKS, "block", self.block, f"one of {', '.join(BLOCKS)}")
        require_positive(depth=self.depth, heads=self.heads, head_size=self.head_size, multiplier=self.multiplier)
        require(0 <= self.epsilon < np.inf, "epsilon", self.epsilon, "a finite number of at least 0")
        require(self.standard or not self.norm_first, "norm_first", self.norm_first, "False in the block of the paper")
        if self.scaled is None:
            object.__setattr__(self, "scaled", self.standard)

    @property
    def standard(self) -> bool:
        """Whether the block is the standard one."""
        return self.block == "standard"

    @property
    def width(self) -> int:
        """Numbers of an activation, D."""
        return self.heads * self.head_size if self.standard else self.head_size

    @property
    def specs(self) -> PyTree:
        """What parameters there are: ``embedding [3 d]``, ``layers`` (stacked ``[l ...]``) and ``readout``."""
        d, h, k, f = self.width, self.heads, self.head_size, self.multiplier * self.width
        project = Spec((d, h, k), fans=(d, h * k if self.standard else k))
        gain, offset = Spec((d,), "gain"), Spec((d,), "offset")
        layer = {
            "query": project,
            "key": project,
            "value": project,
            "expand": Spec((d, f), fans=(d, f)),
            "expand_bias": Spec((f,), "bias"),
            "contract": Spec((f, d), fans=(f, d)),
            "contract_bias": Spec((d,), "bias"),
        }
        if self.standard:
            layer |= {name: Spec((h, k), "bias") for name in ("query_bias", "key_bias", "value_bias")}
            layer |= {"out": Spec((h, k, d), fans=(h * k, d)), "out_bias": Spec((d,), "bias")}
            layer |= {"attention_gain": gain, "attention_offset": offset, "mlp_gain": gain, "mlp_offset": offset}
        readout = {"weight": Spec((d,), fans=(d, 1)), "bias": Spec((), "bias")}
        if self.norm_first:
            readout |= {"gain": gain, "offset": offset}
        stacked = {name: dataclasses.replace(spec, shape=(self.depth, *spec.shape)) for name, spec in layer.items()}
        return {"embedding": Spec((3, d), "embedding", fans=(3, d)), "layers": stacked, "readout": readout}


class Recognizer(nn.Module):
    """A recognizer as a Linen module: its parameters, and its logits."""

    config: Config
    scheme: str = "xavier_uniform"

    @nn.compact
    def __call__(self, strings: Array, mask: None = None) -> jax.Array:
        """Map strings ``[b n]`` of bits to logits ``[b]``."""
        params = {
            name: self.param(name, initialization.draw, specs, self.scheme) for name, specs in self.config.specs.items()
        }
        return evaluation(self.config)({"params": params}, strings, mask)


def init(config: Architecture, key: Key, scheme: str = "xavier_uniform", **choices: str) -> PyTree:
    """Return variables ``{"params": ...}``; ``scheme`` and ``choices`` are those of ``initialization.draw``."""
    return {"params": initialization.draw(key, config.specs, scheme, **choices)}


def at_depth(variables: PyTree, layers: int) -> PyTree:
    """Return the variables with their stack padded by zeros to ``layers``, and their own depth beside it.

    The number of layers that are evaluated is then data, and one program serves all depths up to ``layers``, under a
    configuration with ``depth=layers``. Such variables cannot be differentiated: a loop of unknown length has no
    reverse mode.

    Raises:
        ValueError: If there are more layers already, or if the variables say a ``depth`` of their own.
    """
    require("depth" not in variables, "variables['depth']", "present", "absent: give the layers unpadded")
    stack = variables["params"]["layers"]
    depth = len(stack["query"])
    require(layers >= depth, "layers", layers, f"at least {depth}, the number that the variables have")
    padded = jax.tree.map(lambda a: np.concatenate([a, np.zeros((layers - depth, *a.shape[1:]), a.dtype)]), stack)
    return {**variables, "params": variables["params"] | {"layers": padded}, "depth": np.int32(depth)}


def evaluation(config: Config) -> Apply:
    """Return ``apply(variables, strings [b n], mask=None) -> logits [b]``, deterministic; the read-out of Eq. 14.

    Variables hold ``params``; optionally ``depth`` (see ``at_depth``), and ``positions [n+1 d]`` in the place of the
    sinusoidal ones. All is computed in the dtype of the parameters. Functions of equal configurations are equal.

    Raises:
        ValueError: When called, if strings or variables do not fit, or with a mask: strings of a batch have one length.
    """
    return _Evaluation(config)


def training_evaluation(config: Config) -> Apply:
    """Return ``evaluation(config)`` with the last layer computed at the end of string alone, which is all that is read.

    By XLA's count a gradient takes .58 of the operations with 2 layers and .79 with 4 (width 128, 100 bits).
    Functions of equal configurations are equal.

    Raises:
        ValueError: When called, as ``evaluation``; or if the variables say a ``depth`` of their own.
    """
    return _TrainingEvaluation(config)


def internals(config: Config) -> Callable[[PyTree, Array], Internals]:
    """Return ``internals(variables, strings [b n]) -> Internals``, with activations and normalizers of every layer.

    Functions of equal configurations are equal.

    Raises:
        ValueError: When called, as ``evaluation``; or if the variables say a ``depth`` of their own.
    """
    return _Internals(config)


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    config: Config

    def __call__(self, variables: PyTree, strings: Array, mask: None = None, /) -> jax.Array:
        params, x = embed(self.config, variables, strings, mask)
        final = through_layers(self.config, variables, x, 0, self.config.depth)
        return read_out(self.config, params["readout"], final[:, -1])


@dataclasses.dataclass(frozen=True)
class _TrainingEvaluation:
    config: Config

    def __call__(self, variables: PyTree, strings: Array, mask: None = None, /) -> jax.Array:
        _require_unpadded(variables)
        params, x = embed(self.config, variables, strings, mask)
        x = through_layers(self.config, variables, x, 0, self.config.depth - 1)
        weights = jax.tree.map(lambda a: a[-1], params["layers"])
        attended, _ = attention_input(self.config, weights, x)
        mixed = attention(self.config, weights, attended, attended[:, -1:])
        final = after_attention(self.config, weights, x[:, -1:], mixed)[0]
        return read_out(self.config, params["readout"], final[:, -1])


@dataclasses.dataclass(frozen=True)
class _Internals:
    config: Config

    def __call__(self, variables: PyTree, strings: Array, /) -> Internals:
        _require_unpadded(variables)
        params, x = embed(self.config, variables, strings)

        def step(x: jax.Array, weights: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            x, normalizers = layer(self.config, weights, x)
            return x, (x, normalizers)

        final, (states, normalizers) = jax.lax.scan(step, x, params["layers"])
        states = jnp.concatenate([x[None], states]).swapaxes(0, 1)
        normalizers = normalizers.reshape(-1, *x.shape[:2])  # [l r b t] -> [l*r b t]
        logits = read_out(self.config, params["readout"], final[:, -1])
        if self.config.norm_first:
            normalizers = jnp.concatenate([normalizers, normalize(self.config, final)[1][None]])
        return Internals(logits, states, normalizers.swapaxes(0, 1))


def embed(config: Config, variables: PyTree, strings: Array, mask: None = None) -> tuple[PyTree, jax.Array]:
    """Check the arguments; return the parameters and the embedded string with its end ``[b n+1 d]`` (Eq. 7)."""
    symbols = end(require_strings(strings, mask))
    require_variables(config, variables, "depth", "positions")
    params = variables["params"]
    # An array of the host could not be indexed by a traced one.
    return params, jnp.asarray(params["embedding"])[symbols] + positions(config, variables, symbols.shape[1])[None]


def end(strings: Array) -> jax.Array:
    """Return strings ``[b n]`` with the end-of-string symbol after them, ``[b n+1]``."""
    return jnp.concatenate([strings, jnp.full((len(strings), 1), EOS, strings.dtype)], 1)


def positions(config: Config, variables: PyTree, count: int) -> jax.Array:
    """Return the encodings ``[count d]`` of positions 0, 1, ...: those in the variables, else sinusoidal ones."""
    dtype = variables["params"]["embedding"].dtype
    if "positions" in variables:
        table = variables["positions"]
        shape, expected = np.shape(table), (count, config.width)
        require(shape == expected, "variables['positions']' shape", shape, f"{expected}, with the string's end")
        return jnp.asarray(table, dtype)
    return jnp.asarray(sinusoidal_positions(count, config.width), dtype)


def sinusoidal_positions(count: int, width: int) -> np.ndarray:
    """Return ``[count width]``: sine and cosine of ``n / 10000^(2i / width)`` at places 2i, 2i + 1 (Vaswani et al.)."""
    angles = np.arange(count)[:, None] / 10_000.0 ** (2 * (np.arange(width) // 2) / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


def through_layers(config: Config, variables: PyTree, x: jax.Array, first: int, stop: int) -> jax.Array:
    """Return ``x [b t d]`` after layers ``first`` to ``stop - 1``; ``stop`` counts from the variables' own depth."""
    stack = variables["params"]["layers"]
    if "depth" not in variables:
        chosen = jax.tree.map(lambda a: a[first:stop], stack)
        return jax.lax.scan(lambda x, weights: (layer(config, weights, x)[0], None), x, chosen)[0]
    stop = variables["depth"] - (config.depth - stop)
    return jax.lax.fori_loop(first, stop, lambda i, x: layer(config, take_layer(stack, i), x)[0], x)


def take_layer(stack: PyTree, index: Array | int) -> PyTree:
    """Return the parameters of one layer."""
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, index, keepdims=False), stack)


def layer(config: Config, weights: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map activations ``[b t d]`` to the next ones, and return the normalizers ``[r b t]`` used on the way."""
    attended, z_input = attention_input(config, weights, x)
    x, *z = after_attention(config, weights, x, attention(config, weights, attended))
    return x, jnp.stack([*z_input, *z])


def attention_input(config: Config, weights: PyTree, x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Return what the heads see of ``x [... d]``, and the normalizer where it is normalized first."""
    if not config.norm_first:
        return x, ()
    y, z = normalize(config, x, weights, "attention")
    return y, (z,)


def after_attention(config: Config, weights: PyTree, x: jax.Array, attended: jax.Array) -> tuple[jax.Array, ...]:
    """Return the rest of a layer for rows ``x [... d]`` and what attention gave them, and the normalizers ``[...]``."""
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
    """Return the heads of ``x [b t d]``, projected or summed, for its ``rows [b q d]`` or all (Eqs. 8a to 8c)."""
    query = project(weights, "query", x if rows is None else rows)
    key, value = (project(weights, name, x) for name in ("key", "value"))
    scores = jnp.einsum("bqhk,bmhk->bhqm", query, key) * score_scale(config)
    mixed = jnp.einsum("bhqm,bmhk->bqhk", nn.softmax(scores), value)
    return join_heads(weights, mixed)


def project(weights: PyTree, name: str, x: jax.Array) -> jax.Array:
    """Return queries, keys or values ``[... h k]`` of ``x [... d]``."""
    projected = jnp.einsum("...d,dhk->...hk", x, weights[name])
    bias = weights.get(f"{name}_bias")
    return projected if bias is None else projected + jnp.expand_dims(bias, range(x.ndim - 1))


def score_scale(config: Config) -> float:
    """Return what scores are multiplied by."""
    return config.head_size**-0.5 if config.scaled else 1.0


def join_heads(weights: PyTree, mixed: jax.Array) -> jax.Array:
    """Return ``[... d]`` of the heads' outputs ``[... h k]``: projected (standard block) or summed (paper)."""
    if "out" not in weights:
        return mixed.sum(-2)
    joined = jnp.einsum("...hk,hkd->...d", mixed, weights["out"])
    return joined + jnp.expand_dims(weights["out_bias"], range(joined.ndim - 1))


def mlp(weights: PyTree, x: jax.Array) -> jax.Array:
    """Return ``contract relu(expand x + bias) + bias`` of ``x [... d]`` (Eq. 10)."""
    return contract(weights, affine(x, weights["expand"], weights["expand_bias"]))


def contract(weights: PyTree, hidden: jax.Array) -> jax.Array:
    """Return the second half of the MLP, ``[... d]``, from its hidden units before the ReLU ``[... f]``."""
    return affine(nn.relu(hidden), weights["contract"], weights["contract_bias"])


def affine(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """Return ``x weight + bias`` over the last axis."""
    return x @ weight + jnp.expand_dims(bias, range(x.ndim - 1))


def normalize(config: Config, x: jax.Array, weights: Mapping[str, Any] = {}, name: str = "") -> tuple[jax.Array, Any]:
    """Return ``z (x - mean)`` over the last axis, with the gain and offset of ``name`` if there are, and ``z [...]``.

    ``z = 1 / sqrt(variance + epsilon)`` (Eqs. 11 to 13). Where both are zero, the result is 0, its gradient 0 and z
    infinite. Where the variance overflows beside a positive epsilon, both are NaN.
    """
    centered, z = center(config, x)
    y = centered * finite_factor(z)
    prefix = f"{name}_" if name else ""
    if f"{prefix}gain" in weights:
        y = y * jnp.expand_dims(weights[f"{prefix}gain"], range(x.ndim - 1))
        y = y + jnp.expand_dims(weights[f"{prefix}offset"], range(x.ndim - 1))
    return y, z


def center(config: Config, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ``x - mean`` over the last axis, and ``1 / sqrt(variance + epsilon)``, infinite where both are zero."""
    if config.epsilon > 0:
        centered = x - x.mean(-1, keepdims=True)
        stabilized = (centered**2).mean(-1) + config.epsilon
        # An overflow would make of a finite row a row of zeros, which nobody would notice.
        return centered, jnp.where(jnp.isinf(stabilized), jnp.nan, 1 / jnp.sqrt(stabilized))
    x = x - x[..., :1]  # so that a constant row is exactly zero, rather than rounding noise blown up to size 1
    centered = x - x.mean(-1, keepdims=True)
    size = jax.lax.stop_gradient(jnp.abs(centered).max(-1))  # divided out, so that no square under- or overflows
    constant = size == 0
    size = jnp.where(constant, 1, size)
    variance = jnp.where(constant, 1, ((centered / size[..., None]) ** 2).mean(-1))
    return centered, jnp.where(constant, jnp.inf, 1 / (jnp.sqrt(variance) * size))


def finite_factor(z: jax.Array) -> jax.Array:
    """Return what a centered row is multiplied by, ``[... 1]``: z, but 0 where it is infinite, as the row is 0 there."""
    return jnp.where(jnp.isinf(z), 0, z)[..., None]


def read_out(config: Config, weights: PyTree, final: jax.Array) -> jax.Array:
    """Return the logits ``[b]`` of the last activation of the end of string ``[b d]`` (Eq. 14)."""
    if config.norm_first:
        final = normalize(config, final, weights)[0]
    return final @ weights["weight"] + weights["bias"]


def require_strings(strings: Array, mask: None) -> jax.Array:
    """Return strings as integers ``[b n]``, or raise ValueError: on a mask, and on values that are no bits if known."""
    if mask is not None:
        raise ValueError("mask must be None: all strings of a batch have one length, so that there is no padding")
    strings = strings if isinstance(strings, jax.Array) else np.asarray(strings)
    shape = strings.shape
    require(len(shape) == 2 and shape[1] > 0, "strings' shape", shape, "[b n] with at least one bit")
    bits = strings.dtype == bool or jnp.issubdtype(strings.dtype, jnp.integer)
    require(bits, "strings' dtype", str(strings.dtype), "int32 or bool: bits 0 and 1")
    if not isinstance(strings, jax.core.Tracer):
        known = np.asarray(strings)
        wrong = known[(known != 0) & (known != 1)]
        require(not wrong.size, "a value in strings", int(wrong[0]) if wrong.size else 0, "0 or 1")
    return jnp.asarray(strings).astype(jnp.int32)


def _require_unpadded(variables: PyTree) -> None:
    require("depth" not in variables, "variables['depth']", "present", "absent: give the layers unpadded")


def require_variables(config: Architecture, variables: PyTree, *optional: str) -> None:
    """Raise ValueError unless variables hold a configuration's parameters, and beside them only what is optional."""
    known = "params" in variables and variables.keys() <= {"params", *optional}
    allowed = "['params']" + "".join(f", with {name!r} if wished" for name in optional)
    require(known, "variables' keys", sorted(variables), allowed)
    expected = {jax.tree_util.keystr(path): spec.shape for path, spec in jax.tree.leaves_with_path(config.specs)}
    given = {jax.tree_util.keystr(path): np.shape(a) for path, a in jax.tree.leaves_with_path(variables["params"])}
    for path in sorted(expected.keys() | given.keys()):
        wanted, found = expected.get(path, "absent"), given.get(path, "absent")
        require(wanted == found, f"variables['params']{path}", found, f"{wanted} for {config}")
