"""The work of a run, counted from its settings."""

from collections import Counter

from experiments.harness.work import Work
from experiments.random_recognizers.config import BASELINES, PLAIN_AUDIT, TRANSFORMERS, Config, models
from experiments.random_recognizers.measure import strings_for
from jaxsens.models import substitution
from jaxsens.models.recognizers import baselines

__all__ = ["work"]


def work(config: Config) -> list[Work]:
    """Return the flips of all bits of all strings, for each kind of model, and their audits.

    Operations of transformers are those of `substitution.recognizers.operations`. An audit evaluates its strings once
    more as the measure does, and once in float64.
    """
    forwards, operations, audits = Counter(), Counter(), Work("audits", "float64", 0, 0)
    for model in models(config):
        fields, _ = TRANSFORMERS.get(model.kind, ({}, {}))
        architecture = model.architecture.config(config.epsilon, **fields)
        if model.kind in BASELINES:
            matched = baselines.matched(model.kind, baselines.parameter_count(architecture), config.length)
            steps = config.length + 1 if model.kind == "lstm" else 1
            plain = cost = limit = 2 * baselines.parameter_count(matched) * steps * (config.length + 1)
        else:
            plain, cost = substitution.recognizers.operations(architecture, model.architecture.layers, config.length)
            middle = sorted(config.layers)[len(config.layers) // 2]
            plain_limit, limit = substitution.recognizers.operations(architecture, middle, config.length)
            plain = plain if plain_limit < PLAIN_AUDIT else cost
        strings = strings_for(config, limit)
        audited = min(config.audit, strings)
        forwards[model.kind] += strings * (config.length + 1)
        operations[model.kind] += strings * cost
        audits = Work(
            "audits", "float64", audits.forwards + 2 * audited * (config.length + 1),
            audits.operations + audited * (cost + plain),
        )  # fmt: skip
    return [Work(f"flips, {kind}", "recognizers", forwards[kind], operations[kind]) for kind in forwards] + [audits]
