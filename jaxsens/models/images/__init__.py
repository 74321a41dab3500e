"""Models of images, all of which read patches: ViT, MLP, CNN, ConvMixer, ConvNeXt and ResNet."""

from jaxsens.models.images import cnn, convmixer, convnext, convolution, mlp, resnet, vit, windows

__all__ = ["cnn", "convmixer", "convnext", "convolution", "mlp", "resnet", "vit", "windows"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
