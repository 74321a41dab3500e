"""Trained models of weights on disk, compared on the images of a folder: claim C4, for the preset ``imagenet``.

Images are decoded in worker processes, batch by batch. A unit is one model on ``PART`` images.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness import Claim, cells, corrected, mean_and_interval, verdicts
from experiments.harness.inputs import fingerprint, require_same
from experiments.images.bench import parameter_count
from experiments.images.labels import dataset_label, model_label
from experiments.vision.claims import LOWER, PUBLISHED, counterpart
from experiments.vision.config import KEYS, Config
from jaxsens import models, perturb, plots, substitution, training
from jaxsens.data import images
from jaxsens.data.image_folder import ImageFolder
from jaxsens.execution import Execution
from jaxsens.models.images.convnext import ConvNeXt
from jaxsens.sensitivity import token
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["PART", "Given", "Renormalized", "execute", "load"]

PART = 1000
"""Images of a unit."""


@dataclass(frozen=True)
class Renormalized:
    """A model of pixels ``(x - mean) / deviation``, x in [0, 1], as a function of tokens ``2 x - 1``.

    Attributes:
        apply: The model, a function of patches ``[b t d]``.
        mean: Of each channel.
        deviation: Of each channel.
    """

    apply: Apply
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, variables: PyTree, tokens: Array) -> Array:
        """Return the logits ``[b k]``."""
        pixels = tokens.reshape(*tokens.shape[:-1], -1, len(self.mean)) / 2 + 0.5
        channels = (*[1] * (pixels.ndim - 1), len(self.mean))
        mean, deviation = (np.float32(one).reshape(channels) for one in (self.mean, self.deviation))
        pixels = (pixels - mean) / deviation
        return self.apply(variables, pixels.reshape(tokens.shape))


@dataclass(frozen=True, eq=False)
class Given:
    """A model read from disk.

    Attributes:
        apply: A function of tokens in the normalized pixel space of ``jaxsens.data.images``.
        variables: Its variables.
        side: Side of its images in pixels.
        classes: Number of its classes.
    """

    apply: Apply
    variables: PyTree
    side: int
    classes: int


def execute(config: Config, out: Path) -> Path:
    """Measure the trained models of ``config.weights`` on the images of ``config.image_folder``.

    Raises:
        ValueError: If there are not as many folders of weights as names, a model is none of images with a classifier
            and its normalization, models see images of several sizes or have another number of classes than the folder.
    """
    if len(config.weights) != len(config.names) or config.image_folder is None:
        raise ValueError(
            f"weights and image_folder: give a folder of weights for each of {', '.join(config.names)}, in this order, "
            f"and the folder of class folders, got {config.weights} and {config.image_folder}"
        )
    loaded = {name: load(path, config) for name, path in zip(config.names, config.weights, strict=True)}
    sides = {model.side for model in loaded.values()}
    if len(sides) > 1:
        raise ValueError(f"weights must be of models that see images of one size, got sides {sorted(sides)}")
    folder = images.image_folder(config.image_folder, image_size=sides.pop())
    for name, model in loaded.items():
        if model.classes != folder.classes:
            raise ValueError(
                f"image_folder must have a folder for each of the {model.classes} classes of {name}, in their order, "
                f"got {folder.classes}"
            )
    chosen = folder.chosen(config.measured)
    with harness.Run.open(out, config, experiment="vision") as run:
        files = [f"{folder.files[i].parent.name}/{folder.files[i].name}" for i in chosen]
        weights = {f"weights_{name}": fingerprint(model.variables) for name, model in loaded.items()}
        require_same(run, images=fingerprint(files), **weights)
        run.record(setting=_setting(config, folder, len(chosen)), paper="the paper: 20,000 training images, both 85 %")
        results = {name: _measured(run, config, folder, chosen, name, model) for name, model in loaded.items()}
        _write(run, config, loaded, results)
    return out


def load(path: str, config: Config) -> Given:
    """Read a model of images with its normalization, ``image_mean`` and ``image_std`` of preprocessor_config.json.

    Raises:
        ValueError: If the model or its normalization cannot be read, or it has no classifier.
    """
    module, variables, _ = models.pretrained.load(path, dtype=config.dtype)
    if getattr(module.config, "classes", None) is None:
        raise ValueError(f"weights: the model in {path} has no classifier of images")
    if isinstance(module, ConvNeXt):  # outputs do not depend on what its tokens are
        module = ConvNeXt(replace(module.config, patch=config.token))
    if module.config.patch != config.token:
        raise ValueError(f"patch must be {module.config.patch}, that of the model in {path}, got {config.token}")
    file = Path(path) / "preprocessor_config.json"
    try:
        settings = json.loads(file.read_text())
        mean, deviation = (tuple(map(float, settings[name])) for name in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} must give image_mean and image_std, a number for each channel: {error}") from error
    shape = module.config.image_shape
    if len(mean) != shape[2] or len(deviation) != shape[2] or min(deviation) <= 0 or shape[0] != shape[1]:
        raise ValueError(f"{file}: image_mean {mean} and image_std {deviation} do not fit images of shape {shape}")
    apply = Renormalized(models.evaluation(module), mean, deviation)
    return Given(apply, variables, shape[0], module.config.classes)


def _measured(
    run: harness.Run, config: Config, folder: ImageFolder, chosen: np.ndarray, name: str, given: Given
) -> dict[str, np.ndarray]:
    """Return what was measured of a model, image by image."""
    parts = [
        run.unit(f"{name}-from{start}", partial(_part, config, folder, chosen, start, name, given))
        for start in range(0, len(chosen), PART)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _part(
    config: Config, folder: ImageFolder, chosen: np.ndarray, start: int, name: str, given: Given
) -> dict[str, np.ndarray]:
    """Measure ``PART`` images: whether the prediction is right, and the share of noisy patches that change it."""
    numbers = chosen[start : start + PART]
    part = replace(folder, files=tuple(folder.files[i] for i in numbers), labels=folder.labels[numbers])
    measure = token.token_sensitivity(
        substitution.one_at_a_time(given.apply), perturb.gaussian(config.noise), draws=config.draws,
        sites_drawn=config.sites_drawn, execution=Execution(chunk=config.chunk, progress=f"{name}: tokens"),
    )  # fmt: skip
    results: dict[str, list[np.ndarray]] = {"sensitivity": [], "correct": []}
    for at, pixels, labels in part.batches(config.batch, workers=config.workers):
        tokens = images.to_patches(images.normalize(pixels), config.token)
        sensitivity = measure(KEYS(config.seed, "noise"), given.variables, tokens, index=(start + at).astype(np.uint32))
        results["sensitivity"].append(sensitivity.per_example)
        results["correct"].append(training.accuracy(given.apply, given.variables, tokens, labels))
    return {key: np.concatenate(values) for key, values in results.items()}


def _write(
    run: harness.Run, config: Config, given: Mapping[str, Given], results: Mapping[str, Mapping[str, Array]]
) -> None:
    """Write tables, claims and a figure; images are the units, since both models are given."""
    levels = {
        name: {key: estimate.from_values(np.asarray(values, np.float64), rate=True) for key, values in one.items()}
        for name, one in results.items()
    }
    run.table("models", list(_rows(given, levels)))
    run.comparison(_claims(config, given, results, levels))
    published = PUBLISHED.get(config.dataset, ("", {}))[1]
    bars = {model_label(name): mean_and_interval(one["sensitivity"]) for name, one in levels.items()}
    marks = {model_label(name): [published[counterpart(name)]] for name in levels if counterpart(name) in published}
    count = next(iter(levels.values()))["sensitivity"].count
    sample = f"{count} images, noise variance {config.noise:g}"
    about = {"dataset": dataset_label(config.dataset), "sample": sample}
    run.figure("sensitivity", plots.bars_with_intervals(bars, published=marks or None, **about))
    shown = [
        {"model": model_label(name)} | {key: mean_and_interval(one) for key, one in of_name.items()}
        for name, of_name in levels.items()
    ]
    print(harness.format_table(shown, {"model": "model", "correct": "accuracy", "sensitivity": "token sensitivity"}))


def _rows(given: Mapping[str, Given], levels: Mapping[str, Mapping[str, Estimate]]) -> list[dict[str, Any]]:
    return [
        {"model": name, "parameters": parameter_count(given[name].variables)}
        | cells(one["correct"], "accuracy_")
        | cells(one["sensitivity"], "sensitivity_")
        for name, one in levels.items()
    ]


def _claims(
    config: Config,
    given: Mapping[str, Given],
    results: Mapping[str, Mapping[str, Array]],
    levels: Mapping[str, Mapping[str, Estimate]],
) -> list[Claim]:
    claim, published = PUBLISHED.get(config.dataset, ("", {}))
    place = "Vasudeva et al., s.5"
    rows = [
        Claim.of(claim, "token sensitivity", one["sensitivity"], subject=name, dataset=config.dataset,
                 published=published.get(counterpart(name)), place=place, note=f"accuracy {one['correct'].mean:.3f}")
        for name, one in levels.items()
    ]  # fmt: skip
    on_logits = {
        name: verdicts.on_logits(one["sensitivity"][None], _sites(config, given[name]) * config.draws)[0]
        for name, one in results.items()
    }
    compared = []
    for subject in (name for name in results if name.startswith("vit")):
        for reference in (name for name in results if not name.startswith("vit")):
            paired = estimate.from_values(on_logits[subject] - on_logits[reference], rate=False)
            claimed = {counterpart(subject), reference} <= set(published)
            row = Claim.of(
                claim if claimed else "", "token sensitivity, difference of logits", paired, subject=subject,
                reference=reference, dataset=config.dataset, published="transformer lower", place=place,
                note="two given models: the units are images",
            )  # fmt: skip
            compared.append((row, LOWER(paired, design=verdicts.NOT_TRAINED) if claimed else None))
    return [*rows, *corrected(compared)]


def _sites(config: Config, given: Given) -> int:
    """Return how many patches of an image get noise."""
    return (given.side // config.token) ** 2 if config.sites_drawn is None else config.sites_drawn


def _setting(config: Config, folder: ImageFolder, count: int) -> str:
    sites = "all patches" if config.sites_drawn is None else f"{config.sites_drawn} patches of each image, drawn"
    return (
        f"{count} images of {len(folder)} in a folder, from all classes in turn, shorter side {folder.resize}, center "
        f"crop {folder.image_size}; given weights; noise variance {config.noise:g} on pixels scaled to [-1, 1], on "
        f"{sites} of side {config.token}, {config.draws} draws"
    )
