"""Trained weights in the Hugging Face format, a folder with ``config.json`` and safetensors: read and written.

    model = pretrained.load("models/minilm", read_out="mean")
    states = models.text.encoder.hidden_states(model.module)(model.variables, ids, mask)

    pretrained.gguf_files.convert("SmolLM2-135M.Q4_1.gguf", "models/smollm2")      # needs the package gguf, too

Needs the package ``safetensors``, of the extra ``text``. Nothing is downloaded and nothing is unpickled.
"""

from jaxsens.models.pretrained import gguf_files, vit
from jaxsens.models.pretrained.checkpoints import Pretrained, load, save

__all__ = ["Pretrained", "gguf_files", "load", "save", "vit"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
