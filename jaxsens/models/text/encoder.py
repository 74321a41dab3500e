"""Models with an embedding and hidden states, as pure functions: BERT, GPT-2, pretrained ViTs and LSTMs of text.

``models.evaluation(module)`` evaluates them, too. Functions of equal modules are equal and hash equal,
and therefore share compiled code.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.execution.parallel import bind
from jaxsens.models.common import require, require_flags, require_shapes, shapes_by_path
from jaxsens.typing import Apply, Array, Key, PyTree, TrainApply

__all__ = [
    "embed",
    "enter",
    "from_embeddings",
    "hidden_states",
    "init",
    "next_logits",
    "require_variables",
    "shapes_of",
    "train_apply",
]


def init(module: nn.Module, key: Key) -> PyTree:
    """Return the initial variables ``{"params": ...}``.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=10, width=4, depth=1, classes=2))
        >>> sorted(init(module, jax.random.key(0))["params"])
        ['classifier', 'layer_0', 'norm_embedding', 'tokens']
    """
    example = module.config.example
    return jax.jit(module.init)(key, jnp.zeros(example.shape, example.dtype))


def embed(module: nn.Module) -> Apply:
    """Return ``embed(variables, tokens [b t *s], mask [b t] = None) -> embeddings [b t d]``, one for each token.

    They include position and type, and normalization if the model has one there. Noise is added to them, and
    ``from_embeddings`` takes them.

    Raises:
        ValueError: When called, if tokens, mask or variables do not fit the module.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> module = gpt2.GPT2(gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4))
        >>> jax.eval_shape(embed(module), shapes_of(module), np.zeros((3, 2), np.int32)).shape
        (3, 2, 4)
    """
    return bind(_call, module, "embed", ())


def enter(
    module: nn.Module, variables: PyTree, copies: Array, mask: Array | None, *, embeddings: bool = False
) -> tuple[jax.Array, Array | None]:
    """Return what enters the first layer for copies of one input ``[r t d]``, and the mask of its tokens ``[t]``.

    Args:
        module: A model with the methods ``embed`` and ``begin``.
        variables: Its variables.
        copies: Tokens ``[r t *s]`` that differ in their values only.
        mask: Which tokens of the input are real ``[t]``, or None.
        embeddings: Whether the copies are embeddings ``[r t d]`` already.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=10, width=4, depth=1, classes=2))
        >>> x, mask = enter(module, init(module, jax.random.key(0)), jnp.array([[1, 2], [1, 3]]), None)
        >>> x.shape, mask
        ((2, 2, 4), None)
    """
    real = None if mask is None else jnp.broadcast_to(mask, (len(copies), *mask.shape))
    if not embeddings:
        copies = module.apply(variables, copies, real, method="embed")
    x, real = module.apply(variables, copies, real, method="begin")
    return x, None if real is None else real[0]


def from_embeddings(module: nn.Module) -> Apply:
    """Return ``apply(variables, embeddings [b t d], mask [b t] = None) -> outputs [b *k]``.

    Applied to the result of ``embed``, it equals ``models.evaluation(module)`` applied to the tokens.

    Raises:
        ValueError: When called, if embeddings, mask or variables do not fit the module.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> module = gpt2.GPT2(gpt2.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4))
        >>> jax.eval_shape(from_embeddings(module), shapes_of(module), np.zeros((3, 2, 4), np.float32)).shape
        (3, 5)
    """
    return bind(_call, module, "from_embeddings", ())


def hidden_states(module: nn.Module, *, normalize_last: bool = False) -> Apply:
    """Return ``encode(variables, tokens [b t *s], mask [b t] = None) -> states [l+1 b t d]``.

    State 0 is the input of the first layer, state i the output of layer i. Those of a pretrained ViT have ``t + 1``
    tokens, with the class token first. States at padding are undefined.

    Args:
        module: The model.
        normalize_last: Whether to apply the final normalization of GPT-2 and the ViTs to the last state. The
            ``transformers`` library does so for GPT-2 and not for ViTs.

    Raises:
        ValueError: When called, if tokens, mask or variables do not fit the module.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=10, width=4, depth=1, classes=2))
        >>> ids = jnp.array([[1, 2, 3]])
        >>> jax.jit(hidden_states(module))(init(module, jax.random.key(0)), ids).shape
        (2, 1, 3, 4)
    """
    require_flags(normalize_last=normalize_last)
    return bind(_call, module, "hidden_states", (("normalize_last", True),) if normalize_last else ())


def next_logits(module: nn.Module) -> Callable[[PyTree, Array], jax.Array]:
    """Return ``head(variables, states [*n d]) -> logits [*n vocabulary]`` of a language model's next token.

    Applied to what a module with the read-out ``"states"`` gives, it equals the read-out ``"every"``. A measure that
    reads logits row by row then holds those of one text at a time, and not those of all its substitutions.

    Raises:
        ValueError: If the module is no language model; when called, if the variables do not fit it.

    Example:
        >>> from jaxsens.models.text import gpt2
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> module = gpt2.GPT2(gpt2.Config(**sizes, read_out="states"))
        >>> jax.eval_shape(next_logits(module), shapes_of(module), np.zeros((2, 4), np.float32)).shape
        (2, 5)
    """
    is_language_model = hasattr(module, "next_logits")
    require(is_language_model, "module", type(module).__name__, "a language model: a GPT2 or a Llama")
    return bind(_logits, module)


def train_apply(module: nn.Module, *, padding: int) -> TrainApply:
    """Return ``train_apply(variables, tokens, key) -> (logits, variables)`` for padded texts: training mode.

    ``models.train_apply`` has no mask; here a special id in ``[b t]`` (or with types, ``[b t 2]``) marks padding.

    Args:
        module: The model.
        padding: The id that marks padding; no real token may have it. It may be -1.

    Raises:
        ValueError: If the module is no model of text; when called, if tokens or variables do not fit it.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=5, width=4, depth=1, classes=2))
        >>> ids = np.ones((3, 2), np.int32)
        >>> jax.eval_shape(train_apply(module, padding=0), shapes_of(module), ids, jax.random.key(0))[0].shape
        (3, 2)
    """
    text = jnp.issubdtype(module.config.example.dtype, jnp.integer)
    require(text, "module", type(module).__name__, "a model of text")
    return bind(_train, module, padding)


def _call(
    module: nn.Module,
    method: str,
    options: tuple[tuple[str, bool], ...],
    variables: PyTree,
    tokens: Array,
    mask: Array | None = None,
    /,
) -> jax.Array:
    require_variables(module, variables)
    return module.apply(variables, tokens, mask, method=method, **dict(options))


def _logits(module: nn.Module, variables: PyTree, states: Array, /) -> jax.Array:
    require_variables(module, variables)
    return module.apply(variables, states, method="next_logits")


def _train(module: nn.Module, padding: int, variables: PyTree, tokens: Array, key: Key, /) -> tuple[jax.Array, PyTree]:
    require_variables(module, variables)
    mask = (tokens if tokens.ndim == 2 else tokens[..., 0]) != padding
    return module.apply(variables, tokens, mask, train=True, rngs={"dropout": key}), variables


def require_variables(module: nn.Module, variables: PyTree) -> None:
    """Raise ValueError unless variables have the paths and shapes of those that the module would create.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> require_variables(lstm.LSTM(lstm.Config(vocabulary=5, width=4, depth=1, classes=2)), {})
        Traceback (most recent call last):
        ValueError: variables['params']['classifier']['bias'] is absent, but LSTM needs it to be (2,).
    """
    require_shapes(module, variables, _expected(module))


@functools.lru_cache(maxsize=256)
def _expected(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return shapes_by_path(shapes_of(module))


def shapes_of(module: nn.Module) -> PyTree:
    """Return the shapes and dtypes of a module's variables.

    Example:
        >>> from jaxsens.models.text import lstm
        >>> module = lstm.LSTM(lstm.Config(vocabulary=5, width=4, depth=1, classes=2))
        >>> shapes_of(module)["params"]["tokens"].shape
        (5, 4)
    """
    return jax.eval_shape(lambda tokens: module.init(jax.random.key(0), tokens), module.config.example)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
