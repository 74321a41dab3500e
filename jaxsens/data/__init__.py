"""Data sets of images and texts, synthetic tokens, modular addition, patches, and word frequencies.

The modules ``images``, ``text``, ``patches``, ``sparse_tokens``, ``modular_addition`` and ``word_frequency`` are
imported when they are first used; tensorflow_datasets, when a data set is loaded.
"""

import importlib
from types import ModuleType

__all__ = ["images", "modular_addition", "patches", "sparse_tokens", "text", "word_frequency"]


def __getattr__(name: str) -> ModuleType:
    """Import a module of data when it is first used."""
    if name in __all__:
        return importlib.import_module(f"jaxsens.data.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
