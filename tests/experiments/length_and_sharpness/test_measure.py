"""Measures of models whose functions are known."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.length_and_sharpness import measure as m
from experiments.length_and_sharpness.config import PRESETS, signs, targets
from jaxsens.boolean import strings
from jaxsens.models import recognizers
from jaxsens.training import many_models

SMOKE = PRESETS["smoke"]


def test_measures_of_a_constant_model():
    zero = jax.tree.map(np.zeros_like, recognizers.init(SMOKE.architecture, SMOKE.key("length", "weights", 0)))
    zero["params"]["readout"]["bias"] = np.float32(0.5)
    zero["params"]["layers"]["mlp_offset"] = np.full((2, 8), 2, np.float32)
    bits = np.asarray(strings.exhaustive(4), np.uint8)
    labels = targets("parity", bits)
    still = dataclasses.replace(SMOKE, noise=1e-12)
    measured = m.measure(still, "length", 4, zero, bits, labels)
    assert measured["loss"] == pytest.approx((0.5**2 + 1.5**2) / 2)
    assert measured["accuracy"] == 0.5
    assert measured["weight_norm"] == pytest.approx(np.sqrt(0.25 + 16 * 4))
    assert measured["sensitivity"] == measured["sensitivity_sem"] == 0
    assert measured["sharpness"] == pytest.approx(0, abs=1e-9)
    assert m.measure(SMOKE, "length", 4, zero, bits, labels)["sharpness"] != 0, "noise moves the weights"
    assert m.measure(dataclasses.replace(still, exact_length=4), "length", 4, zero, bits, labels) == measured


def test_a_learned_function_is_measured_on_seen_and_unseen_strings(monkeypatch):
    bits = np.asarray(strings.exhaustive(4))
    labels = bits.sum(1) % 2 == 0
    seen = np.array([3, 5, 6, 9])
    trained = many_models.Trained(
        {"params": {"a": np.zeros(2)}}, np.array([many_models.TRAINING, many_models.DIVERGED]), *[None] * 3
    )
    outputs = {"right": signs(labels), "constant": np.ones(16)}
    for name, expected in (("right", (1, 0, 1, 4)), ("constant", (1, 0, 4 / 12, 0))):
        monkeypatch.setattr(m, "_outputs", lambda *args, name=name: outputs[name])
        measured = m.measure_learned(SMOKE, trained, 0, bits, labels, seen)
        assert labels[seen].all()
        assert tuple(measured[k] for k in m.LEARNED) == expected
        assert measured["target_sensitivity"] == 4
    assert np.isnan(m.measure_learned(SMOKE, trained, 1, bits, labels, seen)["sensitivity"])
