"""How sensitive are a transformer, an MLP and convolutional networks to one patch of an image, and to their weights?

Trains every architecture on the same images, several seeds each, at the learning rate of a small grid that does best on
validation images. Then measures, on training images as the paper does, how often a prediction changes when one patch
gets Gaussian noise (token sensitivity; Vasudeva et al., Transformers Learn Low Sensitivity Functions, Def. 4.1, s.5),
and how much the outputs change when the weights do (sharpness, s.7.2). Decides claim C1, that a transformer is less
sensitive than an MLP and a CNN, and C13, that training with the sensitivity regularizer flattens the minimum.

    python -m experiments.vision --preset laptop                       # UCI digits, no download
    python -m experiments.vision --preset laptop --dataset fashion_mnist --data-dir DIR
    python -m experiments.vision --preset paper --dataset cifar10 --data-dir DIR
    python -m experiments.vision --preset controlled --data-dir DIR    # CIFAR-10, five seeds, one grid, equal accuracy
    python -m experiments.vision --preset imagenet --weights VIT,CONVNEXT --image-folder DIR    # no training

Leaves architectures.csv (the table that is printed), models.csv (a row for each trained model), training.csv (curves),
differences.csv (between architectures, paired), comparison.csv, four figures and manifest.json in the folder ``--out``.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.images.bench import Bench
from experiments.images.data import load
from experiments.vision import pretrained, report
from experiments.vision.config import PRESETS, Config
from experiments.vision.measure import Curves, measure_fixed, train_and_measure
from jaxsens.data.images import ImageData

__all__ = ["EXPERIMENT", "execute"]


def execute(config: Config, out: Path, data: ImageData | None = None, models: Mapping[str, Any] | None = None) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Your images in place of ``config.dataset``; set ``patch`` and ``variance`` in ``config`` then.
        models: Your models by name, in addition to ``config.architectures``: a Linen module, which is trained like
            these, or ``(apply, variables)``, which is measured without training; see `experiments.images.bench.Bench`.

    Raises:
        ValueError: If data or models do not fit the settings, or ``out`` holds a run with others.
    """
    if config.pretrained:
        if data is not None or models:
            raise ValueError("pretrained = True reads weights and image_folder: give no data and no models")
        return pretrained.execute(config, out)
    bench = Bench(config, load(config, data), models or {})
    names = (*config.names, *bench.given)
    bench.require_built(names)
    with harness.Run.open(out, config, experiment="vision", trains=True) as run:
        train = partial(train_and_measure, Curves(run, bench))
        results = bench.results(run, names, train, partial(measure_fixed, bench))
        report.write(run, config, bench.data, results)
    return out


EXPERIMENT = harness.Experiment("vision", PRESETS, execute, __doc__, out_fields=("dataset",))
