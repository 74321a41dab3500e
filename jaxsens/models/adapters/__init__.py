"""Models of other kinds as ``(apply, params)``: Flax NNX, Equinox, Flax Linen, image models, Hugging Face folders.

``apply(params, tokens [b t *s], mask [b t] = None)`` is the model in evaluation mode, and ``params`` are its variables,
of which measures perturb what is trained only (``parameters.weights``). Functions of equal models are equal and hash
equal, so that models which differ in their parameters only, such as several seeds, share compiled code. The names are
those of ``jaxsens`` too: ``jaxsens.from_nnx``. Equinox and NNX are imported when they are first used.
"""

from jaxsens.models.adapters.equinox import from_equinox
from jaxsens.models.adapters.images import from_images
from jaxsens.models.adapters.linen import from_linen
from jaxsens.models.adapters.nnx import from_nnx
from jaxsens.models.adapters.pretrained import from_pretrained

__all__ = ["from_equinox", "from_images", "from_linen", "from_nnx", "from_pretrained"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
