"""The published ViT (Dosovitskiy et al. 2021, arXiv 2010.11929), and DINOv2 (Oquab et al. 2023, arXiv 2304.07193).

DINOv2 may have registers (Darcet et al. 2024, arXiv 2309.16588) and a gated MLP (SwiGLU; Shazeer 2020, arXiv
2002.05202).

Unlike ``models.images.vit``, these models have biases of queries, keys and values, a position of the class token, and a
final normalization before pooling, as the trained weights require.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models import transformer
from jaxsens.models.common import Patches, read_tokens, require, require_choice, require_classes, require_flags
from jaxsens.models.transformer import Transformer, mean_over_tokens, small_normal
from jaxsens.typing import Array

__all__ = ["READ_OUTS", "Config", "PretrainedViT", "resize_positions"]

READ_OUTS = ("class", "pooler", "mean", "class and mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(transformer.Config, Patches):
    """Sizes of a ViT, in addition to the fields of every transformer.

    Attributes:
        image_shape: ``(h, w, c)``.
        patch: Side of the square patches that are the tokens, in pixels; divides h and w.
        layer_scale: Whether the outputs of attention and MLP are multiplied by trained factors, as in DINOv2.
        gated_mlp: Whether the MLP is gated, as in the largest DINOv2.
        registers: Trained tokens between the class token and the patches, which no read-out sees.
        read_out: The outputs, from the normalized final activations: those of the ``"class"`` token; ``tanh`` of an
            affine map of them, the ``"pooler"``; their ``"mean"`` over the patches; or ``"class and mean"``
            concatenated, as in DINOv2's classifier.
        classes: The number of logits of a linear classifier on top, or None without a classifier.

    Raises:
        ValueError: If a size is not a positive integer, or a setting is not supported.

    Example:
        >>> sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 32}
        >>> Config(**sizes, image_shape=(8, 8, 3), patch=4, classes=5).token_shape
        (4, 48)
    """

    image_shape: tuple[int, int, int]
    patch: int
    layer_scale: bool = False
    gated_mlp: bool = False
    registers: int = 0
    read_out: str = "class"
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_patches()
        require_flags(layer_scale=self.layer_scale, gated_mlp=self.gated_mlp)
        whole = isinstance(self.registers, int | np.integer) and not isinstance(self.registers, bool)
        require(whole and self.registers >= 0, "registers", self.registers, "an integer of at least 0")
        require_choice("read_out", self.read_out, READ_OUTS)
        require_classes(self.classes)

    @property
    def added_tokens(self) -> int:
        """The class token and the registers."""
        return 1 + self.registers

    @property
    def reads_one_row(self) -> bool:
        """Whether only the class token is read."""
        return self.read_out in ("class", "pooler")

    @property
    def example(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of a batch of one image."""
        return jax.ShapeDtypeStruct((1, *self.token_shape), self.dtype)


class PretrainedViT(Transformer):
    """Linear embedding of patches, class token, positions, registers; blocks; normalization; read-out.

    ``embed`` returns the patches' embeddings ``[b t d]``; in hidden states ``[l+1 b 1+r+t d]`` the class token is
    first, and the r registers follow.

    Example:
        >>> from jaxsens.models.text import encoder
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4}
        >>> module = PretrainedViT(Config(**sizes, image_shape=(4, 4, 1), patch=2, classes=3))
        >>> tokens = np.zeros((5, 4, 4), np.float32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        (5, 3)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        config = self.config
        self.patches = transformer.dense(config, config.width)
        self.class_token = self.param("class_token", small_normal, (1, 1, config.width))
        self.positions = self.param("positions", small_normal, (1, 1 + config.token_shape[0], config.width))
        if config.registers:
            self.registers = self.param("registers", small_normal, (1, config.registers, config.width))
        if config.read_out == "pooler":
            self.pooler = transformer.dense(config, config.width)
        if config.classes is not None:
            self.classifier = nn.Dense(config.classes, dtype=config.logits_dtype, kernel_init=small_normal)

    def embed(self, tokens: Array, mask: Array | None = None) -> jax.Array:
        """Map patches ``[b t p]``, their pixels normalized as in training, to embeddings ``[b t d]``."""
        x = self.patches(read_tokens(self.config, tokens, mask))
        return x + jnp.asarray(self.positions[:, 1:], x.dtype)

    def begin(self, x: Array, mask: Array | None) -> tuple[jax.Array, Array | None]:
        """Return ``[b 1+r+t d]`` with class token and registers before the patches, and the mask ``[b 1+r+t]``."""
        x, mask = super().begin(x, mask)
        first, added = self.class_token + self.positions[:, :1], self.config.added_tokens
        if self.config.registers:
            first = jnp.concatenate([first, self.registers], axis=1)
        x = jnp.concatenate([jnp.broadcast_to(jnp.asarray(first, x.dtype), (len(x), added, x.shape[2])), x], axis=1)
        return x, None if mask is None else jnp.pad(mask, ((0, 0), (added, 0)), constant_values=True)

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b 1+r+t d]`` to logits ``[b classes]``, or without a classifier to its input."""
        config = self.config
        y = x[:, 0]
        if "mean" in config.read_out:
            added = config.added_tokens
            mean = mean_over_tokens(x[:, added:], None if mask is None else mask[:, added:])
            y = mean if config.read_out == "mean" else jnp.concatenate([y, mean], axis=1)
        if config.read_out == "pooler":
            y = jnp.tanh(self.pooler(y))
        if config.classes is None:
            return y.astype(config.logits_dtype)
        return self.classifier(self.drop(y, deterministic=not train))


def resize_positions(
    table: Array, old: tuple[int, int], new: tuple[int, int], *, antialias: bool = False
) -> np.ndarray:
    """Interpolate a ViT's positions to another grid of patches, by cubic convolution (Keys 1981) both ways.

    Centers of patches are aligned. The free parameter is -3/4, values at the border are repeated beyond it, and
    nothing is smoothed before a reduction. DINOv2 does the same, and so do the ViTs of ``transformers`` on request.
    With ``antialias``, as in DINOv2 with registers, the free parameter is -1/2, the kernel is as wide as a new patch
    where that is wider than an old one, and weights beyond the border are left out.

    Args:
        table: ``[1 1+t d]``, the class token's position first, which stays.
        old: Patches down and across of the table.
        new: Patches down and across of the result.
        antialias: Whether to smooth before a reduction.

    Returns:
        ``[1 1+t' d]`` in the dtype of the table.

    Example:
        >>> resize_positions(np.ones((1, 1 + 4, 8)), (2, 2), (3, 2)).shape
        (1, 7, 8)
    """
    first, patches = np.split(np.asarray(table), [1], axis=1)
    grid = patches.reshape(*old, -1).astype(np.float64)
    make = _smooth_weights if antialias else _weights
    resized = np.einsum("ih,jw,hwd->ijd", make(old[0], new[0]), make(old[1], new[1]), grid)
    return np.concatenate([first, resized.reshape(1, -1, grid.shape[2]).astype(first.dtype)], axis=1)


def _weights(old: int, new: int) -> np.ndarray:
    """Return ``[new old]``: the weight of every old position in every new one."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        near = np.floor(places) + tap
        np.add.at(weights, (np.arange(new), np.clip(near, 0, old - 1).astype(int)), _cubic(np.abs(places - near)))
    return weights


def _smooth_weights(old: int, new: int) -> np.ndarray:
    """Return ``[new old]``: the weight of every old position in every new one, smoothed where there are fewer."""
    scale = old / new
    places = (np.arange(new) + 0.5) * scale - 0.5
    weights = _cubic(np.abs(np.arange(old) - places[:, None]) / max(scale, 1), a=-0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    inner = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    outer = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, inner, np.where(distance < 2, outer, 0))


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
