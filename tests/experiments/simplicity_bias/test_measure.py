"""Accuracy and sensitivity of functions with known values."""

import numpy as np

from experiments.simplicity_bias import measure, train
from experiments.simplicity_bias.config import PRESETS
from jaxsens.execution.parallel import bind

SMOKE = PRESETS["smoke"]


def rule(until, variables, strings):
    """Accept where the bits before ``until`` have an even sum."""
    return 1.0 - 2.0 * (strings[:, :until].sum(1) % 2) + variables["params"]


def test_accuracy_and_sensitivity_of_known_functions():
    variables = {"params": np.float32(0)}
    drawn = train.task(SMOKE, 32, 0)
    for until in (1, 5):
        apply = bind(rule, until)
        assert measure.sensitivity(SMOKE, apply, variables, drawn.strings[:8]) == (until / SMOKE.length, 0.0)
    strings = [drawn.strings, drawn.validation[0], drawn.test[0]]
    right, clean, test = [np.asarray(rule(1, variables, some) > 0) for some in strings]
    sets = (strings[0], right), (strings[1], clean), (strings[2], 1 - test)
    assert measure.accuracies(SMOKE, bind(rule, 1), variables, *sets) == (1.0, 1.0, 0.0)
