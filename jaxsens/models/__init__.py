"""Neural networks in Linen: the only files that import flax.

Image models take the patches of an image as ``tokens [b t d]``, so that one perturbation serves all of them alike:

    module = models.build("vit", "small", image_shape=(8, 8, 1), classes=10, patch=2)
    variables = models.init(module, key)
    logits = models.evaluation(module)(variables, tokens)

Models of text take ids ``tokens [b t]``. They, and the pretrained ViTs, have embeddings and hidden states too:

    model = pretrained.load("models/minilm", read_out="mean")
    states = encoder.hidden_states(model.module)(model.variables, ids, mask)
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxsens.models.common import evaluation, init, parameter_count, require, train_apply
from jaxsens.models.images import cnn, convmixer, mlp, resnet, vit

__all__ = ["MODELS", "Family", "build", "evaluation", "init", "parameter_count", "train_apply"]


class Family(NamedTuple):
    """Models that differ in size: the module, and its configurations by name."""

    module: type[nn.Module]
    variants: dict[str, Any]


_SIGMOID = {name: partial(config, activation="sigmoid") for name, config in mlp.VARIANTS.items()}

MODELS: dict[str, Family] = {
    "vit": Family(vit.ViT, vit.VARIANTS),
    "mlp": Family(mlp.MLP, mlp.VARIANTS),
    "mlp_sigmoid": Family(mlp.MLP, _SIGMOID),
    "cnn": Family(cnn.CNN, cnn.VARIANTS),
    "convmixer": Family(convmixer.ConvMixer, convmixer.VARIANTS),
    "resnet": Family(resnet.ResNet, resnet.VARIANTS),
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

    Raises:
        ValueError: If the name or the variant is unknown, or a size does not fit.
    """
    require(name in MODELS, "name", name, f"one of {', '.join(MODELS)}")
    family = MODELS[name]
    require(variant in family.variants, "variant", variant, f"one of {', '.join(family.variants)} for {name}")
    make_config = family.variants[variant]
    return family.module(make_config(image_shape=image_shape, classes=classes, patch=patch, dtype=dtype))
