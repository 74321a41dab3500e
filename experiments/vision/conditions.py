"""Sensitivity under other noise, and on other images, than the settings of a run have: options of ``vision``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.images.bench import Bench, Results
from experiments.vision.config import Config
from jaxsens import perturb, substitution
from jaxsens.data import images
from jaxsens.execution import Execution
from jaxsens.sensitivity import token
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["Condition", "Squares", "conditions", "levels", "measure"]


@dataclass(frozen=True)
class Condition:
    """What gets noise when sensitivity is measured.

    Attributes:
        variance: Variance of the noise, in normalized pixels squared.
        square: Side of the squares that get noise one at a time, in pixels; None for the whole image at once.
        images: Which images.
    """

    variance: float
    square: int | None
    images: Literal["train", "test"] = "train"

    @property
    def key(self) -> str:
        """The name under which the sensitivity of each image is kept."""
        return f"sensitivity_{self.images}_{self.square or 'whole'}_{self.variance:g}"


@dataclass(frozen=True)
class Squares:
    """A model as a function of squares of another side than that of its patches, or of the whole image as one token.

    Attributes:
        apply: The model, a function of patches ``[b t d]``.
        patch: Side of its patches in pixels.
        square: Side of the squares; None for the whole image.
        image_shape: ``(h, w, c)``.
    """

    apply: Apply
    patch: int
    square: int | None
    image_shape: tuple[int, int, int]

    def __call__(self, variables: PyTree, squares: Array) -> Array:
        """Return the logits ``[b k]`` of images cut into squares ``[b s e]``."""
        if self.square is None:
            pixels = squares.reshape(len(squares), *self.image_shape)
        else:
            pixels = images.from_patches(squares, self.square, self.image_shape)
        return self.apply(variables, images.to_patches(pixels, self.patch))

    def cut(self, tokens: Array) -> np.ndarray:
        """Return the squares of images that are cut into patches ``[b t d]``."""
        pixels = images.from_patches(np.asarray(tokens), self.patch, self.image_shape)
        if self.square is None:
            return pixels.reshape(len(pixels), 1, -1)
        return images.to_patches(pixels, self.square)


def conditions(config: Config) -> list[Condition]:
    """Return the conditions that the options of a run ask for, without that of its settings."""
    usual = Condition(config.noise, config.token)
    requested = [Condition(variance, config.token) for variance in config.variances]
    requested += [Condition(config.noise, square) for square in config.squares]
    requested += [Condition(variance, None) for variance in config.whole_variances]
    requested += [Condition(config.noise, config.token, "test")] if config.test_images else []
    return [one for one in dict.fromkeys(requested) if one != usual]


def measure(bench: Bench, apply: Apply, variables: PyTree, label: str) -> dict[str, np.ndarray]:
    """Return the sensitivity of each image ``[b]`` under every condition, by its key."""
    config, by_condition = bench.config, {}
    for condition in conditions(config):
        tokens = getattr(bench.data, condition.images)[0][: config.measured]
        model = apply
        if condition.square != config.token:
            model = Squares(apply, config.token, condition.square, bench.data.image_shape)
            tokens = model.cut(tokens)
        sensitivity = token.token_sensitivity(
            substitution.one_at_a_time(model), perturb.gaussian(condition.variance), draws=config.draws,
            execution=Execution(chunk=config.chunk, progress=f"{label}: {condition.key}"),
        )  # fmt: skip
        by_condition[condition.key] = sensitivity(bench.key("noise"), variables, tokens).per_example
    return by_condition


def levels(config: Config, results: Results) -> Mapping[str, Mapping[Condition, Estimate]]:
    """Estimate the sensitivity under every condition, that of the settings first, by architecture."""
    usual = Condition(config.noise, config.token)
    by_architecture = {}
    for name, models in results.items():
        values = {usual: np.stack([model["sensitivity"].mean(1) for model in models])}
        values |= {one: np.stack([model[one.key] for model in models]) for one in conditions(config)}
        by_architecture[name] = {
            one: estimate.over_models(of_one.astype(np.float64), rate=True) for one, of_one in values.items()
        }
    return by_architecture
