"""Names of languages and strings as people read them."""

from experiments.trained_recognizers.config import Config
from experiments.trained_recognizers.models import Kind


def language(kind: Kind) -> str:
    """Name a kind of language, such as ``Sparse parity, 5 bits`` or ``Random labels, Xavier normal weights``."""
    if kind.random:
        return f"Random labels, {kind.scheme.replace('_', ' ').replace('xavier', 'Xavier')} weights"
    name = kind.family.replace("_", " ").capitalize()
    return f"{name}, {kind.sparsity} bits" if kind.sparsity else name


def tested(config: Config, kind: Kind) -> str:
    """Name the strings that accuracy is measured on."""
    strings = f"{config.random_strings} training" if kind.random else f"{config.test_strings} test"
    return f"{strings} strings of {kind.n} bits"


def probed(config: Config, n: int) -> str:
    """Name the strings of n bits that sensitivity is measured on."""
    origin = "of the user's" if f"{n}:" in config.data else "random"
    return f"{config.profile_strings} {origin} strings of {n} bits"
