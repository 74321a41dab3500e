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

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import harness
from experiments.images import training as image_training
from experiments.images.config import Data, load
from experiments.images.training import build, key_of, train
from experiments.vision import report
from experiments.vision.config import PRESETS, Config
from jaxsens import changes, models, perturb, substitution, training
from jaxsens.execution import Execution
from jaxsens.sensitivity import token
from jaxsens.sharpness import average
from jaxsens.typing import Array


def train_and_measure(
    run: harness.Run, config: Config, data: Data, architecture: str, learning_rate: float, seed: int
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
            key_of(config, "noise"), variables, data.train[0][: config.curve_examples]
        )
        accuracy = training.accuracy(apply, variables, *data.test)
        return {"sensitivity": found.per_example, "accuracy": accuracy}

    checkpoint = image_training.checkpoint_of(run, config, name)
    variables, losses = train(config, data, architecture, learning_rate, seed, name, follow, checkpoint)
    for epoch in epochs:
        if epoch not in curve:  # measured before this training was resumed
            curve[epoch] = run.unit(f"{name}-epoch{epoch}", partial(_lost, name, epoch))

    measured = data.train[0][: config.measured]
    tokens = _sensitivity(config, apply, config.draws, f"{name}: tokens")(key_of(config, "noise"), variables, measured)
    weights = average.weight_changes(
        apply, perturb.gaussian(config.deviation**2), change=_both_sharpnesses, draws=config.sharpness_draws,
        execution=Execution(chunk=config.chunk, progress=f"{name}: weights"), )(key_of(config, "weights"), variables, measured)  # fmt: skip
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
        # By it output sharpness is divided, to tell flat from merely small.
        "scale": image_training.scale_of(image_training.logits_of(apply, variables, measured)),
        "chunk": tokens.chunk,
    }


def _sensitivity(config: Config, apply: Any, draws: int, label: str | None) -> Callable[..., token.Sensitivity]:
    return token.token_sensitivity(
        substitution.one_at_a_time(apply), perturb.gaussian(config.noise), draws=draws, execution=Execution(chunk=config.chunk, progress=label),
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


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    data = load(config)
    image_training.require_built(config, data, config.architectures)
    with harness.Run.open(out, config, experiment="vision") as run:
        compute = partial(train_and_measure, run, config, data)
        results = image_training.results_of(run, config, data, config.architectures, compute)
        report.write(run, config, data, results)
    return out


EXPERIMENT = harness.Experiment("vision", PRESETS, execute, __doc__, out_fields=("dataset",))
