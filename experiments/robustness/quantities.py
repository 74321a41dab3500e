"""What ``experiments.robustness`` measures: names of columns, their meaning, and their values model by unit."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.robustness.config import Config
from jaxsens.corruptions import CorruptionError
from jaxsens.typing import Array

__all__ = ["GROUPS", "Quantity", "errors", "groups", "quantities", "values"]

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "weather": ("snow", "frost", "fog", "brightness", "spatter"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
}
"""Kinds of corruptions, as CIFAR-10-C has them."""


class Quantity(NamedTuple):
    """One measured quantity.

    Attributes:
        text: What it is, with its unit.
        rate: Whether its values are frequencies.
    """

    text: str
    rate: bool = True


def groups(config: Config) -> dict[str, list[int]]:
    """Return the places of the corruptions of each kind; kinds without one are left out."""
    places = {
        name: [i for i, one in enumerate(config.corruptions) if one in members] for name, members in GROUPS.items()
    }
    places["not_noise"] = [i for i in range(len(config.corruptions)) if i not in places["noise"]]
    return {name: of_kind for name, of_kind in places.items() if of_kind}


def quantities(config: Config) -> dict[str, Quantity]:
    """Return all quantities by name."""
    by_name = {
        "train_error": Quantity("error on training images"),
        "test_error": Quantity("error on test images"),
        "sensitivity": Quantity("token sensitivity, fraction of predictions changed"),
        "corruption_error": Quantity("error on corrupted images, mean over corruptions and severities"),
    }
    by_name |= {f"error_severity_{s}": Quantity(f"error on corrupted images, severity {s}") for s in config.severities}
    by_name |= {
        f"error_{name}": Quantity(f"error on corrupted images, {'all but noise' if name == 'not_noise' else name}")
        for name in groups(config)
    }
    if config.second_dataset is not None:
        text = f"error of linear probes on {config.second_dataset}"
        by_name |= {"probe_error": Quantity(text), "probe_corruption_error": Quantity(f"{text}, corrupted")}
    return by_name | {
        "degradation": Quantity("error on corrupted images minus that on the same images as they are", rate=False),
        "output_sharpness": Quantity("output sharpness, sum over logits of |change|", rate=False),
        "relative_output_sharpness": Quantity("output sharpness / sum of |centered logits|", rate=False),
        "prediction_sharpness": Quantity("prediction sharpness, fraction changed"),
    }


def values(config: Config, models: list[Mapping[str, Array]], name: str) -> np.ndarray:
    """Return what was measured, model by independent unit ``[seeds units]``: images, or draws of the weights."""
    if name == "relative_output_sharpness":
        scale = np.stack([model["scale"] for model in models])
        return values(config, models, "output_sharpness") / scale[:, None]
    if name in ("train_error", "test_error"):
        return 1.0 - np.stack([model[name.replace("error", "correct")] for model in models])
    if name == "degradation":
        clean = np.stack([model["wrong_clean"] for model in models])
        return values(config, models, "corruption_error") - clean
    if name == "probe_error":
        return np.stack([model["probe_wrong_clean"] for model in models]).astype(np.float64)
    if name == "probe_corruption_error":
        return np.stack([model["probe_wrong"] for model in models]).mean((2, 3), dtype=np.float64)
    if name == "corruption_error" or name.startswith("error_"):
        wrong = np.stack([model["wrong"] for model in models])
        kind = name.removeprefix("error_")
        if kind.startswith("severity_"):
            wrong = wrong[..., [config.severities.index(int(kind.removeprefix("severity_")))]]
        elif name != "corruption_error":
            wrong = wrong[:, :, groups(config)[kind]]
        return wrong.mean((2, 3), dtype=np.float64)
    stacked = np.stack([model[name] for model in models]).astype(np.float64)
    return stacked.mean(2) if name == "sensitivity" else stacked


def errors(config: Config, model: Mapping[str, Array]) -> CorruptionError:
    """Return the errors of one model on corrupted images."""
    return CorruptionError(
        model["wrong"], model["wrong_clean"], config.corruptions, config.severities, config.constants
    )
