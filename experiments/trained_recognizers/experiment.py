"""Which languages do transformers learn, and what does training do to their sensitivity?

Trains many small transformers by the recipe of App. F.2 of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions: on First, Majority and Parity, on sparse majorities and parities, and on random
labels. Measures which languages are learned and the sensitivity before, during and after training (Figs. 3 right and 5
to 7; claims C23 and C24).

    python -m experiments.trained_recognizers --preset laptop
    python -m experiments.trained_recognizers --preset paper --rows 128 --models-per-device 16    # on an accelerator

Leaves models.csv (a row for each model), languages.csv (the table that is printed), spectra.csv, checkpoints.csv (every
model during training), curves.csv (their means), rates.csv (learned or not by learning rate), comparison.csv, figures
and manifest.json in the folder --out.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from experiments import harness
from experiments.trained_recognizers import report
from experiments.trained_recognizers.config import PRESETS, Config
from experiments.trained_recognizers.data import NONE, with_strings
from experiments.trained_recognizers.estimates import Result
from experiments.trained_recognizers.models import groups
from experiments.trained_recognizers.train import NONFINITE_ALLOWED, checkpoint_folder, train_and_measure
from jaxsens.typing import Array

SETTING = {
    "paper": "App. F.2: N = 100, 50 models of each language, batches of 128 to 4096, learning rates of 1e-4 to 1e-2",
    "optimizer": "Adam; the learning rate is halved without progress; the weights of the best epoch are measured",
    "pairs": "model number k has the same architecture, learning rate, batch size and first weights in every language",
    "learned": "99 % of the test strings are right; for random labels: fitted, 99 % of the training strings",
    "undecided": "a model that has not learned while its loss still fell at the last epoch decides nothing",
    "random functions": "have average sensitivity N/2",
    "intervals": "95 %, over models; over languages where a kind has several",
}


def execute(config: Config, out: Path, data: Mapping[int, Array] | None = None) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``.

    Args:
        config: What to train and measure.
        out: Folder of the run.
        data: The user's own strings ``[count n]`` of 0 and 1 by their length n, in place of random ones of that length,
            to measure sensitivity on; the first ``config.profile_strings`` are used. Their fingerprint becomes part of
            the configuration, so that a run is not continued with other strings.

    Raises:
        ValueError: If ``data`` are not such strings, or the folder holds another run.
    """
    strings = NONE
    if data is not None:
        config, strings = with_strings(config, data)
    every = list(groups(config))
    with harness.Run.open(out, config, experiment="trained_recognizers", trains=True) as run:
        run.record(estimators_precision="highest", setting=SETTING)
        results = []
        with tqdm(desc="all models", total=sum(len(g.models) for g in every), unit="model", dynamic_ncols=True) as bar:
            for group in every:
                compute = partial(train_and_measure, run, config, group, strings)
                unit = run.unit(group.name, compute, allow_nonfinite=NONFINITE_ALLOWED)
                run.discard(checkpoint_folder(run, group))
                results += [Result.of(model, unit, i) for i, model in enumerate(group.models)]
                bar.update(len(group.models))
        report.write(run, config, results, strings)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("trained_recognizers", PRESETS, execute, __doc__, every_core=True)
