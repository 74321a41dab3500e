"""The simple ViT (Beyer, Zhai and Kolesnikov 2022, arXiv 2205.01580): no class token, and fixed positions."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax

from jaxsens.models import transformer
from jaxsens.models.common import require_flags
from jaxsens.models.images import vit
from jaxsens.models.images.vit import ViT
from jaxsens.models.transformer import mean_over_tokens
from jaxsens.typing import Array

__all__ = ["VARIANTS", "Config", "SimpleViT"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(vit.Config):
    """Sizes of a simple ViT, in addition to the fields of ``vit.Config``, some with other defaults.

    The defaults are those of the package vit-pytorch today. Its first version, which the authors of arXiv 2403.06925
    may have used, normalized neither patches nor embeddings, and the mean over the tokens instead of each token.

    Attributes:
        normalize_embedding: Whether layer normalization is applied to embeddings, before positions are added.
        normalize_tokens: Whether the final normalization is applied to each token, before the mean over them; it is
            applied to the mean otherwise.

    Raises:
        ValueError: If a size is not a positive integer, or sizes do not fit each other or the image.

    Example:
        >>> sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 32}
        >>> config = Config(**sizes, image_shape=(8, 8, 1), classes=10, patch=2)
        >>> config.pool, config.positions, config.final_norm
        ('mean', 'sinusoidal', True)
    """

    output_bias: ClassVar[bool] = False

    positions: str = "sinusoidal"
    normalize_patches: bool = True
    normalize_embedding: bool = True
    normalize_tokens: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_flags(normalize_embedding=self.normalize_embedding, normalize_tokens=self.normalize_tokens)

    @property
    def final_norm(self) -> bool:
        """Whether normalization comes before pooling."""
        return self.normalize_tokens


# Vasudeva et al. (ICLR 2025), App. D. Width and head_dim are not stated there; 64 and 64 are from the authors' code.
VARIANTS = {
    "small": partial(Config, width=64, depth=2, heads=4, hidden=128),
    "paper_cifar10": partial(Config, width=64, head_dim=64, depth=6, heads=16, hidden=512),
}
"""Configurations by name, each a function of the fields of ``ImageConfig``; ``paper_cifar10`` is from the paper."""


class SimpleViT(ViT):
    """Patches, normalizations around a linear embedding, fixed positions; blocks; normalization, mean, linear head.

    Attention has no biases at all.

    Example:
        >>> import numpy as np
        >>> from jaxsens import models
        >>> module = models.build("vit_simple", "small", image_shape=(4, 4, 1), classes=3, patch=2)
        >>> tokens = np.zeros((5, 4, 4), np.float32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        (5, 3)
    """

    config: Config

    def setup(self) -> None:
        """Declare the parameters."""
        super().setup()
        if self.config.normalize_embedding:
            self.norm_embedding = transformer.norm(self.config)

    def content(self, tokens: Array, mask: Array | None) -> jax.Array:
        """Map patches ``[b t p]`` to embeddings ``[b t d]``, still without positions."""
        x = super().content(tokens, mask)
        return self.norm_embedding(x) if self.config.normalize_embedding else x

    def read(self, x: jax.Array, mask: Array | None, *, train: bool = False) -> jax.Array:
        """Map final activations ``[b t d]`` to logits ``[b classes]``."""
        if not self.config.normalize_tokens:
            return super().read(x, mask, train=train)
        return self.head(x[:, 0] if self.config.pool == "class" else mean_over_tokens(x, mask))


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
