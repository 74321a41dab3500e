"""Models with an embedding and hidden states, as pure functions: BERT, GPT-2, pretrained ViTs and LSTMs of text.

``models.evaluation(module)`` serves them as it serves all models. Functions of equal modules are equal and hash equal,
so that what was compiled for one serves the other.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models.common import require, require_shapes, shapes_by_path
from jaxsens.typing import Apply, Array, Key, PyTree, TrainApply

__all__ = ["embed", "from_embeddings", "hidden_states", "init", "require_variables", "shapes_of", "train_apply"]


def init(module: nn.Module, key: Key) -> PyTree:
    """Return the initial variables ``{"params": ...}``."""
    example = module.config.example
    return jax.jit(module.init)(key, jnp.zeros(example.shape, example.dtype))


def embed(module: nn.Module) -> Apply:
    """Return ``embed(variables, tokens [b t *s], mask [b t] = None) -> embeddings [b t d]``, one for each token.

    They are what ``from_embeddings`` takes and what noise is added to: with position and type, and normalized where
    the model normalizes them.

    Raises:
        ValueError: When called, if tokens, mask or variables do not fit the module.
    """
    return _Method(module, "embed")


def from_embeddings(module: nn.Module) -> Apply:
    """Return ``apply(variables, embeddings [b t d], mask [b t] = None) -> outputs [b *k]``.

    Of what ``embed`` returns it makes what ``models.evaluation(module)`` makes of the tokens.

    Raises:
        ValueError: When called, if embeddings, mask or variables do not fit the module.
    """
    return _Method(module, "from_embeddings")


def hidden_states(module: nn.Module, *, normalize_last: bool = False) -> Apply:
    """Return ``encode(variables, tokens [b t *s], mask [b t] = None) -> states [l+1 b t d]``.

    State 0 enters the first layer, state i leaves layer i. A pretrained ViT's have the class token first, ``t + 1`` in
    all. States at padding mean nothing.

    Args:
        module: The model.
        normalize_last: Whether to apply the final normalization of GPT-2 and the ViTs to the last state. The
            ``transformers`` library does so for GPT-2 and not for ViTs.

    Raises:
        ValueError: When called, if tokens, mask or variables do not fit the module.
    """
    return _Method(module, "hidden_states", (("normalize_last", True),) if normalize_last else ())


def train_apply(module: nn.Module, *, padding: int) -> TrainApply:
    """Return ``train_apply(variables, tokens, key) -> (logits, variables)`` for padded texts: training mode.

    ``models.train_apply`` has no mask; here ids ``[b t]`` (or with types, ``[b t 2]``) say what is padding.

    Args:
        module: The model.
        padding: The id that stands for padding, and for nothing else: one that no real token has, such as -1.

    Raises:
        ValueError: If the module is no model of text; when called, if tokens or variables do not fit it.
    """
    text = jnp.issubdtype(module.config.example.dtype, jnp.integer)
    require(text, "module", type(module).__name__, "a model of text")
    return _TrainApply(module, padding)


@dataclasses.dataclass(frozen=True)
class _Method:
    module: nn.Module
    name: str
    options: tuple[tuple[str, bool], ...] = ()

    def __call__(self, variables: PyTree, tokens: Array, mask: Array | None = None, /) -> jax.Array:
        require_variables(self.module, variables)
        return self.module.apply(variables, tokens, mask, method=self.name, **dict(self.options))


@dataclasses.dataclass(frozen=True)
class _TrainApply:
    module: nn.Module
    padding: int

    def __call__(self, variables: PyTree, tokens: Array, key: Key, /) -> tuple[jax.Array, PyTree]:
        require_variables(self.module, variables)
        mask = (tokens if tokens.ndim == 2 else tokens[..., 0]) != self.padding
        return self.module.apply(variables, tokens, mask, train=True, rngs={"dropout": key}), variables


def require_variables(module: nn.Module, variables: PyTree) -> None:
    """Raise ValueError unless variables have the paths and shapes of those that the module would create."""
    require_shapes(module, variables, _expected(module))


@functools.lru_cache(maxsize=256)
def _expected(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return shapes_by_path(shapes_of(module))


def shapes_of(module: nn.Module) -> PyTree:
    """Return the shapes and dtypes of a module's variables."""
    return jax.eval_shape(lambda tokens: module.init(jax.random.key(0), tokens), module.config.example)
