"""Settings of ViT, DINOv2 and ConvNeXt V2 in the Hugging Face format, as arguments of configurations, and back."""

from typing import Any

from jaxsens.models.common import require, require_flags, require_number
from jaxsens.models.images import convnext
from jaxsens.models.pretrained import vit
from jaxsens.models.pretrained.settings import ENCODER, Json, give, positive, take

__all__ = [
    "PATCH",
    "read_convnext",
    "read_dinov2",
    "read_dinov2_with_registers",
    "read_vit",
    "write_convnext",
    "write_dinov2",
    "write_vit",
]

PATCH = "jaxsens_patch"
"""A setting of this library: the side of a ConvNeXt's tokens, where it is not that of the first layer's squares."""

_VISION = {ours: theirs for ours, theirs in ENCODER.items() if ours != "hidden"}


def _read_image(settings: Json) -> dict[str, Any]:
    taken = take(settings, {"size": "image_size", "channels": "num_channels", "patch": "patch_size"})
    size, patch = taken["size"], taken["patch"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if isinstance(patch, list | tuple):
        require(len(set(patch)) == 1, "patch_size in config.json", patch, "the same both ways")
        patch = patch[0]
    return {"image_shape": (height, width, taken["channels"]), "patch": patch}


def _write_image(config: vit.Config) -> dict[str, Any]:
    height, width, channels = config.image_shape
    size = height if height == width else [height, width]
    image = {"image_size": size, "num_channels": channels, "patch_size": config.patch, "qkv_bias": True}
    return give(config, _VISION) | image | {"attention_probs_dropout_prob": 0.0}


def read_vit(settings: Json) -> dict[str, Any]:
    """Return arguments of a ViT.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 8, "image_shape": (4, 4, 3), "patch": 2}
        >>> config = vit.Config(**sizes)
        >>> read_vit(write_vit(config))["image_shape"]
        (4, 4, 3)
    """
    return take(settings, ENCODER) | _read_image(settings)


def write_vit(config: vit.Config) -> dict[str, Any]:
    """Return settings of a ViT.

    Raises:
        ValueError: If the format has no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 8, "image_shape": (4, 4, 3), "patch": 2}
        >>> config = vit.Config(**sizes)
        >>> write_vit(config)["image_size"]
        4
    """
    require(not config.gated_mlp, "config.gated_mlp", True, "False without layer_scale: only DINOv2 has it")
    require(config.registers == 0, "config.registers", config.registers, "0 without layer_scale: only DINOv2 has them")
    return _write_image(config) | {"intermediate_size": config.hidden}


def _gated_hidden(hidden: int) -> int:
    """Return the hidden width of DINOv2's gated MLP: two thirds of that of an MLP, in multiples of 8."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def read_dinov2(settings: Json) -> dict[str, Any]:
    """Return arguments of a DINOv2.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 8, "image_shape": (4, 4, 3), "patch": 2}
        >>> config = vit.Config(**sizes, layer_scale=True)
        >>> read_dinov2(write_dinov2(config))["hidden"]
        8
    """
    taken = take(settings, _VISION | {"hidden": "mlp_ratio"}) | _read_image(settings)
    ratio, gated = taken["hidden"], settings.get("use_swiglu_ffn", False)
    require_number("mlp_ratio in config.json", ratio, lambda ratio: ratio > 0, "a number above 0")
    require_flags(**{"use_swiglu_ffn in config.json": gated})
    hidden = int(positive(settings, "hidden_size") * ratio)
    if not gated:
        return taken | {"hidden": hidden, "layer_scale": True}
    # Its activation is no setting.
    return taken | {"hidden": _gated_hidden(hidden), "layer_scale": True, "gated_mlp": True, "activation": "silu"}


def read_dinov2_with_registers(settings: Json) -> dict[str, Any]:
    """Return arguments of a DINOv2 with registers.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 8, "image_shape": (4, 4, 3), "patch": 2}
        >>> config = vit.Config(**sizes, layer_scale=True, registers=3)
        >>> read_dinov2_with_registers(write_dinov2(config))["registers"]
        3
    """
    return read_dinov2(settings) | take(settings, {"registers": "num_register_tokens"})


def write_dinov2(config: vit.Config) -> dict[str, Any]:
    """Return settings of a DINOv2, with registers or without.

    Raises:
        ValueError: If the format has no such model.

    Example:
        >>> sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 8, "image_shape": (4, 4, 3), "patch": 2}
        >>> config = vit.Config(**sizes, layer_scale=True)
        >>> write_dinov2(config)["mlp_ratio"]
        2
    """
    width, hidden, gated = config.width, config.hidden, config.gated_mlp
    ratio = round(1.5 * hidden / width) if gated else hidden // width
    made = _gated_hidden(width * ratio) if gated else width * ratio
    require(made == hidden, "config.hidden", hidden, f"a multiple of {width}{', times 2/3' if gated else ''}")
    require(len(set(config.grid)) == 1, "config.image_shape", config.image_shape, "square: DINOv2 has no other")
    if gated:
        require(
            config.activation in ("silu", "swish"), "config.activation", config.activation, "'silu' for a gated MLP"
        )
    registers = {"num_register_tokens": config.registers} if config.registers else {}
    return _write_image(config) | {"mlp_ratio": ratio, "use_swiglu_ffn": gated} | registers


_CONVNEXT = {
    "widths": "hidden_sizes",
    "depths": "depths",
    "activation": "hidden_act",
    "epsilon": "layer_norm_eps",
    "drop_path": "drop_path_rate",
}


def read_convnext(settings: Json) -> dict[str, Any]:
    """Return arguments of a ConvNeXt V2.

    Raises:
        ValueError: If a setting is missing or not supported.

    Example:
        >>> config = convnext.Config(image_shape=(32, 32, 3), classes=10, patch=4, widths=(8, 16), depths=(1, 2))
        >>> read_convnext(write_convnext(config))["depths"]
        (1, 2)
    """
    image = _read_image(settings)
    stem, taken = image["patch"], take(settings, _CONVNEXT)
    stages = len(taken["depths"])
    num_stages = settings.get("num_stages", stages)
    require(num_stages == stages, "num_stages in config.json", num_stages, f"{stages}, the number of depths")
    return taken | image | {"stem": stem, "patch": settings.get(PATCH, stem)}


def write_convnext(config: convnext.Config) -> dict[str, Any]:
    """Return settings of a ConvNeXt V2.

    Raises:
        ValueError: If the format has no such model.

    Example:
        >>> config = convnext.Config(image_shape=(32, 32, 3), classes=10, patch=4, widths=(8, 16), depths=(1, 2))
        >>> write_convnext(config)["hidden_sizes"]
        (8, 16)
    """
    require(config.kernel == convnext.KERNEL, "config.kernel", config.kernel, f"{convnext.KERNEL} in this format")
    height, width, channels = config.image_shape
    image = {"image_size": height if height == width else [height, width], "num_channels": channels}
    patch = {} if config.patch == config.stem else {PATCH: config.patch}
    return give(config, _CONVNEXT) | {"num_stages": len(config.depths), "patch_size": config.stem} | image | patch
