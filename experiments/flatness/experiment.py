"""Do networks of low token sensitivity lie at flat minima?

Trains a ViT, an MLP, a CNN and a ConvMixer, each without and with the sensitivity regularizer, several seeds. Measures
token sensitivity and every kind of sharpness of each model: the rise of loss and error and the change of outputs and
predictions under noise on the weights, absolute and relative to them; worst cases in four balls; the step of SAM;
trace, top eigenvalue and spectral density of the Hessian. Decides claim C13 (Vasudeva et al., Transformers Learn Low
Sensitivity Functions, s.7.2: the regularizer flattens the minimum; one model, two measures), also with the published
code's noisy copy in training mode, and estimates how sensitivity and sharpness correlate over models.

    python -m experiments.flatness --preset laptop                       # UCI digits, no download
    python -m experiments.flatness --preset laptop --dataset fashion_mnist --data-dir DIR
    python -m experiments.flatness --preset paper --data-dir DIR         # CIFAR-10

Leaves models.csv and treatments.csv (every measure), differences.csv (regularized minus plain), correlations.csv,
spectra.csv, comparison.csv, three figures and manifest.json in the folder ``--out``.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from experiments import harness
from experiments.flatness import report
from experiments.flatness.config import PRESETS, Config
from experiments.flatness.measure import train_and_measure
from experiments.images.bench import Bench
from experiments.images.config import REGULARIZED
from experiments.images.data import load
from jaxsens.data.images import ImageData

__all__ = ["EXPERIMENT", "execute"]


def execute(config: Config, out: Path, data: ImageData | None = None, models: Mapping[str, Any] | None = None) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``.

    Args:
        config: The settings.
        out: The folder of the run.
        data: Your images in place of ``config.dataset``; set ``patch`` and ``variance`` in ``config`` then.
        models: Your Linen modules by name, trained plain and regularized in addition to ``config.architectures``; see
            `experiments.images.bench.Bench`.

    Raises:
        ValueError: If data or models do not fit the settings, or ``out`` holds a run with others.
    """
    bench = Bench(config, load(config, data), models or {})
    if trained := [name for name in bench.given if bench.fixed(name)]:
        raise ValueError(f"models {trained} are given trained: give Linen modules, which are trained in two ways here")
    names = [name + suffix for name in (*config.architectures, *bench.given) for suffix in ("", REGULARIZED)]
    bench.require_built(names)
    with harness.Run.open(out, config, experiment="flatness", trains=True) as run:
        results = bench.results(run, names, partial(train_and_measure, run, bench))
        report.write(run, config, bench.data, results)
    return out


EXPERIMENT = harness.Experiment("flatness", PRESETS, execute, __doc__, out_fields=("dataset",), every_core=True)
