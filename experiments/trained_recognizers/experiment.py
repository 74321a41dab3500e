"""Which languages do transformers learn, and what does training do to their sensitivity?

Trains many small transformers at once by the recipe of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions, F.2: First, Majority and Parity, sparse majorities and parities, and languages
with random labels (after Bhattamishra et al. 2023). Decides claims C23, which of them are learned and whether the
sensitivities of trained models lie where those of the language do (Figs. 5 to 7), and C24, that models stay insensitive
when they are trained on random labels (Fig. 3, right).

    python -m experiments.trained_recognizers --preset laptop
    python -m experiments.trained_recognizers --preset paper --rows 128 --at-once 16    # on an accelerator

A model learned a language perfectly if all test strings are right. Those of random languages are tested on the strings
that they learned, and called fitted if .99 of them are right. Model number k has the same architecture, learning rate,
batch size and first weights in every language, so that languages differ in nothing else. How many epochs there are at
most, and on how many strings sensitivity is measured, F.2 does not say: these are fields. A model that has not learned,
but whose loss was still falling when the epochs ran out, decides nothing.

The preset ``laptop`` is smaller than F.2 in all: N = 20 (random labels 40), 2 layers, widths 16 and 32, 4000 training
strings and up to 80 epochs (100 random labels, passed over ten times an epoch, and 60), batches of 32 to 128, m = 3, 5
and 10; a model also stops at a validation loss of .001. Random labels are learned from uniform weights too, with the
same sizes, rates, batches and strings.

It took 49 minutes on two CPU cores, of which other runs and tests had more than half; 7 % of it compiling. With seed
0, 36 models of each language: First was learned perfectly by 33 and with one wrong string of 500 by the other 3 (two
of which stopped at .001), with sensitivity 1 on .9983 [.9873, .9998] of the strings; all 16 of width 16 were perfect,
with sensitivity 1 on every string. Majority was learned perfectly by 19 (9 more were still training), right on 99 % by
28, whose shares of sensitivity 0 and of 10 or 11 are .619 [.612, .626] and .367 [.359, .375] (the language itself on
these 256 strings: an average of 3.95 bits, as the models' 3.93 [3.88, 3.98], and 3.52 over all strings). Parity was
learned by none (0 [0, .097]). Of six models each, sparse majorities of 3 and 5 bits were learned by all, of 10 bits by
2 to 4; sparse parities of 3 bits by 2, of 5 and 10 bits by none. On random labels 4 of 12 Xavier normal models fitted
.99 of their strings, and 8 of 12 uniform ones: Xavier did not help (-.127 [-.210, -.043] of the strings). Those that
fitted have an average sensitivity of .124 [.052, .267] and .119 [.096, .148] of the bits, where random functions have
.5 and the untrained models .01; those that did not have .117 [.089, .152] and .11 [.00, .93]: they do not cluster
around 0.

Leaves models.csv (a row for each model), languages.csv (the table that is printed), spectra.csv, checkpoints.csv (every
model during training), curves.csv (their means), rates.csv (learned or not by learning rate), comparison.csv, figures
and manifest.json in the folder ``--out``.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments import harness
from experiments.trained_recognizers import measure as measuring
from experiments.trained_recognizers import report
from experiments.trained_recognizers.config import PRESETS, SPLITS, Config, Examples, Group, examples, groups, profiled
from experiments.trained_recognizers.estimates import UNSEEN, Result
from jaxsens import training
from jaxsens.models import recognizers
from jaxsens.training import ManyConfig, Members
from jaxsens.typing import PyTree

NONFINITE_ALLOWED = ("loss", "accuracy", "learning_rate", "log_blow_up_before", "log_blow_up")
"""What may be NaN in a unit: histories are, after a model's last epoch."""


def train_and_measure(run: harness.Run, config: Config, group: Group) -> dict[str, Any]:
    """Train the models of a group together, measure them before, during and after it; everything is ``[m ...]``."""
    architecture = group.sizes.config(config.epsilon)
    first = training.stack(
        [recognizers.init(architecture, config.key("weights", m.number), m.kind.scheme) for m in group.models]
    )
    length = group.models[0].kind.n
    probes = profiled(config, length)
    watching = probes[: config.checkpoint_strings]
    curve = config.curve(group.random)
    during = np.full((len(curve), len(group.models), len(watching)), UNSEEN, np.int16)
    seen = set()

    def follow(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        if epoch in curve:
            keep(epoch, run.unit(f"{group.name}-epoch{epoch}", partial(measured, present, variables)))

    def measured(present: np.ndarray, variables: PyTree) -> dict[str, Any]:
        return {"present": present, "sensitivities": _profiles(architecture, variables, watching)}

    def keep(epoch: int, found: dict[str, np.ndarray]) -> None:
        seen.add(epoch)
        during[curve.index(epoch), found["present"]] = found["sensitivities"]

    data = stacked_examples(config, group)
    trained = train(config, group, first, data, follow, checkpoint_folder(run, group))
    for epoch in curve:
        if epoch not in seen and ((trained.epochs >= epoch) & ~_diverged_at(trained, epoch)).any():
            keep(epoch, run.unit(f"{group.name}-epoch{epoch}", partial(_lost, group, epoch)))

    tested, labels = (part[group.datasets] for part in data["test"])
    before, after = (measuring.evaluate(architecture, v, tested, labels) for v in (first, trained.variables))
    points = np.array(curve) - 1
    return {
        "status": trained.status, "epochs": trained.epochs, "best_epoch": trained.best_epoch,
        **{name: trained.history[name][:, points] for name in ("loss", "accuracy", "learning_rate")},
        "correct_before": before.correct, "correct": after.correct,
        "log_blow_up_before": before.log_blow_up, "log_blow_up": after.log_blow_up,
        "norm_before": before.norm, "norm": after.norm,
        "sensitivities_before": _profiles(architecture, first, probes),
        "sensitivities": _profiles(architecture, trained.variables, probes),
        "sensitivities_during": during.swapaxes(0, 1),
    }  # fmt: skip


def train(
    config: Config, group: Group, first: PyTree, data: Mapping[str, Examples], after_epoch: Any = None,
    checkpoint: Path | None = None,
) -> training.Trained:  # fmt: skip
    """Train the models of a group from their first weights, stacked ``[m ...]``; see ``training.fit_many``."""
    members = Members(
        learning_rate=np.array([m.learning_rate for m in group.models]),
        batch=np.array([m.batch for m in group.models]),
        dataset=np.array(group.datasets),
    )
    how = ManyConfig(
        epochs=config.random_epochs if group.random else config.epochs, lr_patience=config.halve_after,
        patience=config.stop_after, target_loss=config.enough_loss, rows=config.rows, models_per_device=config.at_once,
        checkpoint_every=config.checkpoint_every,
    )  # fmt: skip
    return training.fit_many(
        config.key("order", group.sizes.layers, *group.sizes.shape, int(group.random)),
        recognizers.training_evaluation(group.sizes.config(config.epsilon)), first, members, data["training"], how,
        validation=data["validation"], after_epoch=after_epoch, checkpoint=checkpoint, progress=group.name,
    )  # fmt: skip


def stacked_examples(config: Config, group: Group) -> dict[str, Examples]:
    """Return the examples ``[s count n]`` and labels ``[s count]`` of a group's languages, for every purpose."""
    each = [examples(config, kind, number) for kind, number in group.languages]
    return {name: tuple(np.stack(part) for part in zip(*(e[name] for e in each), strict=True)) for name in SPLITS}


def checkpoint_folder(run: harness.Run, group: Group) -> Path:
    """Return where the weights of a group are kept while it is trained."""
    return run.folder / "checkpoints" / group.name


def _profiles(architecture: recognizers.Config, stacked: PyTree, probes: np.ndarray) -> np.ndarray:
    """Return the sensitivities of stacked models, one after the other: all share one program."""
    count = len(jax.tree.leaves(stacked)[0])
    each = (jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(count))
    return np.stack([measuring.sensitivities(architecture, variables, probes) for variables in each])


def _diverged_at(trained: training.Trained, epoch: int) -> np.ndarray:
    return (trained.status == training.many.DIVERGED) & (trained.epochs == epoch)


def _lost(group: Group, epoch: int) -> dict[str, Any]:
    raise ValueError(
        f"the sensitivities at epoch {epoch} of {group.name} are gone, though training was resumed after it: delete "
        f"the folder checkpoints/{group.name} of the run to train it again"
    )


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    every = list(groups(config))
    with harness.Run.open(out, config, experiment="trained_recognizers") as run:
        run.record(estimators_precision="highest")
        results = []
        with tqdm(desc="all models", total=sum(len(g.models) for g in every), unit="model", dynamic_ncols=True) as bar:
            for group in every:
                compute = partial(train_and_measure, run, config, group)
                found = run.unit(group.name, compute, allow_nonfinite=NONFINITE_ALLOWED)
                run.discard(checkpoint_folder(run, group))
                results += [Result.of(m, found, i) for i, m in enumerate(group.models)]
                bar.update(len(group.models))
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("trained_recognizers", PRESETS, execute, __doc__, every_core=True)
