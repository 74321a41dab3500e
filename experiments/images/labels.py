"""Names of models and data sets for readers: in figures and printed tables, never in a CSV."""

from experiments.images.config import CHANGED, CHANGES

__all__ = ["INTERVENTIONS", "dataset_label", "model_label", "split_name"]

_MODELS = {
    "vit": "ViT",
    "vit_patch_norm": "ViT, patches normalized",
    "vit_dropout": "ViT, dropout",
    "mlp": "MLP",
    "mlp_sigmoid": "MLP, sigmoid",
    "cnn": "CNN",
    "convmixer": "ConvMixer",
    "vit_small_data": "ViT, small data",
    "vit_simple": "ViT, simple form",
    "vit_imagenet": "ViT, ImageNet",
    "resnet": "ResNet",
    "densenet": "DenseNet",
    "convnext": "ConvNeXt V2",
}
_SHOWN = {"adam": "Adam", "sgd": "SGD"}
_MODELS |= {
    f"{name}_{change}": f"{_MODELS[name]}, {_SHOWN.get(change, change.replace('_', ' '))}"
    for name in CHANGED
    for change in CHANGES
}
INTERVENTIONS = {
    "regularized": "regularized",
    "augmented": "augmented",
    "mixup": "mixup",
    "dropout": "dropout",
    "weight_decay": "weight decay",
}
"""What a name of a model ends with, after ``_``, if it is trained otherwise than plainly; and the words for it."""

_DATASETS = {
    "digits": "UCI digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "svhn_cropped": "SVHN",
    "imagenet2012": "ImageNet",
}


def split_name(name: str) -> tuple[str, str]:
    """Return the name of the architecture, and that of the intervention or an empty text.

    Example:
        >>> split_name("vit_weight_decay"), split_name("vit_dropout_regularized"), split_name("mlp")
        (('vit', 'weight_decay'), ('vit_dropout', 'regularized'), ('mlp', ''))
    """
    for intervention in INTERVENTIONS:
        if (plain := name.removesuffix(f"_{intervention}")) != name:
            return plain, intervention
    return name, ""


def model_label(name: str) -> str:
    """Return the label of a model by its name in the tables; an unknown name is returned as it is.

    Example:
        >>> model_label("vit_regularized")
        'ViT, regularized'
    """
    plain, intervention = (name, "") if name in _MODELS else split_name(name)
    return _MODELS.get(plain, plain) + (f", {INTERVENTIONS[intervention]}" if intervention else "")


def dataset_label(name: str) -> str:
    """Return the label of a data set by its name; an unknown name is returned as it is."""
    return _DATASETS.get(name, name)
