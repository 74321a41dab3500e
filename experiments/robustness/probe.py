"""Linear probes of a trained model on a second data set: its last layer is fitted anew, all others stay as they are."""

import dataclasses
from typing import Any

import numpy as np

from experiments import harness
from experiments.harness.inputs import fingerprint
from experiments.images.bench import Bench, logits
from experiments.robustness.config import Config
from experiments.robustness.tokens import Tokens
from jaxsens import corruptions, models
from jaxsens.data import images
from jaxsens.data.images import ImageData
from jaxsens.execution import Execution
from jaxsens.typing import Array, Key, PyTree

__all__ = ["Second", "head_of", "in_shape", "load", "measure", "record", "require_probes", "ridge", "with_head"]

HEADS = ("head", "classifier")
"""Names of the last layer of a model."""

STRENGTHS = tuple(10.0**power for power in range(-6, 2))
"""Ridge penalties that are tried, relative to the mean variance of the features."""

HELD_OUT = 0.2
"""Share of the training images by which the penalty is chosen."""


@dataclasses.dataclass(frozen=True, eq=False)
class Second:
    """A second data set, in the shape of the first.

    Attributes:
        name: Its name.
        source: Where the images came from.
        classes: Number of classes.
        train: Images uint8 ``[n h w c]`` and labels ``[n]``.
        test: The same.
    """

    name: str
    source: str
    classes: int
    train: tuple[Array, Array]
    test: tuple[Array, Array]


def load(config: Config, image_shape: tuple[int, int, int], data: ImageData | None = None) -> Second | None:
    """Load the images of ``config.second_dataset`` in the shape of those that models are trained on; None if none.

    Raises:
        ValueError: If it is not there, its images are larger, or there are the user's images and no name of them.
    """
    if config.second_dataset is None:
        if data is not None:
            raise ValueError("second_dataset = None: set it in the configuration to a name for your own images")
        return None
    if data is None:
        data = images.load(config.second_dataset, data_dir=config.data_dir)

    def split(which: Array, labels: Array, count: int) -> tuple[Array, Array]:
        chosen = np.random.default_rng(config.seed).permutation(len(labels))[:count]
        return in_shape(which[chosen], image_shape), labels[chosen]

    train = split(data.train_images, data.train_labels, config.probe_examples)
    test = split(data.test_images, data.test_labels, config.corrupted)
    return Second(data.name, data.source, data.classes, train, test)


def in_shape(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return images uint8 ``[n h w c]`` with a black border up to a height and width, and gray repeated for color.

    Raises:
        ValueError: If images are larger than the shape, or in color where it is gray.
    """
    height, width, channels = pixels.shape[1:]
    if height > shape[0] or width > shape[1] or channels not in (1, shape[2]):
        raise ValueError(
            f"second_dataset has images of shape {pixels.shape[1:]}, which do not fit into {shape}, that of the first"
        )
    above, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    border = ((0, 0), (above, shape[0] - height - above), (left, shape[1] - width - left), (0, 0))
    return np.pad(np.repeat(pixels, shape[2] // channels, -1), border)


def with_head(module: Any, variables: PyTree, kernel: Array, bias: Array) -> tuple[Any, PyTree]:
    """Return a model with another last layer, ``features @ kernel [f k] + bias [k]``.

    Raises:
        ValueError: If its last layer is no dense layer with the name ``head``.
    """
    params, last = variables["params"], head_of(variables)
    if not hasattr(getattr(module, "config", None), "classes") or last is None:
        raise ValueError(
            f"second_dataset needs models whose last layer is a dense one named 'head' and whose config has 'classes', "
            f"got a {type(module).__name__}: leave out second_dataset or this model"
        )
    head = {"kernel": np.asarray(kernel, np.float32), "bias": np.asarray(bias, np.float32)}
    changed = type(module)(dataclasses.replace(module.config, classes=head["bias"].size))
    return changed, {**variables, "params": {**params, last: head}}


def head_of(variables: PyTree) -> str | None:
    """Return the name of the last layer among the parameters, or None."""
    params = variables["params"]
    return next((name for name in HEADS if set(params.get(name, ())) == {"kernel", "bias"}), None)


def ridge(features: Array, labels: Array, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel ``[f k]`` and bias ``[k]`` of the linear map of features ``[n f]`` to one-hot labels.

    Least squares with a penalty on the kernel, relative to the mean variance of the features, chosen by the accuracy on
    the last fifth of the examples; then fitted to all.
    """
    features, targets = np.asarray(features, np.float64), np.eye(classes)[np.asarray(labels)]
    kept = len(features) - round(HELD_OUT * len(features))

    def fit(count: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
        x, y = features[:count], targets[:count]
        x_mean, y_mean = x.mean(0), y.mean(0)
        covariance = (x - x_mean).T @ (x - x_mean)
        penalty = strength * max(np.trace(covariance) / len(covariance), 1e-30)
        kernel = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), (x - x_mean).T @ (y - y_mean))
        return kernel, y_mean - x_mean @ kernel

    def accuracy(strength: float) -> float:
        kernel, bias = fit(kept, strength)
        return float(((features[kept:] @ kernel + bias).argmax(1) == np.asarray(labels)[kept:]).mean())

    return fit(len(features), max(STRENGTHS, key=accuracy))


def measure(bench: Bench, second: Second | None, name: str, variables: PyTree, label: str) -> dict[str, np.ndarray]:
    """Fit a linear probe on the second data set, and measure its errors on clean and on corrupted test images.

    Returns:
        ``probe_wrong [n c s]`` and ``probe_wrong_clean [n]``; nothing without a second data set.
    """
    if second is None:
        return {}
    config, cut = bench.config, Tokens(bench.config.token)
    module = bench.module(name)
    last = head_of(variables)
    width = 1 if last is None else variables["params"][last]["kernel"].shape[0]
    inner, inner_variables = with_head(module, variables, np.eye(width), np.zeros(width))
    features = logits(models.evaluation(inner), inner_variables, np.asarray(cut(second.train[0])))
    probe, probe_variables = with_head(module, variables, *ridge(features, second.train[1], second.classes))
    errors = corruptions.corruption_error(
        models.evaluation(probe), inputs=cut, names=config.corruptions, severities=config.severities,
        constants=config.constants, execution=Execution(chunk=config.chunk, progress=f"{label}, probe"),
    )(_key(bench), probe_variables, second.test)  # fmt: skip
    return {"probe_wrong": errors.wrong, "probe_wrong_clean": errors.wrong_clean}


def _key(bench: Bench) -> Key:
    return bench.key("corruptions", 1)


def require_probes(bench: Bench, second: Second | None) -> None:
    """Raise ValueError if a model that is given trained has no last layer that is known."""
    if second is not None and (given := [name for name in bench.given if bench.fixed(name)]):
        raise ValueError(f"models {given} are functions, whose last layer is not known: leave out second_dataset")


def record(run: harness.Run, second: Second | None) -> None:
    """Keep what the probes were fitted to in the manifest, and refuse a run that was begun with other images."""
    if second is not None:
        run.record(second_dataset=second.name, second_source=second.source)
        digest = fingerprint(second.train, second.test)
        kept = run.unit("second-data", lambda: {"images": digest})
        if kept["images"] != digest:
            raise ValueError(
                f"the run in {run.folder} was begun with other images of {second.name}: give those, or another --out"
            )
