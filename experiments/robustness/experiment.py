"""Are less sensitive classifiers of images more robust to corruptions, and do two interventions make them so?

Trains every architecture plainly, with the sensitivity regularizer, with Gaussian augmentation, and with controls that
are not about noise (mixup, weight decay, dropout), several seeds each. Measures accuracy on clean test images and on
images with the corruptions of CIFAR-10-C, which are made while they are classified; token sensitivity on training
images; and sharpness. Decides claims C10 to C12 (Vasudeva et al., Transformers Learn Low Sensitivity Functions, s.7.1):
less sensitive models are more robust, and the regularizer and Gaussian augmentation lower sensitivity and raise
robustness. The rank correlation of sensitivity and robustness is also given at equal clean accuracy, and
with the errors of linear probes on a second data set (``--second-dataset fashion_mnist``).

    python -m experiments.robustness --preset smoke                       # UCI digits, no download
    python -m experiments.robustness --preset laptop --data-dir DIR       # CIFAR-10
    python -m experiments.robustness --preset paper --data-dir DIR        # CIFAR-10, the published models and rates

Leaves models.csv and treatments.csv (every measure), corruptions.csv (accuracy by corruption and severity),
differences.csv (paired over seeds), correlations.csv, comparison.csv, figures and manifest.json in ``--out``.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.images.bench import Bench
from experiments.images.data import load
from experiments.robustness import probe, report
from experiments.robustness.config import PRESETS, Config
from experiments.robustness.estimates import reference_of
from experiments.robustness.measure import measure_fixed, train_and_measure
from jaxsens.corruptions.corrupted_images import Corruption
from jaxsens.data.images import ImageData

__all__ = ["EXPERIMENT", "execute"]


def execute(
    config: Config,
    out: Path,
    data: ImageData | None = None,
    models: Mapping[str, Any] | None = None,
    second: ImageData | None = None,
) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Your images in place of ``config.dataset``; set ``patch`` and ``variance`` in ``config`` then.
        models: Your models by name, in addition to ``config.architectures``: a Linen module, which is trained in all
            ways, or ``(apply, variables)``, which is measured without training; see `experiments.images.bench.Bench`.

        second: Your images in place of ``config.second_dataset``, whose name must be set, for linear probes.

    Raises:
        ValueError: If data or models do not fit the settings, or ``out`` holds a run with others.
    """
    bench = Bench(config, load(config, data), models or {}, config.interventions)
    endings = ("", *(f"_{treatment}" for treatment in config.treatments))
    trained = [*config.architectures, *(name for name in bench.given if not bench.fixed(name))]
    names = [name + ending for name in trained for ending in endings]
    names += [name for name in bench.given if bench.fixed(name)]
    bench.require_built(names)
    reference_of(config, names)
    for corruption in config.corruptions:
        Corruption(corruption, bench.data.image_shape, config.constants)
    other = probe.load(config, bench.data.image_shape, second)
    probe.require_probes(bench, other)
    with harness.Run.open(out, config, experiment="robustness", trains=True) as run:
        probe.record(run, other)
        train = partial(train_and_measure, run, bench, other)
        results = bench.results(run, names, train, partial(measure_fixed, bench))
        report.write(run, config, bench.data, results)
    return out


EXPERIMENT = harness.Experiment("robustness", PRESETS, execute, __doc__, out_fields=("dataset",))
