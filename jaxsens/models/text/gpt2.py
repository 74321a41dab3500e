"""GPT-2 (Radford et al. 2019): a decoder of text, in which a token sees itself and what comes before it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models import transformer
from jaxsens.models.common import require, require_choice, require_classes, require_positive
from jaxsens.models.text import token_ids
from jaxsens.models.transformer import Transformer, small_normal
from jaxsens.typing import Array

__all__ = ["GPT2", "READ_OUTS", "Config"]

READ_OUTS = ("last", "next", "every", "states")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(transformer.Config):
    """Sizes of a GPT-2, in addition to the fields of every transformer.

    Attributes:
        vocabulary: Number of token ids.
        positions: The largest number of tokens of a text.
        read_out: The outputs, from the normalized final activations: those of the ``"last"`` real token ``[b d]``; the
            logits of the ``"next"`` token after it ``[b vocabulary]``, by products with the embeddings; such logits
            after ``"every"`` token ``[b t vocabulary]``; or the final activations of every token, its ``"states"``
            ``[b t d]``, which ``encoder.next_logits`` maps to those logits.
        classes: The number of logits of a linear classifier on the ``"last"`` read-out; None without one.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> Config(width=16, depth=1, heads=2, hidden=32, vocabulary=100, positions=20).read_out
        'next'
    """

    causal: ClassVar[bool] = True

    vocabulary: int
    positions: int
    activation: str = "gelu_new"
    epsilon: float = 1e-5
    read_out: str = "next"
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(vocabulary=self.vocabulary, positions=self.positions)
        require_choice("read_out", self.read_out, READ_OUTS)
        require_classes(self.classes)
        fits = self.classes is None or self.read_out == "last"
        require(fits, "read_out", self.read_out, "'last' where there are classes")

    @property
    def reads_one_row(self) -> bool:
        """Whether the last token is read, and not every one."""
        return self.read_out in ("last", "next")

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one text of one token."""
        return jax.ShapeDtypeStruct((1, 1), jnp.int32)


class GPT2(Transformer):
    """Embeddings of token and position; blocks; normalization; read-out.

    Example:
        >>> config = Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4)
        >>> ids = np.zeros((3, 4), np.int32)
        >>> jax.eval_shape(GPT2(config).init_with_output, jax.random.key(0), ids)[0].shape
        (3, 5)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        config = self.config
        self.tokens = self.param("tokens", small_normal, (config.vocabulary, config.width))
        self.positions = self.param("positions", small_normal, (config.positions, config.width))
        if config.classes is not None:
            dtype = config.logits_dtype
            self.classifier = nn.Dense(config.classes, use_bias=False, dtype=dtype, kernel_init=small_normal)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map ids ``[b t]`` to embeddings ``[b t d]``; padding does not count as a position."""
        config = self.config
        tokens = token_ids.read_ids(tokens, mask, below=config.vocabulary, longest=config.positions)
        places = token_ids.positions_of(mask, tokens.shape)
        x = token_ids.look_up(self.tokens, tokens, config.dtype)
        return x + token_ids.look_up(self.positions, places, config.dtype)

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b t d]`` to outputs, as ``read_out`` says."""
        config = self.config
        if config.reads_one_row:
            x = token_ids.last_token(x, mask)
        if config.classes is not None:
            return self.classifier(self.drop(x, deterministic=not train))
        return x.astype(config.logits_dtype) if config.read_out in ("last", "states") else self.next_logits(x)

    def next_logits(self, x: jax.Array) -> jax.Array:
        """Map final activations ``[... d]`` to the logits of the next token ``[... vocabulary]``."""
        config = self.config
        table, x = jnp.asarray(self.tokens, config.dtype), jnp.asarray(x, config.dtype)
        return jnp.einsum("...d,vd->...v", x, table, preferred_element_type=config.logits_dtype)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
