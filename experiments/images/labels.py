"""Names of models and data sets for readers: in figures and printed tables, never in a CSV."""

from experiments.images.config import REGULARIZED

__all__ = ["dataset_label", "model_label"]

_MODELS = {
    "vit": "ViT",
    "vit_patch_norm": "ViT, patches normalized",
    "vit_dropout": "ViT, dropout",
    "mlp": "MLP",
    "mlp_sigmoid": "MLP, sigmoid",
    "cnn": "CNN",
    "convmixer": "ConvMixer",
}
_DATASETS = {
    "digits": "UCI digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "svhn_cropped": "SVHN",
    "imagenet2012": "ImageNet",
}


def model_label(name: str) -> str:
    """Return the label of a model by its name in the tables; an unknown name is returned as it is.

    Example:
        >>> model_label("vit_regularized")
        'ViT, regularized'
    """
    plain = name.removesuffix(REGULARIZED)
    return _MODELS.get(plain, plain) + (", regularized" if plain != name else "")


def dataset_label(name: str) -> str:
    """Return the label of a data set by its name; an unknown name is returned as it is."""
    return _DATASETS.get(name, name)
