"""BERT (Devlin et al. 2019, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692): encoders of text.

Blocks are normalized after each sum. Tokens are ids ``[b t]``, or ``[b t 2]`` with the id and the type of each: 0
for the first text, 1 for the second of a pair.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models import transformer
from jaxsens.models.common import require, require_choice, require_classes, require_positive
from jaxsens.models.text import token_ids
from jaxsens.models.transformer import Transformer, mean_over_tokens, small_normal
from jaxsens.typing import Array

__all__ = ["READ_OUTS", "Bert", "Config"]

READ_OUTS = ("class", "pooler", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(transformer.Config):
    """Sizes of an encoder of text, in addition to the fields of every transformer.

    Attributes:
        vocabulary: Number of token ids.
        positions: The largest number of tokens of a text.
        position_offset: Rows of the table of positions before that of the first token: 0 in BERT, 2 in RoBERTa.
        types: Types of tokens.
        read_out: The outputs, from the final activations: those of the first real token, the ``"class"`` token;
            ``tanh`` of an affine map of them, the ``"pooler"``; or their ``"mean"`` over the real tokens.
        classes: The number of logits of a linear classifier on top, or None for outputs ``[b d]`` without one.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> Config(width=16, depth=1, heads=2, hidden=32, vocabulary=100, positions=20, classes=2).head_size
        8
    """

    norm_first: ClassVar[bool] = False

    vocabulary: int
    positions: int
    position_offset: int = 0
    types: int = 2
    read_out: str = "class"
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(vocabulary=self.vocabulary, positions=self.positions, types=self.types)
        offset = self.position_offset
        whole = isinstance(offset, int | np.integer) and not isinstance(offset, bool)
        require(whole and offset >= 0, "position_offset", offset, "an integer of at least 0")
        require_choice("read_out", self.read_out, READ_OUTS)
        require_classes(self.classes)

    @property
    def roberta(self) -> bool:
        """Whether this is RoBERTa, in which the first position follows the id of padding."""
        return self.position_offset > 0

    @property
    def reads_one_row(self) -> bool:
        """Whether the first token is read, and not the mean."""
        return self.read_out != "mean"

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one text of one token."""
        return jax.ShapeDtypeStruct((1, 1), jnp.int32)


class Bert(Transformer):
    """Embeddings of token, position and type, normalized; blocks; read-out.

    Example:
        >>> config = Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4, classes=2)
        >>> ids = np.zeros((3, 4), np.int32)
        >>> jax.eval_shape(Bert(config).init_with_output, jax.random.key(0), ids)[0].shape
        (3, 2)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        config = self.config
        self.tokens = self.param("tokens", small_normal, (config.vocabulary, config.width))
        rows = config.position_offset + config.positions
        self.positions = self.param("positions", small_normal, (rows, config.width))
        self.types = self.param("types", small_normal, (config.types, config.width))
        self.norm_embedding = transformer.norm(config)
        if config.read_out == "pooler":
            self.pooler = transformer.dense(config, config.width)
        if config.classes is not None:
            self.classifier = nn.Dense(config.classes, dtype=config.logits_dtype, kernel_init=small_normal)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map ids ``[b t]`` or ``[b t 2]`` to embeddings ``[b t d]``; padding does not count as a position."""
        config = self.config
        ids, types = _with_types(tokens)
        ids = token_ids.read_ids(ids, mask, below=config.vocabulary, longest=config.positions)
        types = token_ids.read_ids(types, mask, below=config.types, name="types")
        places = token_ids.positions_of(mask, ids.shape) + config.position_offset
        x = token_ids.look_up(self.tokens, ids, config.dtype) + token_ids.look_up(self.types, types, config.dtype)
        return self.norm_embedding(x + token_ids.look_up(self.positions, places, config.dtype))

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b t d]`` to logits ``[b classes]``, or to ``[b d]`` without a classifier."""
        config = self.config
        y = mean_over_tokens(x, mask) if config.read_out == "mean" else token_ids.first_token(x, mask)
        if config.read_out == "pooler":
            y = jnp.tanh(self.pooler(y))
        if config.classes is None:
            return y.astype(config.logits_dtype)
        return self.classifier(self.drop(y, deterministic=not train))


def _with_types(tokens: Array) -> tuple[Array, Array]:
    """Return ids and types, each ``[b t]``."""
    if np.ndim(tokens) != 3:
        return tokens, np.zeros(np.shape(tokens), np.int32)
    require(np.shape(tokens)[2] == 2, "tokens' shape", np.shape(tokens), "[b, t], or [b, t, 2]: ids and types")
    return tokens[..., 0], tokens[..., 1]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
