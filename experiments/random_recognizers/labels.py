"""Names of models, initializations and strings as people read them."""

from experiments.random_recognizers.config import Config

KINDS = {
    "transformer": "transformer",
    "lstm": "LSTM",
    "mlp": "MLP",
    "default": "default reading",
    "unscaled": "attention scores not scaled",
    "norm_first": "normalization before each block",
    "paper_block": "block of s.2.2 of the paper",
    "zero_biases": "biases of zero",
    "drawn_gains": "normalization gains drawn",
    "drawn_embedding": "embedding drawn as the weights",
}


def weights(scheme: str) -> str:
    """Name an initialization, such as ``Xavier uniform``."""
    return scheme.replace("_", " ").replace("xavier", "Xavier")


def subject(kind: str, scheme: str) -> str:
    """Name a kind of model under an initialization, such as ``LSTM, Xavier uniform weights``."""
    return f"{KINDS[kind]}, {weights(scheme)} weights"


def strings(config: Config) -> str:
    """Name the strings that models are measured on."""
    origin = "the user's" if config.data else "random"
    return f"{origin} strings of {config.length} bits"
