"""Trained weights in the Hugging Face format."""

import os
from typing import Any

import jax.numpy as jnp

from jaxsens.models.common import evaluation, require, require_flags
from jaxsens.typing import Apply, PyTree

__all__ = ["from_pretrained"]


def from_pretrained(
    path: str | os.PathLike[str],
    *,
    states: bool = False,
    read_out: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    patch: int | None = None,
    dtype: Any = jnp.float32,
) -> tuple[Apply, PyTree]:
    """Return ``(apply, params)`` of a folder in the Hugging Face format. Needs the package ``safetensors``.

    BERT, RoBERTa and GPT-2 take ids ``[b t]``, ViT, DINOv2 and ConvNeXt V2 the patches of images. Nothing is
    downloaded and nothing is unpickled.

    Args:
        path: The folder, with ``config.json`` and ``model.safetensors``.
        states: Whether ``apply`` returns hidden states ``[l+1 b t d]``, as ``embedding_shifts`` takes them, in place of
            outputs ``[b k]``.
        read_out: Output of the model; see ``models.pretrained.load``, as for the following ones.
        image_shape: ``(h, w, c)`` of images, if not those that the model was trained for.
        patch: Side of a ConvNeXt's patches, if not that of its first layer's squares.
        dtype: The dtype of parameters and activations.

    Returns:
        ``apply(params, tokens, mask=None)`` and ``params``.

    Raises:
        ValueError: If the folder is no such model, as ``models.pretrained.load`` says, or a ConvNeXt is asked for
            hidden states, which it has in grids of several sizes.

    Example:
        The shifts of all hidden states of a text encoder::

            encode, params = jaxsens.from_pretrained("models/minilm", states=True)
            nearest = jaxsens.nearest_tokens(params["params"]["tokens"])
            shifts = jaxsens.embedding_shifts(encode)(params, ids, nearest.replace(ids))

        >>> import tempfile
        >>> from jaxsens.models import pretrained
        >>> from jaxsens.models.text import encoder, gpt2
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
        >>> module = gpt2.GPT2(gpt2.Config(**sizes))
        >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), encoder.shapes_of(module))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pretrained.save(folder, module, variables)
        ...     apply, params = from_pretrained(folder)
        >>> jax.eval_shape(apply, params, np.zeros((3, 2), np.int32)).shape
        (3, 5)
    """
    from jaxsens.models import pretrained
    from jaxsens.models.text import encoder

    require_flags(states=states)
    model = pretrained.load(path, read_out=read_out, image_shape=image_shape, patch=patch, dtype=dtype)
    has_states = not states or hasattr(model.module, "hidden_states")
    require(
        has_states, "states", states, f"False for a {type(model.module).__name__}, which has grids of several sizes"
    )
    return (encoder.hidden_states if states else evaluation)(model.module), model.variables
