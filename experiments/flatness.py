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

Leaves models.csv and treatments.csv (every measure), differences.csv (regularised minus plain), correlations.csv,
spectra.csv, comparison.csv, three figures and manifest.json in the folder ``--out``.
"""

from functools import partial
from pathlib import Path

from tqdm import tqdm

from experiments import flatness_report, image_training
from experiments.flatness_measuring import measure
from experiments.flatness_setting import PRESETS, Config
from experiments.image_setting import Data, load
from experiments.image_training import best_rate, build, train
from jaxsens import budget, parallel, runs
from jaxsens.typing import Array


def train_and_measure(
    run: runs.Run, config: Config, data: Data, treatment: str, learning_rate: float, seed: int
) -> dict[str, Array]:
    """Train one model, and measure everything."""
    name = f"{treatment}-seed{seed}"
    checkpoint = image_training.checkpoint_of(run, config, name)
    variables, losses = train(config, data, treatment, learning_rate, seed, name, checkpoint=checkpoint)
    found = measure(config, data, build(config, data, treatment), variables, name)
    return found | {"learning_rate": learning_rate, "losses": losses}


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    data = load(config)
    for treatment in config.treatments:
        build(config, data, treatment)  # what does not fit shall be said now, not in an hour
    with runs.Run.open(out, config, experiment="flatness") as run:
        image_training.require_same_images(run, config, data)
        run.record(data=data.source, budget_bytes=budget.BYTES, estimators_precision="highest")
        results: dict[str, list[dict[str, Array]]] = {}
        total = len(config.treatments) * (config.seeds + len(config.learning_rates))
        with tqdm(desc="all models", total=total, unit="model", dynamic_ncols=True) as bar:
            for treatment in config.treatments:
                best = best_rate(run, config, data, treatment, bar)
                results[treatment] = []
                for seed in range(config.seeds):
                    compute = partial(train_and_measure, run, config, data, treatment, best, seed)
                    results[treatment].append(run.unit(f"{treatment}-seed{seed}", compute))
                    bar.update()
        run.record(chunk={name: int(found[0]["chunk"]) for name, found in results.items()})
        flatness_report.write(run, config, data, results)
    return out


def main(argv: list[str] | None = None) -> Path:
    """Run the experiment from the command line, and return its folder."""
    command = runs.parse("flatness", PRESETS, argv, out_fields=("dataset",), description=__doc__)
    parallel.use_every_core()
    runs.enable_compilation_cache()
    return execute(command.config, command.out)


if __name__ == "__main__":
    print(f"\nresults in {main()}")
