"""Packages that the benchmark compares with, where they are installed; the library does not need them.

PyTorch is not used where the environment variable ``JAXSENS_WITHOUT_PYTORCH`` is set.
"""

import os
from importlib import metadata, util

if util.find_spec("torch") and not os.environ.get("JAXSENS_WITHOUT_PYTORCH"):
    from experiments.benchmark import pytorch
else:
    pytorch = None


def versions() -> dict[str, str | None]:
    """Return the versions of these packages; None for one that is not installed."""
    installed = {}
    for name in ("torch", "boofun"):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed
