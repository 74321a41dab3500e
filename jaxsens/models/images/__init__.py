"""Models of images, all of which read patches: ViT, MLP, CNN, ConvMixer and ResNet."""

from jaxsens.models.images import cnn, convmixer, convolution, mlp, resnet, vit, windows

__all__ = ["cnn", "convmixer", "convolution", "mlp", "resnet", "vit", "windows"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
