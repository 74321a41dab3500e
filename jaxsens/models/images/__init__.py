"""Models of images, all of which read patches: ViTs, MLP, CNN, ConvMixer, ConvNeXt, ResNet and DenseNet."""

from jaxsens.models.images import (
    cnn,
    convmixer,
    convnext,
    convolution,
    densenet,
    imagenet_vit,
    mlp,
    resnet,
    simple_vit,
    small_data_vit,
    vit,
    windows,
)

__all__ = [
    "cnn",
    "convmixer",
    "convnext",
    "convolution",
    "densenet",
    "imagenet_vit",
    "mlp",
    "resnet",
    "simple_vit",
    "small_data_vit",
    "vit",
    "windows",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
