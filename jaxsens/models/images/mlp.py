"""Multi-layer perceptron on the pixels of an image: the fully connected baseline of Vasudeva et al., ICLR 2025."""

import dataclasses
from functools import partial

import jax
from flax import linen as nn

from jaxsens.data.patches import from_patches
from jaxsens.models.common import ImageConfig, as_sizes, read_tokens, require, require_choice
from jaxsens.typing import Array

__all__ = ["ACTIVATIONS", "MLP", "VARIANTS", "Config"]

ACTIVATIONS = {"leaky_relu": nn.leaky_relu, "sigmoid": nn.sigmoid, "relu": nn.relu}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Sizes of a perceptron, in addition to the fields of every image model.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: ``"leaky_relu"`` (slope 0.01 below zero), ``"sigmoid"`` or ``"relu"``.

    Raises:
        ValueError: If a size is not a positive integer, or the activation is unknown.

    Example:
        >>> Config(image_shape=(28, 28, 1), classes=10, patch=4, hidden=(100,)).activation
        'leaky_relu'
    """

    hidden: tuple[int, ...] = (512, 128)
    activation: str = "leaky_relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", as_sizes("hidden", self.hidden))
        require(len(self.hidden) > 0, "hidden", self.hidden, "the width of at least one hidden layer")
        require_choice("activation", self.activation, ACTIVATIONS)


# Vasudeva et al. (ICLR 2025), App. D: small already; 512 and 128 on Fashion-MNIST, one layer of 100 on MNIST.
VARIANTS = {"small": Config, "paper": Config, "paper_mnist": partial(Config, hidden=(100,))}
"""Configurations by name, each a function of the fields of ``ImageConfig`` and, optionally, the activation."""


class MLP(nn.Module):
    """Dense layers with an activation after each, and a linear head.

    Example:
        >>> from jaxsens import models
        >>> module = models.build("mlp", "small", image_shape=(8, 8, 1), classes=3, patch=4)
        >>> tokens = np.zeros((5, 4, 16), np.float32)
        >>> type(module).__name__, jax.eval_shape(module.init_with_output, jax.random.key(0), tokens)[0].shape
        ('MLP', (5, 3))
    """

    config: Config

    @nn.compact
    def __call__(self, tokens: Array, mask: Array | None = None, *, train: bool = False) -> jax.Array:  # noqa: ARG002
        """Map ``tokens [b t d]`` and ``mask [b t]`` to logits ``[b classes]``; padding counts as zero pixels."""
        config = self.config
        # In the order of the image's pixels, so that the meaning of parameters does not depend on the patch.
        x = from_patches(read_tokens(config, tokens, mask), config.patch, config.image_shape)
        x = x.reshape(len(x), -1)
        for layer, width in enumerate(config.hidden):
            x = ACTIVATIONS[config.activation](nn.Dense(width, dtype=config.dtype, name=f"hidden_{layer}")(x))
        return nn.Dense(config.classes, dtype=config.logits_dtype, name="head")(x)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
