"""Does training leave transformers with less sensitive functions than LSTMs, and do they resist label noise for it?

Two experiments of Bhattamishra et al. 2023 (Simplicity Bias in Transformers and their Ability to Learn Sparse Boolean
Functions, arXiv 2211.12316), transformers beside LSTMs of as many parameters:

*Sparse parities with label noise.* The label is the parity of ``relevant`` bits of ``length``, flipped with a
probability of 0 to 20 %. Published, for 4 of 40 bits: with 30,000 strings transformers generalise (their training
accuracy tends to 1 - noise, that on clean strings to 1), LSTMs overfit; 1,000 strings overfit, 2,500 suffice. Each seed
has bits, strings, noise and weights of its own; both kinds, all noise levels and all learning rates share them. The
learning rate of a kind and noise level is the one with the best mean accuracy on clean held-out strings; what is then
reported as test accuracy is from strings that had no part in that. Overfitting is the accuracy on the training labels
less the one expected on fresh labels of the same noise.

*Random labels.* Strings with fair labels, trained until none is wrong; published are normalised average sensitivities
of about .27 for LSTMs and .16 for transformers. Only models that got there count, and how many did not is said.

    python -m experiments.simplicity_bias --preset laptop
    python -m experiments.simplicity_bias --preset paper --rows 500 --at-once 32    # on an accelerator

What the paper leaves open is a field: steps, the grid of learning rates, initialisation, the place of normalisation.
``laptop`` is smaller throughout: parities of 2 of 40 bits, 4,000 strings, three seeds, the published learning rate
alone (with 3e-3 transformers learned less in trials), batches of 32, width 16, normalisation first; random labels of
250 strings of 40 bits in six sets, one model each.

``laptop`` took 26 minutes on two CPU cores, of which other runs had more than half; 6 % of it compiling. With seed 0
and label noise of 5 and 10 % all three transformers generalise (clean test accuracy 1.0000 [.9971, 1.0000], training
accuracies .951 and .904, sensitivity .050, the parity's own), the LSTMs do not (.59 and .58, sensitivity .19 and .20);
without noise one transformer of three had hardly begun to learn when the steps ran out, and with 20 % none had. LSTMs
do better on their training labels than on fresh ones by .10 to .14 at every noise level (held at 0 and 10 %). On
random labels all models converged, at a normalised sensitivity of .132 [.107, .157] for transformers and .230 [.195,
.264] for LSTMs (difference -.098 [-.134, -.061] over six data sets; published about -.11 on 1,000 strings).

A unit of the run trains the models of one kind and parity together, or all those of a kind on random labels; a run that
was killed goes on from the last whole unit, with random labels from the last checkpoint.

Leaves models.csv (a row for each model on a sparse parity, with its learning rate), noise_levels.csv (the table that is
printed), curves.csv (accuracies and sensitivity during training), random_labels.csv (a row for each model), labels.csv
(means over their data sets), comparison.csv, figures and manifest.json in the folder ``--out``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from experiments import harness
from experiments.simplicity_bias import report
from experiments.simplicity_bias.config import CURVES, KINDS, PRESETS, Config
from jaxsens import boolean, substitution, training
from jaxsens.boolean import Language, languages
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines
from jaxsens.models.recognizers.initialization import Architecture
from jaxsens.training.many_models import DIVERGED
from jaxsens.typing import Apply, Array, Key, PyTree

LOST = ("training_loss", "watched_accuracy")
"""What may not be finite, as a model may diverge."""

PURPOSES = (
    "strings", "validation", "test", "probes", "weights", "order", "label_strings", "labels", "label_probes",
    "label_weights", "label_order",
)  # fmt: skip
"""What random keys are for."""


@dataclass(frozen=True)
class Task:
    """A sparse parity with its strings, and the labels to learn at every level of noise.

    Attributes:
        language: The clean labels' language.
        strings: To learn ``[c n]``.
        labels: To learn, 0 or 1, a row for each level of noise ``[s c]``; a label flipped at one is at higher ones.
        validation: Strings ``[h n]`` and clean labels ``[h]`` to choose the learning rate on.
        test: Others, that have no part in any choice.
    """

    language: Language
    strings: np.ndarray
    labels: np.ndarray
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def task(config: Config, count: int, seed: int) -> Task:
    """Draw the sparse parity of a seed; fewer strings are the first of more."""
    chosen = np.random.default_rng([config.seed, seed, 0]).permutation(config.length)[: config.relevant]
    language = languages.sparse_parity(config.length, sorted(chosen.tolist()))

    def labelled(purpose: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        strings = _strings(_key(config, purpose, seed), number, config.length)
        return strings, np.asarray(language.accept(strings), np.float32)

    strings, clean = labelled("strings", count)
    uniform = np.random.default_rng([config.seed, seed, 1]).random(count)
    labels = np.stack([np.where(uniform < noise, 1 - clean, clean) for noise in config.noises])
    held_out = [labelled(purpose, config.held_out) for purpose in ("validation", "test")]
    return Task(language, strings, labels, *held_out)


def architecture(config: Config, kind: str, length: int) -> tuple[Architecture, Apply]:
    """Return the configuration of a kind and how it is evaluated; LSTMs have as many parameters as transformers."""
    if kind == "transformer":
        return config.transformer, recognizers.training_evaluation(config.transformer)
    parameters = baselines.parameter_count(config.transformer)
    matched = baselines.matched(kind, parameters, length, config.depth)
    return matched, baselines.evaluation(matched)


def learn_parity(config: Config, kind: str, count: int, seed: int) -> dict[str, Array]:
    """Train the models of a kind on a seed's parity, at all levels of noise and learning rates, and follow them.

    Returns:
        Of the models in the order of ``Config.settings``: accuracy on the training labels, on clean validation and on
        clean test strings, and normalised sensitivity with its standard error over strings, ``[m p]`` after
        ``epochs [p]``; status, epochs done, and the last epoch's mean loss while training ``[m]``; and
        ``watched_accuracy [m epochs]``. A model that diverged keeps its last finite weights.
    """
    own, apply = architecture(config, kind, config.length)
    given = task(config, count, seed)
    members = config.settings
    noise_number = np.asarray([config.noises.index(noise) for noise, _ in members])
    start = training.stack(
        [
            recognizers.init(own, _key(config, "weights", KINDS.index(kind), seed, number), config.scheme)
            for number in noise_number
        ]
    )
    probes = _strings(_key(config, "probes", seed), config.probes, config.length)
    points = config.measured(count)
    curves = {name: np.full((len(members), len(points)), np.nan) for name in CURVES}

    def measure(member: int, variables: PyTree, point: int) -> None:
        shares = accuracies(config, apply, variables, given, given.labels[noise_number[member]])
        for name, value in zip(CURVES, (*shares, *sensitivity(config, apply, variables, probes)), strict=True):
            curves[name][member, point:] = value

    def follow(epoch: int, present: np.ndarray, variables: PyTree) -> None:
        if epoch in points:
            for place, member in enumerate(present):
                measure(int(member), _one(variables, place), int(np.searchsorted(points, epoch)))

    follow(0, np.arange(len(members)), start)
    levels = len(config.noises)
    trained = training.fit_many(
        _key(config, "order", seed),
        apply,
        start,
        training.Members(
            learning_rate=[rate for _, rate in members], batch=[config.batch] * len(members), dataset=noise_number
        ),
        (np.stack([given.strings] * levels), given.labels),
        training.ManyConfig(
            epochs=config.epochs(count), lr_patience=None, patience=None, keep="last", rows=config.rows,
            models_per_device=config.at_once,
        ),
        validation=tuple(np.stack([a] * levels) for a in given.validation),
        after_epoch=follow,
        progress=f"{kind}, parity {seed}, {count} strings",
    )  # fmt: skip
    for member in np.flatnonzero(trained.status == DIVERGED):
        measure(member, trained.member(member), int(np.searchsorted(points, trained.epochs[member])))
    return {
        "epochs": points, **curves, "status": trained.status, "epochs_done": trained.epochs,
        "watched_accuracy": trained.history["accuracy"], "training_loss": _last(trained, "training_loss"),
        "parameters": baselines.parameter_count(own),
    }  # fmt: skip


def learn_labels(config: Config, kind: str, checkpoint: Path | None = None) -> dict[str, Array]:
    """Train the models of a kind on sets of random labels until none is wrong.

    Returns:
        Of the models ``[d m]``, set by set: normalised sensitivity with its standard error over strings, before and
        after training; accuracy on the labels, status and epochs done.
    """
    own, apply = architecture(config, kind, config.label_length)
    sets, each = config.label_sets, config.label_models
    strings, labels = (np.stack(found) for found in zip(*(random_labels(config, s) for s in range(sets)), strict=True))
    start = training.stack(
        [
            recognizers.init(own, _key(config, "label_weights", KINDS.index(kind), dataset, number), config.scheme)
            for dataset in range(sets)
            for number in range(each)
        ]
    )
    dataset = np.repeat(np.arange(sets), each)
    probes = [_strings(_key(config, "label_probes", s), config.probes, config.label_length) for s in range(sets)]
    trained = training.fit_many(
        _key(config, "label_order", KINDS.index(kind)),
        apply,
        start,
        training.Members(
            learning_rate=config.label_rates_by_model * sets, batch=[config.label_batch] * len(dataset), dataset=dataset
        ),
        (strings, labels),
        training.ManyConfig(
            epochs=config.label_epochs, lr_patience=None, patience=None, target_accuracy=1.0, keep="last",
            rows=config.rows, models_per_device=config.at_once, checkpoint_every=config.checkpoint_every,
        ),
        validation=(strings, labels),
        checkpoint=checkpoint,
        progress=f"{kind}, random labels",
    )  # fmt: skip
    found = {"status": trained.status, "epochs_done": trained.epochs, "accuracy": _last(trained, "accuracy")}
    for name, variables in (("untrained", start), ("trained", trained.variables)):
        pairs = [
            sensitivity(config, apply, _one(variables, place), probes[number]) for place, number in enumerate(dataset)
        ]
        found |= {f"{name}_sensitivity": np.asarray(pairs)[:, 0], f"{name}_sem": np.asarray(pairs)[:, 1]}
    found = {name: np.reshape(values, (sets, each)) for name, values in found.items()}
    return found | {"parameters": baselines.parameter_count(own)}


def random_labels(config: Config, dataset: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the strings of a set and their fair labels, 0 or 1."""
    strings = _strings(_key(config, "label_strings", dataset), config.label_strings, config.label_length)
    fair = jax.random.bernoulli(_key(config, "labels", dataset), 0.5, (len(strings),))
    return strings, np.asarray(fair, np.float32)


def _one(variables: PyTree, place: int) -> PyTree:
    return jax.tree.map(lambda a: a[place], variables)


def _last(trained: training.Trained, name: str) -> np.ndarray:
    """Return the last entry of the members' histories ``[m]``."""
    return trained.history[name][np.arange(len(trained.epochs)), trained.epochs - 1]


def sensitivity(config: Config, apply: Apply, variables: PyTree, probes: np.ndarray) -> tuple[float, float]:
    """Return the normalised average sensitivity of a model, in [0, 1], and its standard error over ``probes [b n]``.

    ``mean of s(x) / n``: the share of single-bit flips that turn the decision. A single string has no error: 0.
    """
    measure = boolean.sensitivity_profile(
        substitution.one_at_a_time(apply), execution=Execution(chunk=max(config.rows, probes.shape[1] + 1))
    )
    found = measure(jax.random.key(0), variables, probes).normalised_average  # the key is for an audit; there is none
    return float(found.mean), float(found.sem) if len(probes) > 1 else 0.0


@dataclass(frozen=True)
class _Logit:
    apply: Apply

    def __call__(self, string: Array, variables: PyTree) -> Array:
        with jax.default_matmul_precision("highest"):
            return self.apply(variables, string[None])[0]


def accuracies(
    config: Config, apply: Apply, variables: PyTree, given: Task, labels: np.ndarray
) -> tuple[float, float, float]:
    """Return on what share of the training labels ``[c]``, of the validation and of the test labels a model is right.

    It accepts a string where its logit is above 0.
    """
    pairs = ((given.strings, labels), given.validation, given.test)
    strings = np.concatenate([strings for strings, _ in pairs])  # together, so that one program does for all
    accepted = parallel.map_items(_Logit(apply), strings, variables, execution=Execution(chunk=config.rows)) > 0
    ends = np.cumsum([len(labels) for _, labels in pairs])[:-1]
    parts = np.split(accepted, ends)
    return tuple(float(np.mean(part == (labels > 0.5))) for part, (_, labels) in zip(parts, pairs, strict=True))


def _strings(key: Key, count: int, length: int) -> np.ndarray:
    return np.asarray(boolean.strings.uniform(key, count, length), np.uint8)


def _key(config: Config, purpose: str, *numbers: int) -> Key:
    key = jax.random.fold_in(jax.random.key(config.seed), PURPOSES.index(purpose))
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    parities = [
        ("parity", kind, count, seed) for count in config.counts for kind in KINDS for seed in range(config.seeds)
    ]
    results: dict[tuple[str | int, ...], Mapping[str, Array]] = {}
    with harness.Run.open(out, config, experiment="simplicity_bias") as run:
        run.record(matmul_precision="highest")
        with tqdm(desc="all groups", total=len(parities) + len(KINDS), unit="group", dynamic_ncols=True) as bar:
            for unit in parities:
                compute = partial(learn_parity, config, *unit[1:])
                results[unit] = run.unit("-".join(map(str, unit)), compute, allow_nonfinite=LOST)
                bar.update()
            for kind in KINDS:
                checkpoint = run.folder / "checkpoints"
                compute = partial(learn_labels, config, kind, checkpoint)
                results["labels", kind] = run.unit(f"labels-{kind}", compute, allow_nonfinite=["accuracy"])
                run.discard(checkpoint)
                bar.update()
        report.write(run, config, results)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("simplicity_bias", PRESETS, execute, __doc__, every_core=True)
