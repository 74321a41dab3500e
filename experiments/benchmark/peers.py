"""What the benchmark compares with, where it is installed: an extra that the library itself does not need.

PyTorch is not used where the environment variable ``JAXSENS_WITHOUT_PYTORCH`` is set.
"""

import os
from importlib import metadata, util

if util.find_spec("torch") and not os.environ.get("JAXSENS_WITHOUT_PYTORCH"):
    from experiments.benchmark import pytorch
else:
    pytorch = None


def versions() -> dict[str, str | None]:
    """Return the versions of what is compared with; None for what is not installed."""
    found = {}
    for name in ("torch", "boofun"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
