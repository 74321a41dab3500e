"""Measures: sensitivity profiles of random models, and the number of strings of sensitivity 0 at random."""

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np

from experiments.random_recognizers.config import BASELINES, KEYS, PLAIN_AUDIT, SCREENING, TRANSFORMERS, Config, Model
from jaxsens import boolean
from jaxsens.models import recognizers, substitution
from jaxsens.models.recognizers import baselines
from jaxsens.substitution import one_at_a_time
from jaxsens.typing import Array, PyTree, Substitute


@dataclass(frozen=True)
class Ready:
    """A model that is ready to be measured.

    Attributes:
        substitute: How its single-bit flips are evaluated.
        reference: How the audit evaluates them.
        variables: Its weights.
        parameters: Number of its parameters, without padding.
        cost: Floating-point operations of a string.
    """

    substitute: Substitute
    reference: Substitute
    variables: PyTree
    parameters: int
    cost: int


def prepare(config: Config, model: Model) -> Ready:
    """Draw the weights of a model."""
    key = KEYS(config.seed, "weights", model.dataset, model.number)
    fields, arguments = TRANSFORMERS.get(model.kind, ({}, {}))
    architecture = model.architecture.config(config.epsilon, **fields)
    parameters = baselines.parameter_count(architecture)
    if model.kind in BASELINES:
        matched = baselines.matched(model.kind, parameters, config.length)
        parameters = baselines.parameter_count(matched)
        steps = config.length + 1 if model.kind == "lstm" else 1
        plain = one_at_a_time(baselines.evaluation(matched))
        variables = recognizers.init(matched, key, model.scheme)
        return Ready(plain, plain, variables, parameters, 2 * parameters * steps * (config.length + 1))
    deepest = dataclasses.replace(architecture, depth=max(config.layers))
    variables = recognizers.at_depth(recognizers.init(architecture, key, model.scheme, **arguments), deepest.depth)
    # All depths share a program for one number of strings, so that the cost must not depend on the depth.
    middle = sorted(config.layers)[len(config.layers) // 2]
    plain_cost, cost = substitution.recognizers.operations(architecture, middle, config.length)
    rows, _ = config.blocks
    shared = substitution.recognizer(deepest, rows)
    # A plain audit is independent of what it checks and compiles sooner, but costs too much for wide models.
    plain = one_at_a_time(recognizers.evaluation(deepest), rows)
    return Ready(shared, plain if plain_cost < PLAIN_AUDIT else shared, variables, parameters, cost)


def strings_for(config: Config, cost: int) -> int:
    """Return on how many strings a model is measured: all, or the largest power of two that its budget allows."""
    if config.operations is None or config.operations >= cost * config.strings:
        return config.strings
    return min(config.strings, 1 << max(0, int(np.log2(max(1, config.operations / cost)))))


def measure(config: Config, model: Model, strings: Array | None = None) -> dict[str, Array]:
    """Measure the sensitivity profile of a model, on random strings or on the first of the user's ``[count n]``."""
    ready = prepare(config, model)
    count = strings_for(config, ready.cost)
    if strings is None:
        strings = boolean.strings.uniform(KEYS(config.seed, "strings", model.dataset), count, config.length)
    strings = strings[:count]
    key = KEYS(config.seed, "audit", model.dataset, model.number)
    _, execution = config.blocks
    in_full = boolean.sensitivity_profile(
        ready.substitute, execution=execution, audit=config.audit, reference=ready.reference
    )
    counts = {}
    if config.screened:
        screen = boolean.screened_sensitivity_profile(ready.substitute, execution=execution)
        screened = screen(key, ready.variables, strings)
        profile = screened.measured
        counts = {"screening": [getattr(screened.screening, name) for name in SCREENING]}
        audit = in_full(key, ready.variables, strings[: config.audit]).audit if config.audit else None
    else:
        profile = in_full(key, ready.variables, strings)
        audit = profile.audit
    results = counts | {
        "parameters": ready.parameters,
        "sensitivities": profile.sensitivities,
        "influences": profile.influences,
        "accepted": np.mean(profile.decisions == boolean.decisions.ACCEPT),
    }
    if audit is None:
        return results | {"audited": 0, "altered": 0.0, "error": 0.0}
    return results | {"audited": audit.changed.count, "altered": float(audit.changed.mean), "error": audit.error}


def random_functions(config: Config, length: int) -> dict[str, Array]:
    """Count the strings of sensitivity 0 of random functions ``[functions]``; up to 4 bits of all functions."""
    if length <= 4:
        bits = 2**length
        numbers = np.arange(2**bits, dtype=np.uint32)
        tables = (numbers[:, None] >> np.arange(bits, dtype=np.uint32)[None]) & 1 == 1
        return {"zeros": np.asarray(boolean.truth_tables.profile(tables))[:, 0]}
    block = max(1, 2**23 // 2**length)
    zeros = []
    for start in range(0, config.control_functions, block):
        key = KEYS(config.seed, "functions", length, start)
        tables = jax.random.bernoulli(key, 0.5, (min(block, config.control_functions - start), 2**length))
        zeros.append(np.asarray(boolean.truth_tables.profile(tables))[:, 0])
    return {"zeros": np.concatenate(zeros)}
