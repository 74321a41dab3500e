"""Neural networks in Linen: the only files that import flax.

Image models read the patches of an image as ``tokens [b t d]``, so that the same perturbation applies to all of them:

    module = models.build("vit", "small", image_shape=(8, 8, 1), classes=10, patch=2)
    variables = models.init(module, key)
    logits = models.evaluation(module)(variables, tokens)

Models of text read ids ``tokens [b t]``. They, and the pretrained ViTs, have embeddings and hidden states too:

    model = models.pretrained.load("models/minilm", read_out="mean")
    states = models.text.encoder.hidden_states(model.module)(model.variables, ids, mask)

``adapters`` makes functions of models in Flax NNX, Equinox and others. ``images``, ``pretrained`` and ``text`` are
imported with this package; ``adapters``, ``recognizers`` and ``substitution`` when they are first used.
"""

import importlib
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models import images, pretrained, text
from jaxsens.models.common import evaluation, init, parameter_count, require_choice, train_apply
from jaxsens.models.images import (
    cnn,
    convmixer,
    convnext,
    densenet,
    imagenet_vit,
    mlp,
    resnet,
    simple_vit,
    small_data_vit,
    vit,
)

_LAZY = ("adapters", "recognizers", "substitution")

__all__ = [
    "MODELS",
    "Family",
    "adapters",
    "build",
    "evaluation",
    "images",
    "init",
    "parameter_count",
    "pretrained",
    "recognizers",
    "substitution",
    "text",
    "train_apply",
]


def __getattr__(name: str) -> ModuleType:
    """Import a part of the models when it is first used."""
    if name in _LAZY:
        return importlib.import_module(f"jaxsens.models.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


class Family(NamedTuple):
    """A model in several sizes: the module, and its configurations by name.

    Example:
        >>> MODELS["cnn"].module.__name__, sorted(MODELS["cnn"].variants)[:1]
        ('CNN', ['paper'])
    """

    module: type[nn.Module]
    variants: dict[str, Any]


_SIGMOID = {name: partial(config, activation="sigmoid") for name, config in mlp.VARIANTS.items()}

MODELS: dict[str, Family] = {
    "vit": Family(vit.ViT, vit.VARIANTS),
    "mlp": Family(mlp.MLP, mlp.VARIANTS),
    "mlp_sigmoid": Family(mlp.MLP, _SIGMOID),
    "cnn": Family(cnn.CNN, cnn.VARIANTS),
    "convmixer": Family(convmixer.ConvMixer, convmixer.VARIANTS),
    "convnext": Family(convnext.ConvNeXt, convnext.VARIANTS),
    "resnet": Family(resnet.ResNet, resnet.VARIANTS),
    "densenet": Family(densenet.DenseNet, densenet.VARIANTS),
    "vit_small_data": Family(small_data_vit.SmallDataViT, small_data_vit.VARIANTS),
    "vit_simple": Family(simple_vit.SimpleViT, simple_vit.VARIANTS),
    "vit_imagenet": Family(imagenet_vit.PretrainedViT, imagenet_vit.VARIANTS),
}
"""The image models by name."""


def build(
    name: str,
    variant: str,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    patch: int,
    dtype: Any = jnp.float32,
) -> nn.Module:
    """Return the image model ``name`` in the size ``variant``, for images ``[h w c]`` cut into square patches.

    Args:
        name: One of ``MODELS``.
        variant: The size, such as ``"small"`` or ``"paper"``; see the ``VARIANTS`` of the model's module.
        image_shape: ``(h, w, c)``.
        classes: The number of classes.
        patch: Side of the patches in pixels; divides h and w.
        dtype: The dtype of activations; ``bfloat16`` is mixed precision.

    Raises:
        ValueError: If the name or the variant is unknown, or a size does not fit.

    Example:
        >>> build("mlp", "small", image_shape=(8, 8, 1), classes=10, patch=2).config.token_shape
        (16, 4)
    """
    require_choice("name", name, MODELS)
    family = MODELS[name]
    require_choice(f"variant of {name}", variant, family.variants)
    make_config = family.variants[variant]
    return family.module(make_config(image_shape=image_shape, classes=classes, patch=patch, dtype=dtype))
