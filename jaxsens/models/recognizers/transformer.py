"""Transformer recognizers of bit strings: a string, the end-of-string symbol, and a logit that is read there.

Kövér et al., Understanding the Parameter Space Geometry of Transformers Encoding Boolean Functions, s.2.2, 2.3, F.1.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.execution.parallel import bind
from jaxsens.models.common import require, require_positive
from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers.config import BLOCKS, Config
from jaxsens.models.recognizers.initialization import Architecture
from jaxsens.models.recognizers.layers import (
    after_attention,
    attention,
    attention_input,
    layer,
    normalize,
    read_out,
    through_layers,
)
from jaxsens.typing import Apply, Array, Internals, Key, PyTree

__all__ = [
    "BLOCKS",
    "EOS",
    "Config",
    "Recognizer",
    "at_depth",
    "embed",
    "end",
    "evaluation",
    "init",
    "internals",
    "look_up",
    "positions",
    "require_strings",
    "require_variables",
    "sinusoidal_positions",
    "training_evaluation",
]

EOS = 2
"""The end-of-string symbol, after the bits 0 and 1; the model appends it itself."""


class Recognizer(nn.Module):
    """A recognizer as a Linen module: its parameters, and its logits.

    Example:
        >>> from jaxsens.models import recognizers
        >>> module = Recognizer(recognizers.Config(depth=1, heads=1, head_size=2))
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), np.zeros((4, 3), np.int32))[0].shape
        (4,)
    """

    config: Config
    scheme: str = "xavier_uniform"

    @nn.compact
    def __call__(self, strings: Array, mask: None = None) -> jax.Array:
        """Map strings ``[b n]`` of bits to logits ``[b]``."""
        params = {
            name: self.param(name, initialization.draw, specs, self.scheme) for name, specs in self.config.specs.items()
        }
        return evaluation(self.config)({"params": params}, strings, mask)


def init(
    config: Architecture,
    key: Key,
    scheme: str = "xavier_uniform",
    *,
    biases: str = "scheme",
    gains: str = "ones",
    embedding: str = "normal",
) -> PyTree:
    """Return variables ``{"params": ...}`` of a recognizer, drawn at random.

    Args:
        config: The recognizer; the baselines' configurations are accepted, too.
        key: The random key.
        scheme: One of ``initialization.SCHEMES``, for weights.
        biases: ``"scheme"``: drawn like weights, but 0 under Xavier, which is not defined for them; or ``"zero"``.
        gains: ``"ones"``: gains 1 and offsets 0; or ``"scheme"``: both drawn like weights (not under Xavier).
        embedding: ``"normal"``: standard normal; or ``"scheme"``: drawn like weights.

    Raises:
        ValueError: If an argument is unknown.

    Example:
        >>> init(Config(depth=2, heads=1, head_size=4), jax.random.key(0), "normal")["params"]["embedding"].shape
        (3, 4)
    """
    require(hasattr(config, "specs"), "config", config, "a configuration of recognizers")
    return {"params": initialization.draw(key, config.specs, scheme, biases=biases, gains=gains, embedding=embedding)}


def at_depth(variables: PyTree, layers: int) -> PyTree:
    """Return the variables with their stack padded by zeros to ``layers``, and their own depth.

    The number of layers that are evaluated is then data, and all depths share one program up to ``layers``, with a
    configuration of ``depth=layers``. Such variables cannot be differentiated, since a loop of unknown length has no
    reverse mode.

    Raises:
        ValueError: If there are more layers already, or if the variables have a ``depth``.

    Example:
        >>> variables = init(Config(depth=2, heads=1, head_size=4), jax.random.key(0))
        >>> padded = at_depth(variables, 5)
        >>> padded["params"]["layers"]["query"].shape, int(padded["depth"])
        ((5, 4, 1, 4), 2)
    """
    require_positive(layers=layers)
    require("depth" not in variables, "variables['depth']", "present", "absent: give the layers unpadded")
    stack = variables["params"]["layers"]
    depth = len(stack["query"])
    require(layers >= depth, "layers", layers, f"at least {depth}, the number that the variables have")
    padded = jax.tree.map(lambda a: np.concatenate([a, np.zeros((layers - depth, *a.shape[1:]), a.dtype)]), stack)
    return {**variables, "params": variables["params"] | {"layers": padded}, "depth": np.int32(depth)}


def evaluation(config: Config) -> Apply:
    """Return ``apply(variables, strings [b n], mask=None) -> logits [b]``, deterministic; the read-out of Eq. 14.

    Variables hold ``params``; optionally ``depth`` (see ``at_depth``), and ``positions [n+1 d]`` in the place of the
    sinusoidal ones. Everything is computed in the dtype of the parameters. Functions of equal configurations are equal.
    Strings that are traced cannot be checked: a symbol that is neither a bit nor the end of string gives NaN.

    Raises:
        ValueError: When called, if strings or variables do not fit, or with a mask: strings of a batch have one length.

    Example:
        >>> config = Config(depth=2, heads=1, head_size=4)
        >>> variables = init(config, jax.random.key(0))
        >>> evaluation(config)(variables, np.array([[0, 1, 1], [1, 0, 0]])).shape
        (2,)
    """
    return bind(_evaluate, config)


def training_evaluation(config: Config) -> Apply:
    """Return ``evaluation(config)``, with the last layer computed only at the end of string, where it is read.

    By XLA's count a gradient takes 0.58 of the operations with 2 layers and 0.79 with 4 (width 128, 100 bits).
    Functions of equal configurations are equal.

    Raises:
        ValueError: When called, if strings or variables do not fit, with a mask, or if the variables have a ``depth``.

    Example:
        >>> config = Config(depth=2, heads=1, head_size=4)
        >>> variables, strings = init(config, jax.random.key(0)), np.array([[0, 1, 1]])
        >>> fast, plain = (jax.jit(make(config))(variables, strings) for make in (training_evaluation, evaluation))
        >>> bool(abs(fast - plain).max() < 1e-5)
        True
    """
    return bind(_evaluate_in_training, config)


def internals(config: Config) -> Callable[[PyTree, Array], Internals]:
    """Return ``internals(variables, strings [b n]) -> Internals``, with activations and normalizers of every layer.

    Functions of equal configurations are equal.

    Raises:
        ValueError: When called, if strings or variables do not fit, or if the variables have a ``depth``.

    Example:
        >>> config = Config(depth=2, heads=1, head_size=4)
        >>> states = internals(config)(init(config, jax.random.key(0)), np.array([[0, 1, 1]])).states
        >>> states.shape  # strings, layers + 1, tokens, width
        (1, 3, 4, 4)
    """
    return bind(_evaluate_internals, config)


def _evaluate(config: Config, variables: PyTree, strings: Array, mask: None = None, /) -> jax.Array:
    params, x = embed(config, variables, strings, mask)
    final = through_layers(config, variables, x, 0, config.depth)
    return read_out(config, params["readout"], final[:, -1])


def _evaluate_in_training(config: Config, variables: PyTree, strings: Array, mask: None = None, /) -> jax.Array:
    _require_unpadded(variables)
    params, x = embed(config, variables, strings, mask)
    x = through_layers(config, variables, x, 0, config.depth - 1)
    weights = jax.tree.map(lambda a: a[-1], params["layers"])
    attended, _ = attention_input(config, weights, x)
    mixed = attention(config, weights, attended, attended[:, -1:])
    final = after_attention(config, weights, x[:, -1:], mixed)[0]
    return read_out(config, params["readout"], final[:, -1])


def _evaluate_internals(config: Config, variables: PyTree, strings: Array, /) -> Internals:
    _require_unpadded(variables)
    params, x = embed(config, variables, strings)

    def step(x: jax.Array, weights: PyTree) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        x, normalizers = layer(config, weights, x)
        return x, (x, normalizers)

    final, (states, normalizers) = jax.lax.scan(step, x, params["layers"])
    states = jnp.concatenate([x[None], states]).swapaxes(0, 1)
    normalizers = normalizers.reshape(-1, *x.shape[:2])  # [l r b t] -> [l*r b t]
    logits = read_out(config, params["readout"], final[:, -1])
    if config.norm_first:
        normalizers = jnp.concatenate([normalizers, normalize(config, final)[1][None]])
    return Internals(logits, states, normalizers.swapaxes(0, 1))


def embed(config: Config, variables: PyTree, strings: Array, mask: None = None) -> tuple[PyTree, jax.Array]:
    """Check the arguments; return the parameters and the embedded string with its end ``[b n+1 d]`` (Eq. 7).

    Example:
        >>> from jaxsens.models import recognizers
        >>> config = recognizers.Config(depth=1, heads=1, head_size=2)
        >>> params = jax.tree.map(lambda spec: jnp.ones(spec.shape), config.specs)
        >>> embed(config, {"params": params}, np.array([[0, 1, 1]]))[1].shape
        (1, 4, 2)
    """
    symbols = end(require_strings(strings, mask))
    require_variables(config, variables, "depth", "positions")
    params = variables["params"]
    embedded = look_up(params["embedding"], symbols)
    return params, embedded + positions(config, variables, symbols.shape[1])[None]


def look_up(table: Array, symbols: Array) -> jax.Array:
    """Return the rows ``[*b d]`` of an embedding ``[3 d]``; NaN for symbols other than bits and the end of string.

    Example:
        >>> look_up(np.array([[0.0], [1.0], [2.0]]), jnp.array([1, 7])).tolist()
        [[1.0], [nan]]
    """
    # Traced symbols cannot raise, and another symbol's embedding would be a wrong number without a warning.
    return jnp.asarray(table).at[symbols].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def end(strings: Array) -> jax.Array:
    """Return strings ``[b n]`` with the end-of-string symbol after them, ``[b n+1]``.

    Example:
        >>> end(np.array([[0, 1]], np.int32)).tolist()
        [[0, 1, 2]]
    """
    return jnp.concatenate([strings, jnp.full((len(strings), 1), EOS, strings.dtype)], 1)


def positions(config: Config, variables: PyTree, count: int) -> jax.Array:
    """Return the encodings ``[count d]`` of positions 0, 1, ...: those in the variables, else sinusoidal ones.

    Example:
        >>> from jaxsens.models import recognizers
        >>> config = recognizers.Config(depth=1, heads=1, head_size=2)
        >>> positions(config, {"params": {"embedding": np.zeros((3, config.width), np.float32)}}, 4).shape
        (4, 2)
    """
    dtype = variables["params"]["embedding"].dtype
    if "positions" in variables:
        table = variables["positions"]
        shape, expected = np.shape(table), (count, config.width)
        require(shape == expected, "variables['positions']' shape", shape, f"{expected}, with the string's end")
        return jnp.asarray(table, dtype)
    return jnp.asarray(sinusoidal_positions(count, config.width), dtype)


def sinusoidal_positions(count: int, width: int) -> np.ndarray:
    """Return ``[count width]``: sine and cosine of ``n / 10000^(2i / width)`` at places 2i, 2i + 1 (Vaswani et al.).

    Example:
        >>> sinusoidal_positions(2, 2).round(3).tolist()
        [[0.0, 1.0], [0.841, 0.54]]
    """
    angles = np.arange(count)[:, None] / 10_000.0 ** (2 * (np.arange(width) // 2) / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


def require_strings(strings: Array, mask: None) -> jax.Array:
    """Return strings as integers ``[b n]``, or raise ValueError for a mask, or for values that are not bits.

    Example:
        >>> require_strings(np.array([[0, 1]]), None).tolist()
        [[0, 1]]
        >>> require_strings(np.array([[0, 2]]), None)
        Traceback (most recent call last):
        ValueError: a value in strings is 2, but must be 0 or 1.
    """
    if mask is not None:
        raise ValueError("mask must be None: all strings of a batch have one length, so that there is no padding")
    require(not isinstance(strings, np.ma.MaskedArray), "strings", "a masked array", "an array without a mask")
    strings = strings if isinstance(strings, jax.Array) else np.asarray(strings)
    shape = strings.shape
    require(len(shape) == 2 and shape[1] > 0, "strings' shape", shape, "[b n] with at least one bit")
    bits = strings.dtype == bool or jnp.issubdtype(strings.dtype, jnp.integer)
    require(bits, "strings' dtype", str(strings.dtype), "int32 or bool: bits 0 and 1")
    if not isinstance(strings, jax.core.Tracer):
        values = np.asarray(strings)
        wrong = values[(values != 0) & (values != 1)]
        require(not wrong.size, "a value in strings", int(wrong[0]) if wrong.size else 0, "0 or 1")
    return jnp.asarray(strings).astype(jnp.int32)


def _require_unpadded(variables: PyTree) -> None:
    require("depth" not in variables, "variables['depth']", "present", "absent: give the layers unpadded")


def require_variables(config: Architecture, variables: PyTree, *optional: str) -> None:
    """Raise ValueError unless variables hold a configuration's parameters, and no others than the optional ones.

    Example:
        >>> from jaxsens.models import recognizers
        >>> require_variables(recognizers.Config(depth=1, heads=1, head_size=2), {})
        Traceback (most recent call last):
        ValueError: variables' keys is [], but must be ['params'].
    """
    actual = sorted(variables) if isinstance(variables, Mapping) else type(variables).__name__
    allowed = "['params']" + "".join(f", optionally {name!r}" for name in optional)
    require("params" in actual and set(actual) <= {"params", *optional}, "variables' keys", actual, allowed)
    expected = {jax.tree_util.keystr(path): spec.shape for path, spec in jax.tree.leaves_with_path(config.specs)}
    actual = {jax.tree_util.keystr(path): np.shape(a) for path, a in jax.tree.leaves_with_path(variables["params"])}
    for path in sorted(expected.keys() | actual.keys()):
        needed, present = expected.get(path, "absent"), actual.get(path, "absent")
        require(needed == present, f"variables['params']{path}", present, f"{needed} for {config}")
