"""Targets are the functions, keys of sections differ, and settings that make no sense are refused."""

import dataclasses

import numpy as np
import pytest

from experiments.length_and_sharpness import config as c
from jaxsens.boolean import strings

SMOKE = c.PRESETS["smoke"]


def test_targets_are_the_functions():
    bits = np.asarray(strings.exhaustive(5))
    signs = 2 * bits - 1
    np.testing.assert_array_equal(c.targets("parity", bits), np.prod(-signs, 1))
    np.testing.assert_array_equal(c.targets("first", bits), signs[:, 0])
    np.testing.assert_array_equal(c.targets("majority", bits), np.sign(signs.sum(1)))
    np.testing.assert_allclose(c.targets("mean", bits), signs.mean(1), rtol=1e-6)
    assert c.targets("majority", np.array([[0, 1]])) == -1, "a tie is rejected"
    assert [c.exact_sensitivity(f, 5) for f in c.FUNCTIONS] == [5, 2 * 3 * 10 / 32, 1, 2 * 3 * 10 / 32]
    with pytest.raises(ValueError, match="function must be one of"):
        c.targets("median", bits)


def test_the_defaults_are_the_published_setting():
    config = c.Config()
    assert config == c.PRESETS["paper"]
    assert (config.depth, config.heads, config.architecture.width, config.noise) == (2, 2, 128, 0.02)
    assert (config.batch, config.steps, config.learning_rate, config.weight_decay) == (1024, 10_000, 3e-4, 0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lengths", (8, 4)), ("steps", 65), ("tradeoff_group", 3), ("tradeoff_rates", (1e-3, 1e-4)),
        ("function_sizes", (8, 32)), ("function_sizes", (3,)), ("function_length", 17),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(SMOKE, **{field: value})
