"""How sensitive are a transformer, an MLP and convolutional networks to one patch of an image, and to their weights?

Trains every architecture on the same images, several seeds each, at the learning rate of a small grid that does best on
validation images. Then measures, on training images as the paper does, how often a prediction changes when one patch
gets Gaussian noise (token sensitivity; Vasudeva et al., Transformers Learn Low Sensitivity Functions, Def. 4.1, s.5),
and how much the outputs move when the weights do (sharpness, s.7.2). Decides claim C1, that a transformer is less
sensitive than an MLP and a CNN, and C13, that training with the sensitivity regulariser flattens the minimum.

    python -m experiments.vision --preset laptop                       # UCI digits, no download
    python -m experiments.vision --preset laptop --dataset fashion_mnist --data-dir DIR
    python -m experiments.vision --preset paper --dataset cifar10 --data-dir DIR

On two CPU cores the first takes 2.5 minutes and the second 22. With seed 0 the second gave token sensitivities of .031
[.024, .041] (ViT), .037 [.029, .047] (MLP), .290 [.242, .344] (CNN) and .153 [.129, .179] (ConvMixer); the ViT minus
the CNN is -.259 [-.311, -.207], minus the MLP -.0059 [-.0148, +.0030]. The preset ``paper`` has not been run yet.

Leaves architectures.csv (the table that is printed), models.csv (a row for each trained model), training.csv (curves),
differences.csv (between architectures, paired), comparison.csv, four figures and manifest.json in the folder ``--out``.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments import vision_report
from jaxsens import budget, changes, models, parallel, perturb, runs, sensitivity, sharpness, substitution, training
from jaxsens.data import images
from jaxsens.typing import Array, Key

SETTINGS = {
    "digits": (2, 1.0),
    "mnist": (7, 1.0),
    "fashion_mnist": (4, 5.0),
    "cifar10": (4, 1.0),
    "svhn_cropped": (4, 1.0),
    "imagenet2012": (16, 15.0),
}
"""Patch and noise variance by data set: the paper's (App. D), and for the digits, and MNIST's variance, our choice."""


@dataclass(frozen=True)
class Treatment:
    """An architecture and how it is trained.

    Attributes:
        model: Its name in ``models.MODELS``.
        fields: Fields of the model's configuration to replace.
        regularised: Whether it is trained with the sensitivity regulariser.
    """

    model: str
    fields: tuple[tuple[str, Any], ...] = ()
    regularised: bool = False


TREATMENTS = {
    "vit": Treatment("vit", fields=(("normalize_patches", False),)),
    "vit_patch_norm": Treatment("vit", fields=(("normalize_patches", True),)),
    "vit_regularised": Treatment("vit", fields=(("normalize_patches", False),), regularised=True),
    "mlp": Treatment("mlp"),
    "mlp_sigmoid": Treatment("mlp_sigmoid"),
    "cnn": Treatment("cnn"),
    "convmixer": Treatment("convmixer"),
}
"""What ``--architectures`` may name. The published ViTs normalise the pixels of each patch, which takes the scale out
of the noise on it: ``vit_patch_norm`` does so, in both sizes; ``vit`` sees the same noise as all others."""


def _option(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


@dataclass(frozen=True)
class Config:
    """Settings of the experiment; the defaults are those of the preset ``laptop``."""

    dataset: str = _option("digits", f"one of {', '.join(images.NAMES)}")
    data_dir: str | None = _option(None, "folder of prepared TFDS data sets", identity=False)
    architectures: tuple[str, ...] = _option(tuple(TREATMENTS), "what to compare")
    variant: Literal["small", "paper"] = _option("small", "size of the models")
    dtype: Literal["float32", "bfloat16"] = _option("float32", "in which models compute")
    patch: int | None = _option(None, "side of a token in pixels; the data set's if none")
    variance: float | None = _option(None, "of the noise on a token; the data set's if none")
    seed: int = _option(0, "of everything")
    seeds: int = _option(3, "trained models of each architecture")
    train_examples: int = _option(6000, "training images at most, validation images among them")
    validation: float = _option(0.15, "fraction of the training images held out to choose the learning rate")
    test_examples: int = _option(2000, "test images at most")
    optimiser: Literal["sgd", "adam", "adamw"] = _option("adam", "rule of steps")
    schedule: Literal["constant", "cosine"] = _option("cosine", "of the learning rate")
    learning_rates: tuple[float, ...] = _option((0.001, 0.003), "the grid")
    epochs: int = _option(15, "passes over the training images")
    batch: int = _option(100, "images in a step")
    parts: int = _option(1, "parts of a batch, for several devices to share")
    checkpoints: bool = _option(False, "whether to save every epoch, so that a killed training resumes", identity=False)
    measured: int = _option(300, "training images whose sensitivity is measured")
    draws: int = _option(5, "noisy versions of each patch")
    curve_points: int = _option(6, "measurements during training")
    curve_examples: int = _option(100, "images of each")
    deviation: float = _option(0.02, "of the noise on the weights; the paper's is 0.005, for larger models")
    sharpness_draws: int = _option(20, "noisy versions of the weights")
    chunk: int | None = _option(256, "model forwards at once; fitted to a memory budget if none")

    def __post_init__(self) -> None:
        if self.dataset not in SETTINGS:
            raise ValueError(f"dataset must be one of {sorted(SETTINGS)}, got {self.dataset!r}")
        if not self.architectures or not set(self.architectures) <= set(TREATMENTS):
            raise ValueError(f"architectures must be some of {sorted(TREATMENTS)}, got {self.architectures}")
        if len(set(self.architectures)) < len(self.architectures):
            raise ValueError(f"architectures must differ, got {self.architectures}")
        counts = ("seeds", "train_examples", "test_examples", "epochs", "batch", "parts", "measured", "draws")
        for name in (*counts, "curve_points", "curve_examples", "sharpness_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must lie strictly between 0 and 1, got {self.validation}")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates must be positive, and at least one, got {self.learning_rates}")
        if len({f"{rate:g}" for rate in self.learning_rates}) < len(self.learning_rates):
            raise ValueError(f"learning_rates must differ within six digits, got {self.learning_rates}")
        perturb.gaussian(self.noise)
        perturb.gaussian(self.deviation**2)

    @property
    def token(self) -> int:
        """Side of a token in pixels."""
        return SETTINGS[self.dataset][0] if self.patch is None else self.patch

    @property
    def noise(self) -> float:
        """Variance of the noise on a token, in normalised pixels squared."""
        return SETTINGS[self.dataset][1] if self.variance is None else self.variance

    def training(self, learning_rate: float) -> training.Config:
        """Return how to train at a learning rate."""
        optimiser = training.Optimiser(self.optimiser, schedule=self.schedule)
        return training.Config(self.epochs, self.batch, learning_rate, optimiser, self.parts)


PRESETS = {
    "laptop": Config(),
    "smoke": Config(
        architectures=("vit", "vit_regularised", "mlp"), seeds=2, train_examples=60, test_examples=20,
        learning_rates=(0.003,), epochs=2, batch=20, measured=4, draws=2, curve_points=2, curve_examples=2,
        sharpness_draws=2,
    ),
    "paper": Config(
        variant="paper", train_examples=60_000, test_examples=10_000, optimiser="sgd", schedule="constant",
        learning_rates=(0.005, 0.02, 0.1, 0.2, 0.5), epochs=50, measured=15_000, curve_points=10, curve_examples=1500,
        deviation=0.005, chunk=None, checkpoints=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Images as tokens ``[n t d]`` in the normalised pixel space, with labels ``[n]``."""

    source: str
    image_shape: tuple[int, int, int]
    classes: int
    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]


def load(config: Config) -> Data:
    """Load the images, and cut them into training, validation and test tokens.

    Raises:
        ValueError: If the data set is not there, the patch does not divide the image, or too few images are left.
    """
    # Whole where it fits: what a run takes is then a random sample, not the first that are stored.
    limit = config.train_examples if config.dataset == "imagenet2012" else None
    found = images.load(config.dataset, data_dir=config.data_dir, limit=limit)

    def split(which: Array, labels: Array, count: int) -> tuple[Array, Array]:
        chosen = np.random.default_rng(config.seed).permutation(len(labels))[:count]
        return images.to_patches(images.normalise(which[chosen]), config.token), labels[chosen]

    tokens, labels = split(found.train_images, found.train_labels, config.train_examples)
    held_out = round(config.validation * len(labels))
    if not 0 < held_out <= len(labels) - config.batch:
        raise ValueError(
            f"train_examples must leave a batch of {config.batch} beside a fraction of {config.validation} held out, "
            f"got {len(labels)}"
        )
    return Data(
        found.source,
        found.image_shape,
        found.classes,
        (tokens[held_out:], labels[held_out:]),
        (tokens[:held_out], labels[:held_out]),
        split(found.test_images, found.test_labels, config.test_examples),
    )


def build(config: Config, data: Data, architecture: str) -> Any:
    """Return the Linen module of an architecture."""
    treatment = TREATMENTS[architecture]
    variants = models.MODELS[treatment.model].variants
    own = f"paper_{config.dataset}"
    variant = own if config.variant == "paper" and own in variants else config.variant
    if variant not in variants:
        raise ValueError(
            f"variant must be 'small' for {architecture} on {config.dataset}: there are {sorted(variants)} only"
        )
    module = models.build(
        treatment.model, variant, image_shape=data.image_shape, classes=data.classes, patch=config.token,
        dtype=config.dtype,
    )  # fmt: skip
    return type(module)(dataclasses.replace(module.config, **dict(treatment.fields)))


def train(
    config: Config,
    data: Data,
    architecture: str,
    learning_rate: float,
    seed: int,
    label: str,
    after_epoch: Callable[[int, Any], None] | None = None,
    checkpoint: Path | None = None,
) -> tuple[Any, np.ndarray]:
    """Train a model; see ``training.fit``."""
    module = build(config, data, architecture)
    key = jax.random.fold_in(_key(config, "train"), seed)
    variables = models.init(module, jax.random.fold_in(key, 0))
    if after_epoch is not None:
        after_epoch(0, variables)
    regulariser = training.NoiseConsistency(variance=config.noise) if TREATMENTS[architecture].regularised else None
    return training.fit(
        jax.random.fold_in(key, 1), models.train_apply(module), variables, *data.train, config.training(learning_rate),
        objective=regulariser, after_epoch=after_epoch, checkpoint=checkpoint, progress=label,
    )  # fmt: skip


def try_rate(config: Config, data: Data, architecture: str, learning_rate: float) -> dict[str, Any]:
    """Train the first model at a learning rate, and return its accuracy on validation images, 0 if it diverged."""
    label = f"{architecture}, rate {learning_rate:g}"
    try:
        variables, _ = train(config, data, architecture, learning_rate, seed=0, label=label)
        apply = models.evaluation(build(config, data, architecture))
        correct = training.accuracy(apply, variables, *data.validation)
    except FloatingPointError:
        return {"validation_accuracy": 0.0, "diverged": True}
    return {"validation_accuracy": correct.mean(), "diverged": False}


def train_and_measure(
    run: runs.Run, config: Config, data: Data, architecture: str, learning_rate: float, seed: int
) -> dict[str, Any]:
    """Train one model, follow its sensitivity, and measure everything at the end."""
    name = f"{architecture}-seed{seed}"
    module = build(config, data, architecture)
    apply = models.evaluation(module)
    points = np.unique(np.geomspace(1, config.epochs, max(config.curve_points - 1, 1)).round().astype(int))
    epochs = [0, *points.tolist()]
    curve: dict[int, Any] = {}

    def follow(epoch: int, variables: Any) -> None:
        if epoch in epochs:
            curve[epoch] = run.unit(f"{name}-epoch{epoch}", partial(point, variables))

    def point(variables: Any) -> dict[str, Any]:
        found = _sensitivity(config, apply, 1, None)(
            _key(config, "noise"), variables, data.train[0][: config.curve_examples]
        )
        accuracy = training.accuracy(apply, variables, *data.test)
        return {"sensitivity": found.per_example, "accuracy": accuracy}

    checkpoint = run.folder / "checkpoints" / name if config.checkpoints else None
    variables, losses = train(config, data, architecture, learning_rate, seed, name, follow, checkpoint)
    for epoch in epochs:
        if epoch not in curve:  # measured before this training was resumed
            curve[epoch] = run.unit(f"{name}-epoch{epoch}", partial(_lost, name, epoch))

    measured = data.train[0][: config.measured]
    tokens = _sensitivity(config, apply, config.draws, f"{name}: tokens")(_key(config, "noise"), variables, measured)
    weights = sharpness.weight_changes(
        apply, perturb.gaussian(config.deviation**2), change=_both_sharpnesses, draws=config.sharpness_draws,
        chunk=config.chunk, progress=f"{name}: weights",
    )(_key(config, "weights"), variables, measured)  # fmt: skip
    logits = parallel.map_items(_Logits(apply), measured, variables, chunk=min(500, len(measured)))
    return {
        "learning_rate": learning_rate,
        "parameters": models.parameter_count(variables),
        "losses": losses,
        "test_correct": training.accuracy(apply, variables, *data.test),
        "curve_epochs": np.asarray(epochs),
        "curve_sensitivity": np.stack([curve[epoch]["sensitivity"] for epoch in epochs]),
        "curve_accuracy": np.stack([curve[epoch]["accuracy"] for epoch in epochs]),
        "sensitivity": tokens.values,
        "output_sharpness": weights["output"].values,
        "prediction_sharpness": weights["prediction"].values,
        # The size of the function: by it output sharpness is divided, to tell flat from merely small.
        "scale": np.abs(logits - logits.mean(-1, keepdims=True)).sum(-1).mean(),
        "chunk": tokens.chunk,
    }


def _sensitivity(config: Config, apply: Any, draws: int, label: str | None) -> Callable[..., sensitivity.Sensitivity]:
    return sensitivity.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(config.noise), draws=draws, chunk=config.chunk,
        progress=label,
    )  # fmt: skip


def _both_sharpnesses(clean: Array, changed: Array) -> dict[str, Array]:
    return {
        "output": changes.absolute_change(clean, changed),
        "prediction": changes.prediction_change(clean, changed),
    }


def _lost(name: str, epoch: int) -> dict[str, Any]:
    raise RuntimeError(
        f"the measurement of {name} at epoch {epoch} is gone, and its training is past that; "
        f"delete the folder checkpoints/{name} of the run to train it again"
    )


@dataclass(frozen=True)
class _Logits:
    apply: Any

    def __call__(self, tokens: Array, variables: Any) -> Array:
        with jax.default_matmul_precision("highest"):
            return self.apply(variables, tokens[None])[0]


def _digest(data: Data) -> dict[str, str]:
    """Return what tells one copy of the images from another, a re-encoded one for instance."""
    digest = hashlib.sha256()
    for array in (*data.train, *data.validation, *data.test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {"sha256": digest.hexdigest()}


def _key(config: Config, purpose: str) -> Key:
    """Return the key of a purpose: all models see the same noise, so that their differences are paired."""
    return jax.random.fold_in(jax.random.key(config.seed), ("train", "noise", "weights").index(purpose))


def main(argv: list[str] | None = None) -> Path:
    """Run the experiment from the command line, and return its folder."""
    command = runs.parse("vision", PRESETS, argv, out_fields=("dataset",), description=__doc__)
    runs.enable_compilation_cache()
    return execute(command.config, command.out)


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    data = load(config)
    for architecture in config.architectures:
        build(config, data, architecture)  # what does not fit shall be said now, not in an hour
    with runs.Run.open(out, config, experiment="vision") as run:
        if run.unit("data", partial(_digest, data))["sha256"] != _digest(data)["sha256"]:
            raise ValueError(
                f"data_dir holds other images of {config.dataset} than those that the run in {out} was begun with: "
                "name that folder, or another --out"
            )
        run.record(data=data.source, budget_bytes=budget.BYTES, estimators_precision="highest")
        results: dict[str, list[dict[str, Array]]] = {}
        total = len(config.architectures) * (config.seeds + len(config.learning_rates))
        with tqdm(desc="all models", total=total, unit="model", dynamic_ncols=True) as bar:
            for architecture in config.architectures:
                accuracies = []
                for rate in config.learning_rates:
                    tried = run.unit(
                        f"{architecture}-rate{rate:g}", partial(try_rate, config, data, architecture, rate)
                    )
                    accuracies.append(float(tried["validation_accuracy"]))
                    bar.update()
                if max(accuracies) == 0:
                    raise FloatingPointError(f"{architecture} diverged at every learning rate {config.learning_rates}")
                best = config.learning_rates[int(np.argmax(accuracies))]
                results[architecture] = []
                for seed in range(config.seeds):
                    arguments = (run, config, data, architecture, best, seed)
                    name = f"{architecture}-seed{seed}"
                    results[architecture].append(run.unit(name, partial(train_and_measure, *arguments)))
                    bar.update()
        run.record(chunk={name: int(found[0]["chunk"]) for name, found in results.items()})
        vision_report.write(run, config, data, results)
    return out


if __name__ == "__main__":
    print(f"\nresults in {main()}")
