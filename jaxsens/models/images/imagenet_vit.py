"""The ViTs that are trained on ImageNet (Dosovitskiy et al. 2021, arXiv 2010.11929), to be trained here.

They have biases of queries, keys and values, a position of the class token, and a final normalization before it is
read, unlike ``vit``. ``models.pretrained.load`` reads their trained weights.
"""

from functools import partial

from jaxsens.models.pretrained.vit import Config, PretrainedViT

__all__ = ["VARIANTS", "Config", "PretrainedViT"]

_config = partial(Config, epsilon=1e-6)
VARIANTS = {
    "small": partial(_config, width=64, depth=2, heads=4, hidden=128),
    "base": partial(_config, width=768, depth=12, heads=12, hidden=3072),
    "large": partial(_config, width=1024, depth=24, heads=16, hidden=4096),
}
"""Configurations by name, each a function of the fields of ``ImageConfig``; with ``patch=16``, ``large`` is ViT-L/16.

Vasudeva et al. (ICLR 2025), s. 5, compare ViT-L/16 with ConvNeXt V2 on ImageNet. ``small`` is a size for tests."""


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
