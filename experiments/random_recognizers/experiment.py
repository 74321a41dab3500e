"""How sensitive are the Boolean functions that randomly initialised transformers compute?

Draws transformers as Kövér et al. do (Understanding the Parameter Space Geometry of Transformers Encoding Boolean
Functions, F.1: 2 to 6 layers, 1 to 8 heads of 16 to 128, four initialisations), and counts for random strings of length
100 the bits that each prediction hangs on: the spectra and average sensitivities of their Fig. 3 (left) and Fig. 4.
Beside them stand LSTMs and MLPs of as many parameters, transformers that differ in what F.1 leaves open, and uniformly
random Boolean functions. Decides claims C20, that spectra pile up at 0, and C25, that a random function has a string of
sensitivity 0 with probability 1 - 1/e.

    python -m experiments.random_recognizers --preset laptop
    python -m experiments.random_recognizers --preset paper --rows none --chunk 4040    # on an accelerator

On two CPU cores, beside other work, the first takes 23 minutes, a quarter of them compiling. With seed 0, over 24
transformers, 12 LSTMs and 12 MLPs for each initialisation, on 1 to 256 strings each (a power of two for each shape,
which 1e11 operations at the middling depth allow), the shares of strings of sensitivity 0 were

    =================  ====================  ====================  ====================
    weights            transformer           LSTM                  MLP
    =================  ====================  ====================  ====================
    uniform            .545 [.354, .724]     .19 [.05, .48]        .628 [.568, .684]
    normal             .616 [.428, .774]     .09 [.02, .29]        .637 [.566, .703]
    Xavier uniform     .958 [.781, .993]     .79 [.52, .93]        .609 [.542, .672]
    Xavier normal      .951 [.786, .990]     .73 [.44, .91]        .642 [.560, .716]
    =================  ====================  ====================  ====================

0 is the commonest sensitivity of a transformer everywhere. More than half of the strings have it under Xavier; under
the other two this cannot be told, and that more than .9 have at most 5 is refuted for uniform weights (.767 [.584,
.885]). Among those with any, averages reach 28 of 100 bits. Float64 altered none of the transformers' audited
decisions, though their float32 logits are off by up to 1.5 standard deviations, but a third of the unscaled LSTMs',
which are chaotic: their spectra are those of float32. Other readings of F.1 shift the share by less than .1 where that
can be told (6 of 19 settings); 8 models each are too few for the rest. Of random functions of 12 bits .6295 [.6200,
.6389] have a string of sensitivity 0 (1 - 1/e = .632).

Leaves models.csv (a row for each model), spectra.csv, schemes.csv (the table that is printed), choices.csv (what F.1
leaves open), control.csv (random functions), comparison.csv, four figures and manifest.json in the folder ``--out``.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.harness import option
from experiments.random_recognizers import report
from jaxsens import boolean, substitution
from jaxsens.execution import Execution, memory
from jaxsens.models import recognizers
from jaxsens.models.recognizers import baselines as recognizer_baselines
from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers import sizes as recognizer_sizes
from jaxsens.models.recognizers.sizes import Sizes
from jaxsens.models.substitution import recognizers as recognizer_substitution
from jaxsens.typing import Array, Key, PyTree, Substitute

TRANSFORMERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "transformer": ({}, {}),
    "default": ({}, {}),
    "unscaled": ({"scaled": False}, {}),
    "norm_first": ({"norm_first": True}, {}),
    "paper_block": ({"block": "paper"}, {}),
    "zero_biases": ({}, {"biases": "zero"}),
    "drawn_gains": ({}, {"gains": "scheme"}),
    "drawn_embedding": ({}, {"embedding": "scheme"}),
}
"""Kinds of transformer by what they change: fields of the configuration, and arguments of the initialisation.

From ``default`` on they read differently what F.1 leaves open, all on the same architectures.
"""

BASELINES = ("lstm", "mlp")

SCREENING = ("total", "redone", "audited", "disagreed")
"""What is kept of screening a model, in this order: decisions, of which asked again, of the others asked, and wrong."""

PLAIN_AUDIT = 1e11
"""Floating-point operations of a string up to which the audit evaluates it plainly, all its flips one by one."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure; every field is also a flag."""

    seed: int = option(0, "of everything")
    schemes: tuple[str, ...] = option(
        ("uniform", "normal", "xavier_uniform", "xavier_normal"),
        f"initialisations, of {', '.join(initialization.SCHEMES)}",
    )
    length: int = option(100, "bits of a string")
    datasets: int = option(10, "sets of strings")
    strings: int = option(10_000, "strings of a set, at most")
    models: int = option(50, "transformers for each initialisation and set")
    operations: float | None = option(None, "floating-point operations that a model's strings may cost; none: no limit")
    baselines: int = option(50, "LSTMs and MLPs for each initialisation and set")
    choices: int = option(50, "transformers of each other reading of F.1, for each initialisation and set")
    choice_width: int = option(1024, "their largest width")
    audit: int = option(10, "strings of a model that are evaluated again in float64")
    layers: tuple[int, ...] = option((2, 3, 4, 5, 6), "drawn from")
    heads: tuple[int, ...] = option((1, 2, 4, 8), "drawn from")
    head_sizes: tuple[int, ...] = option((16, 32, 64, 128), "drawn from")
    multipliers: tuple[int, ...] = option((2, 4, 8), "drawn from")
    epsilon: float = option(1e-5, "of layer normalisation")
    control_lengths: tuple[int, ...] = option((1, 2, 3, 4, 6, 8, 10, 12, 14, 16), "of random functions")
    control_functions: int = option(10_000, "random functions of each length beyond 4")
    rows: int | None = option(4, "substitutions in a block; none on an accelerator", identity=False)
    chunk: int | None = option(101, "model forwards at once; fitted to a memory budget if none", identity=False)
    screened: bool = option(
        False, "low precision first, float32 where it cannot decide: for accelerators; float64 audits the first strings"
    )

    def __post_init__(self) -> None:
        for name in ("length", "datasets", "strings", "models", "control_functions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("baselines", "choices", "audit"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.schemes or not set(self.schemes) <= set(initialization.SCHEMES):
            raise ValueError(f"schemes must be some of {sorted(initialization.SCHEMES)}, got {self.schemes}")
        if self.operations is not None and self.operations <= 0:
            raise ValueError(f"operations must be positive, or none for no limit, got {self.operations}")
        if not self.control_lengths or not 1 <= min(self.control_lengths) <= max(self.control_lengths) <= 20:
            raise ValueError(f"control_lengths must lie between 1 and 20, got {self.control_lengths}")
        for sizes in itertools.product(self.layers, self.heads, self.head_sizes, self.multipliers):
            Sizes(*sizes).config(self.epsilon)
        for name in ("layers", "heads", "head_sizes", "multipliers"):
            if not getattr(self, name):
                raise ValueError(f"{name} must hold something to draw from, got ()")
        if min(self.layers) < 2:
            raise ValueError(
                f"layers must be at least 2, where a layer can be shared and another folded, got {self.layers}"
            )


PRESETS = {
    "laptop": Config(
        datasets=1, models=24, strings=256, operations=1e11, baselines=12, choices=8, choice_width=128, audit=1,
        control_lengths=(1, 2, 3, 4, 6, 8, 10, 12),
    ),
    "smoke": Config(
        schemes=("uniform", "xavier_normal"), length=12, datasets=1, models=3, strings=16, baselines=2, choices=1,
        audit=2, layers=(2, 3), heads=(1, 2), head_sizes=(4,), multipliers=(2,), control_lengths=(2, 4, 6),
        control_functions=50, chunk=52,
    ),
    "paper": Config(),
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """One model to measure: what it is, how it is initialised, and on which strings."""

    kind: str
    scheme: str
    dataset: int
    number: int
    architecture: Sizes

    @property
    def name(self) -> str:
        """The name of its unit."""
        return f"{self.kind}-{self.scheme}-set{self.dataset}-{self.number}"


def models(config: Config) -> list[Model]:
    """Return all models, those that share a program next to each other.

    Initialisations, and other readings of F.1, see the same architectures: their differences are paired.
    """
    found = []
    for dataset in range(config.datasets):
        drawn = list(itertools.islice(_sizes(config, dataset), config.models))
        narrow = (a for a in _sizes(config, dataset) if a.width <= config.choice_width)
        narrow = list(itertools.islice(narrow, config.choices)) if config.choices else []
        groups = {"transformer": drawn} | dict.fromkeys(BASELINES, drawn[: config.baselines])
        groups |= {kind: narrow for kind in TRANSFORMERS if kind != "transformer"}
        found += [
            Model(kind, scheme, dataset, number, architecture)
            for kind, architectures in groups.items()
            for scheme in config.schemes
            if _differs(kind, scheme)
            for number, architecture in enumerate(architectures)
        ]
    return sorted(found, key=lambda model: (model.kind in BASELINES, model.kind, *model.architecture.shape))


def _differs(kind: str, scheme: str) -> bool:
    """Return whether a reading of F.1 is not the default itself under an initialisation."""
    if kind in ("zero_biases", "drawn_gains"):
        return not scheme.startswith("xavier")
    return kind != "drawn_embedding" or scheme != "normal"


def _sizes(config: Config, dataset: int) -> Iterator[Sizes]:
    return recognizer_sizes.drawn(
        np.random.default_rng([config.seed, dataset]),
        layers=config.layers,
        heads=config.heads,
        head_sizes=config.head_sizes,
        multipliers=config.multipliers,
    )


@dataclass(frozen=True)
class Ready:
    """A model that is ready to be measured.

    Attributes:
        substitute: How its single-bit flips are evaluated.
        reference: How the audit evaluates them.
        variables: Its weights.
        parameters: How many they are, without padding.
        cost: Floating-point operations that a string takes.
    """

    substitute: Substitute
    reference: Substitute
    variables: PyTree
    parameters: int
    cost: int


def prepare(config: Config, model: Model) -> Ready:
    """Draw the weights of a model."""
    key = _key(config, "weights", model.dataset, model.number)
    fields, arguments = TRANSFORMERS.get(model.kind, ({}, {}))
    own = model.architecture.config(config.epsilon, **fields)
    parameters = recognizer_baselines.parameter_count(own)
    if model.kind in BASELINES:
        matched = recognizer_baselines.matched(model.kind, parameters, config.length)
        parameters = recognizer_baselines.parameter_count(matched)
        steps = config.length + 1 if model.kind == "lstm" else 1
        plain = substitution.one_at_a_time(recognizer_baselines.evaluation(matched))
        variables = recognizers.init(matched, key, model.scheme)
        return Ready(plain, plain, variables, parameters, 2 * parameters * steps * (config.length + 1))
    deepest = dataclasses.replace(own, depth=max(config.layers))
    variables = recognizers.at_depth(recognizers.init(own, key, model.scheme, **arguments), deepest.depth)
    # The cost is that of a middling depth, as strings of one number share a program of all depths.
    middle = sorted(config.layers)[len(config.layers) // 2]
    plain_cost, cost = recognizer_substitution.operations(own, middle, config.length)
    shared = recognizer_substitution.substitute(deepest, config.rows)
    # The audit is independent, and compiled sooner, where it is plain; where that would cost too much it is not.
    plain = substitution.one_at_a_time(recognizers.evaluation(deepest), config.rows)
    return Ready(shared, plain if plain_cost < PLAIN_AUDIT else shared, variables, parameters, cost)


def strings_for(config: Config, cost: int) -> int:
    """Return how many strings a model is measured on: a power of two that its cost allows, or all."""
    if config.operations is None or config.operations >= cost * config.strings:
        return config.strings
    return min(config.strings, 1 << max(0, int(np.log2(max(1, config.operations / cost)))))


def measure(config: Config, model: Model) -> dict[str, Array]:
    """Measure the sensitivity profile of a model."""
    ready = prepare(config, model)
    count = strings_for(config, ready.cost)
    strings = boolean.strings.uniform(_key(config, "strings", model.dataset), count, config.length)
    key = _key(config, "audit", model.dataset, model.number)
    in_full = boolean.sensitivity_profile(
        ready.substitute, execution=Execution(chunk=config.chunk), audit=config.audit, reference=ready.reference
    )
    screening = {}
    if config.screened:
        screened = boolean.screened_sensitivity_profile(ready.substitute, execution=Execution(chunk=config.chunk))(
            key, ready.variables, strings
        )
        profile = screened.measured
        screening = {"screening": [getattr(screened.screening, name) for name in SCREENING]}
        audit = in_full(key, ready.variables, strings[: config.audit]).audit if config.audit else None
    else:
        profile = in_full(key, ready.variables, strings)
        audit = profile.audit
    found = screening | {
        "parameters": ready.parameters,
        "sensitivities": profile.sensitivities,
        "influences": profile.influences,
        "accepted": np.mean(profile.decisions == boolean.decisions.ACCEPT),
    }
    if audit is None:
        return found | {"audited": 0, "altered": 0.0, "error": 0.0}
    return found | {"audited": audit.changed.count, "altered": float(audit.changed.mean), "error": audit.error}


def random_functions(config: Config, length: int) -> dict[str, Array]:
    """Return how many strings of sensitivity 0 random functions have ``[functions]``; to n = 4 all functions."""
    if length <= 4:
        bits = 2**length
        numbers = np.arange(2**bits, dtype=np.uint32)
        tables = (numbers[:, None] >> np.arange(bits, dtype=np.uint32)[None]) & 1 == 1
        return {"zeros": np.asarray(boolean.truth_tables.profile(tables))[:, 0]}
    at_once = max(1, 2**23 // 2**length)
    zeros = []
    for start in range(0, config.control_functions, at_once):
        key = _key(config, "functions", length, start)
        tables = jax.random.bernoulli(key, 0.5, (min(at_once, config.control_functions - start), 2**length))
        zeros.append(np.asarray(boolean.truth_tables.profile(tables))[:, 0])
    return {"zeros": np.concatenate(zeros)}


def _key(config: Config, purpose: str, *numbers: int) -> Key:
    key = jax.random.fold_in(jax.random.key(config.seed), ("weights", "strings", "audit", "functions").index(purpose))
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or what is left of it, in the folder ``out``."""
    every = models(config)
    with harness.Run.open(out, config, experiment="random_recognizers") as run:
        run.record(budget_bytes=memory.BYTES, estimators_precision="highest")
        control = {n: run.unit(f"functions-{n}", partial(random_functions, config, n)) for n in config.control_lengths}
        results = []
        units = run.units(((model.name, partial(measure, config, model)) for model in every), allow_nonfinite=["error"])
        with tqdm(desc="all models", total=len(every), unit="model", dynamic_ncols=True) as bar:
            for model, found in zip(every, units, strict=True):
                results.append((model, found))
                bar.set_postfix_str(f"{model.kind} {model.architecture.width}", refresh=False)
                bar.update()
        report.write(run, config, results, control)
        print(run.compiling)
    return out


EXPERIMENT = harness.Experiment("random_recognizers", PRESETS, execute, __doc__)
