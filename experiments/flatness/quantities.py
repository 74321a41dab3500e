"""The quantities by which ``experiments.flatness`` describes a model, with their units."""

from typing import NamedTuple

from experiments.flatness.config import Config
from experiments.flatness.measure import AVERAGED, RELATIVE

__all__ = ["Quantity", "all_quantities", "sharpness_measures"]


class Quantity(NamedTuple):
    """One quantity.

    Attributes:
        text: Description, with its unit.
        label: A short name for figures.
        rate: Whether its values are frequencies.
    """

    text: str
    label: str
    rate: bool = False


_UNITS = {
    "loss": ("rise of the loss (nats)", "loss"),
    "error": ("rise of the error (fraction)", "error"),
    "output": ("sum over logits of |change|", "output"),
    "prediction": ("fraction of predictions changed", "prediction"),
}


def sharpness_measures(config: Config) -> dict[str, Quantity]:
    """Return all sharpness measures by name: what token sensitivity is correlated with."""
    measures = _noise(config) | _normalized(config)
    ascent = f"{config.iterations} gradients, {config.group} images"
    for name, ball, text in (
        ("l2", "l2", f"l2 ball of {config.radius:g}"),
        ("linf", "l-infinity", f"l-infinity ball of {config.box:g}"),
        ("adaptive_l2", "adaptive l2", f"l2 ball of {config.relative_radius:g} in |weights|"),
        ("adaptive_linf", "adaptive l-infinity", f"l-infinity ball of {config.relative_box:g} in |weights|"),
    ):
        measures[f"worst_{name}"] = Quantity(
            f"largest rise of the loss (nats), {text}, {ascent}", f"worst case, {ball}"
        )
        if name.endswith("l2"):
            measures[f"one_step_{name}"] = Quantity(
                f"rise of the loss after SAM's step (nats), {text}", f"SAM's step, {ball}"
            )
    measures["trace"] = Quantity("trace of the Hessian (nats / weight^2)", "trace")
    measures["top_eigenvalue"] = Quantity("top eigenvalue of the Hessian (nats / weight^2)", "top eigenvalue")
    return measures


def _noise(config: Config) -> dict[str, Quantity]:
    noise = {f"gaussian_{d:g}": (f"weight noise of deviation {d:g}", f"noise {d:g}") for d in config.deviations}
    for name in RELATIVE:
        part = name.removeprefix("by_").replace("element", "weight")
        size = f"noise of {config.relative_deviation:g} of the {part}'s size"
        noise[name] = (size, f"{config.relative_deviation:g} of a {part}")
    return {
        f"{what}_{name}": Quantity(f"{_UNITS[what][0]}, {text}", f"{_UNITS[what][1]}, {label}", what == "prediction")
        for name, (text, label) in noise.items()
        for what in AVERAGED
    }


def _normalized(config: Config) -> dict[str, Quantity]:
    measures = {}
    for d in config.deviations:
        noise = f"weight noise of deviation {d:g}"
        measures[f"normalized_loss_gaussian_{d:g}"] = Quantity(
            f"rise of the loss of normalized logits (nats), {noise}", f"normalized loss, noise {d:g}"
        )
        measures[f"relative_output_gaussian_{d:g}"] = Quantity(
            f"|change| of outputs over their size, {noise}", f"output / size, noise {d:g}"
        )
    return measures


def all_quantities(config: Config) -> dict[str, Quantity]:
    """Return all quantities that models are described by, in the order of the tables."""
    train_mode = {
        f"train_mode_{what}_{d:g}": Quantity(
            f"{_UNITS[what][0]}, noisy copy in training mode, deviation {d:g}",
            f"{_UNITS[what][1]} in training mode, noise {d:g}",
            what == "prediction",
        )
        for d in (0.0, *config.deviations)
        for what in ("output", "prediction")
    }
    general = {
        "sensitivity": Quantity("token sensitivity (fraction of predictions changed)", "token sensitivity", True),
        "test_error": Quantity("test error (fraction)", "test error", True),
        "train_error": Quantity("training error (fraction)", "training error", True),
        "scale": Quantity("size of the function (sum of |centered logits|)", "size of the function"),
    }
    return general | sharpness_measures(config) | train_mode
