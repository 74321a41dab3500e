"""Exact fast substitutions, each equal to ``jaxsens.one_at_a_time`` of the same model.

substitute = substitution.encoder(module)           # transformers over tokens: first and last layer shared
substitute = substitution.recognizer(config)        # recognizers of bit strings, likewise
substitute = substitution.convolutional(module)     # CNN, ConvMixer, ResNet: early layers on windows
"""

from jaxsens.models.substitution.convolutions import substitute as convolutional
from jaxsens.models.substitution.encoders import substitute as encoder
from jaxsens.models.substitution.recognizers import substitute as recognizer

__all__ = ["convolutional", "encoder", "recognizer"]
