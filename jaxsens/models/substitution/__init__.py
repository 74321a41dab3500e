"""Exact fast substitutions, each equal to ``jaxsens.one_at_a_time`` of the same model.

    substitute = substitution.encoder(module)           # transformers over tokens: first and last layer shared
    substitute = substitution.causal(module)            # GPT-2, Llama, LSTM: what is before the token is shared
    substitute = substitution.recognizer(config)        # recognizers of bit strings, likewise
    substitute = substitution.convolutional(module)     # CNN, ConvMixer, ConvNeXt, ResNet, DenseNet: on windows

``encoder_operations``, ``causal_operations``, ``recognizer_operations`` and ``convolutional_operations`` count the
floating-point operations of the plain and of the fast evaluation.
"""

from jaxsens.models.substitution.convolutions import operations as convolutional_operations
from jaxsens.models.substitution.convolutions import substitute as convolutional
from jaxsens.models.substitution.encoders import operations as encoder_operations
from jaxsens.models.substitution.encoders import substitute as encoder
from jaxsens.models.substitution.prefixes import operations as causal_operations
from jaxsens.models.substitution.prefixes import substitute as causal
from jaxsens.models.substitution.recognizers import operations as recognizer_operations
from jaxsens.models.substitution.recognizers import substitute as recognizer

__all__ = [
    "causal",
    "causal_operations",
    "convolutional",
    "convolutional_operations",
    "encoder",
    "encoder_operations",
    "recognizer",
    "recognizer_operations",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
