"""Trained weights in the Hugging Face format, a folder with ``config.json`` and safetensors: read and written.

    model = pretrained.load("models/minilm", read_out="mean")
    states = encoder.hidden_states(model.module)(model.variables, ids, mask)

Needs the package ``safetensors``, of the extra ``text``. Nothing is downloaded and nothing is unpickled.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxsens.models.common import FLOATS, require
from jaxsens.models.pretrained import configs, safetensors
from jaxsens.models.pretrained import vit as vit_pretrained
from jaxsens.models.pretrained.configs import KINDS, READ_OUT, Kind
from jaxsens.models.pretrained.positions import resize_positions
from jaxsens.models.pretrained.tensor_names import Tensor, by_path, from_parameters, nested, tensors_of, to_parameters
from jaxsens.models.text import encoder, gpt2
from jaxsens.typing import PyTree

__all__ = ["Pretrained", "load", "save"]


class Pretrained(NamedTuple):
    """A model with trained weights.

    Attributes:
        module: ``bert.Bert``, ``gpt2.GPT2`` or ``vit_pretrained.PretrainedViT``.
        variables: ``{"params": ...}``.
        unused: Names of the tensors in the files that the model has no use for, all of them known ones.
    """

    module: nn.Module
    variables: PyTree
    unused: tuple[str, ...]


def load(
    path: str | os.PathLike[str],
    *,
    read_out: str | None = None,
    image_shape: tuple[int, int, int] | None = None,
    dtype: Any = jnp.float32,
) -> Pretrained:
    """Read a BERT, RoBERTa, GPT-2, ViT or DINOv2, strictly.

    Every tensor in the files is used, or is one that the architecture is known to have beside the model (buffers, heads
    of pretraining, poolers that are not read); every parameter of the model is in the files, with the right shape.

    Args:
        path: The folder, with ``config.json``, and ``model.safetensors`` or shards and their index.
        read_out: What the model returns, one of the module's ``READ_OUTS``; a classifier is then left out. ``None``:
            its logits if the checkpoint has a classifier, else activations at the class token (GPT-2: logits of the
            next token, or activations at the last one if it is named ``GPT2Model``).
        image_shape: ``(h, w, c)`` of images of another size than the one that a ViT was trained for; its positions are
            interpolated (``position_resize``).
        dtype: Of parameters and activations, whatever that of the files is.

    Raises:
        ValueError: If a file is missing, truncated or corrupted; the architecture or a setting is not supported; or a
            tensor is missing, unknown, of another shape, not finite, or no floats. The file and the tensor are named.
    """
    folder = Path(path)
    require(str(jnp.dtype(dtype)) in FLOATS, "dtype", dtype, f"one of {', '.join(FLOATS)}")
    if jnp.dtype(dtype) == jnp.float64:
        require(jax.config.jax_enable_x64, "dtype", "float64", "used with jax_enable_x64 on")
    settings = safetensors.read_json(folder / "config.json")
    try:
        name, kind = _kind(settings)
        config = _config(settings, name, kind, read_out, dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    module = kind.module(config)
    parameters, unused = _parameters(folder, name, kind, module)
    if image_shape is not None:
        module, parameters = _for_images(module, parameters, image_shape)
    return Pretrained(module, {"params": nested(parameters)}, unused)


def save(path: str | os.PathLike[str], module: nn.Module, variables: PyTree) -> None:
    """Write a model as ``load`` and the ``transformers`` library read it, in the dtype of its parameters.

    Args:
        path: The folder, which is made if need be.
        module: A ``bert.Bert``, ``gpt2.GPT2`` or ``vit_pretrained.PretrainedViT``.
        variables: ``{"params": ...}``.

    Raises:
        ValueError: If the format has no such model, variables do not fit the module, or the folder has a model already.
    """
    folder, config = Path(path), module.config
    model_type = configs.kind_of(config)
    name, kind = configs.model_name(config), KINDS[model_type]
    encoder.require_variables(module, variables)
    parameters = by_path(variables["params"])
    headed = name != next(iter(kind.read_outs))
    tensors = {
        _long(tensor.name, kind) if headed else tensor.name: from_parameters(tensor, parameters)
        for tensor in tensors_of(config)
    }
    settings = {"architectures": [name], "model_type": model_type, **kind.write(config)}
    settings |= {READ_OUT: config.read_out} if config.read_out != kind.read_outs[name] else {}
    if config.classes is not None:
        settings["id2label"] = {str(index): f"LABEL_{index}" for index in range(config.classes)}
    for file in ("config.json", safetensors.WHOLE, safetensors.INDEX):
        require(not (folder / file).exists(), "path", str(folder), f"a folder without a model, but {file} is there")
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(folder / safetensors.WHOLE, tensors)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _kind(settings: Mapping[str, Any]) -> tuple[str, Kind]:
    model_type = settings.get("model_type")
    require(model_type in KINDS, "model_type", model_type, f"one of {', '.join(KINDS)}")
    kind = KINDS[model_type]
    names = settings.get("architectures") or [next(iter(kind.read_outs))]
    known = len(names) == 1 and names[0] in kind.read_outs
    require(known, "architectures", names, f"one of {', '.join(kind.read_outs)}")
    for setting, value in kind.fixed.items():
        found = settings.get(setting, value)
        require(found == value, setting, found, f"{value!r}: nothing else is supported")
    return names[0], kind


def _config(settings: Mapping[str, Any], name: str, kind: Kind, read_out: str | None, dtype: Any) -> Any:
    arguments = kind.read(settings)
    if name == kind.classifying and read_out is None:
        arguments["classes"] = len(settings["id2label"]) if "id2label" in settings else settings.get("num_labels", 2)
    arguments["read_out"] = read_out or settings.get(READ_OUT, kind.read_outs[name])
    return kind.config(**arguments, dtype=dtype)


def _parameters(folder: Path, name: str, kind: Kind, module: nn.Module) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a model's parameters by path, and the names of tensors that it has no use for."""
    wanted = {tensor.name: tensor for tensor in tensors_of(module.config)}
    shapes = {path: leaf.shape for path, leaf in by_path(encoder.shapes_of(module)["params"]).items()}
    parameters, seen, unused, head = {}, {}, [], None
    for given, file, values in safetensors.read(folder):
        short = _short(given, kind)
        if short in seen:
            raise ValueError(f"{file} holds {given}, and so do the files under the name {seen[short]}.")
        seen[short] = given
        if short in wanted:
            parameters |= _checked(file, given, values, wanted[short], shapes, module.config.dtype)
        elif kind.extras.fullmatch(short):
            unused.append(given)
            head = values if short == "lm_head.weight" else head
        else:
            raise ValueError(f"{file} holds {given}, which is no tensor of {name}.")
    missing = wanted.keys() - seen.keys()
    if missing:
        raise ValueError(f"{folder} lacks {sorted(missing)[0]}, which {name} needs ({len(missing)} missing in all).")
    if isinstance(module, gpt2.GPT2) and head is not None:
        tied = np.array_equal(head.astype(module.config.dtype), parameters["tokens"])
        require(tied, f"lm_head.weight in {folder}", "another matrix", "wte.weight: GPT-2 has one for both")
    return parameters, tuple(unused)


def _for_images(
    module: nn.Module, parameters: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a ViT, and its parameters, for images of another size."""
    config = module.config
    known = isinstance(config, vit_pretrained.Config)
    require(known, "image_shape", image_shape, f"None for a {type(module).__name__}")
    resized = dataclasses.replace(config, image_shape=image_shape)
    channels = resized.image_shape[2]
    require(channels == config.image_shape[2], "image_shape[2]", channels, f"{config.image_shape[2]}, as in training")
    positions = resize_positions(parameters["positions"], config.grid, resized.grid)
    return type(module)(resized), {**parameters, "positions": jnp.asarray(positions)}


def _short(name: str, kind: Kind) -> str:
    """Return a tensor's name without the prefix, and in the spelling of today."""
    name = name.removeprefix(f"{kind.prefix}.")
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        name = name.replace(old, new)
    return name


def _long(name: str, kind: Kind) -> str:
    head = name.startswith(("classifier.", "score."))
    return name if head else f"{kind.prefix}.{name}"


def _checked(
    file: Path, name: str, values: np.ndarray, tensor: Tensor, shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype
) -> dict[str, Any]:
    """Return a tensor's parameters by path, in the dtype wanted."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"{file} holds {name} in {values.dtype}, but it must be floats.")
    blank = {path: np.broadcast_to(np.float32(0), shapes[path]) for path in tensor.parameters}
    expected = from_parameters(tensor, blank).shape
    if values.shape != expected:
        raise ValueError(f"{file} holds {name} of shape {values.shape}, but config.json makes it {expected}.")
    if not np.isfinite(values.astype(np.float32) if values.itemsize < 4 else values).all():
        raise ValueError(f"{file} holds {name} with values that are not finite.")
    return {path: jnp.asarray(part.astype(dtype)) for path, part in to_parameters(tensor, values).items()}
