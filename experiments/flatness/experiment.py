"""Do networks of low token sensitivity lie at flat minima?

Trains a ViT, an MLP, a CNN and a ConvMixer, each as it is and with the sensitivity regulariser, several seeds, and
measures of every model its token sensitivity and everything that is called sharpness: the rise of loss and error and
the change of outputs and predictions under noise on the weights, in their units and relative to them; worst cases in
four balls; the step of SAM; trace, top eigenvalue and spectral density of the Hessian. Decides claim C13 (Vasudeva et
al., Transformers Learn Low Sensitivity Functions, s.7.2: the regulariser flattens the minimum, one model, two
measures), also with the published code's noisy copy in training mode, and how sensitivity and sharpness go together
over models.

    python -m experiments.flatness --preset laptop                       # UCI digits, no download
    python -m experiments.flatness --preset laptop --dataset fashion_mnist --data-dir DIR
    python -m experiments.flatness --preset paper --dataset cifar10 --data-dir DIR

The first takes 15 minutes on two CPU cores beside other runs. With seed 0 the regulariser lowers the ViT's output
sharpness by .123 [.086, .160] of .850 at deviation .005, and raises the trace of its Hessian by 7.5 [.3, 14.6] of 40.3;
of the 5.99 that the published code's copy in training mode gives, 5.91 are there without noise on the weights. The
preset ``paper`` has not been run yet.

Leaves models.csv and treatments.csv (every measure), differences.csv (regularised minus plain), correlations.csv,
spectra.csv, comparison.csv, three figures and manifest.json in the folder ``--out``.
"""

from functools import partial
from pathlib import Path

from experiments import harness
from experiments.flatness import report
from experiments.flatness.config import PRESETS, Config
from experiments.flatness.measure import measure
from experiments.images import training
from experiments.images.config import Data, load
from experiments.images.training import build, train
from jaxsens.typing import Array


def train_and_measure(
    run: harness.Run, config: Config, data: Data, treatment: str, learning_rate: float, seed: int
) -> dict[str, Array]:
    """Train one model, and measure everything."""
    name = f"{treatment}-seed{seed}"
    checkpoint = training.checkpoint_of(run, config, name)
    variables, losses = train(config, data, treatment, learning_rate, seed, name, checkpoint=checkpoint)
    found = measure(config, data, build(config, data, treatment), variables, name)
    return found | {"learning_rate": learning_rate, "losses": losses}


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    data = load(config)
    training.require_built(config, data, config.treatments)
    with harness.Run.open(out, config, experiment="flatness") as run:
        compute = partial(train_and_measure, run, config, data)
        results = training.results_of(run, config, data, config.treatments, compute)
        report.write(run, config, data, results)
    return out


EXPERIMENT = harness.Experiment("flatness", PRESETS, execute, __doc__, out_fields=("dataset",), every_core=True)
