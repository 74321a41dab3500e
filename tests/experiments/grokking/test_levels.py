"""How often C14 is supported where it is false, and where it is true, simulated (``-m slow -s``); 90 CPU s.

Invented curves of a group, without training. The false cases: a constant with noise; a decay since memorization that is
unrelated to the test accuracy, with a time constant that depends on the learning rate, or does not, or is skewed; a
random walk. Each architecture and way to put noise is judged alone here, before Holm's correction.
"""

from dataclasses import replace

import numpy as np
import pytest

from experiments.grokking import claims, estimates
from experiments.grokking.config import PRESETS, Group
from experiments.grokking.measure import MEASURES

REPEATS = 1000
STATED = 0.025
EPOCHS = np.arange(0, 6_001, 100)


def falls(at, width):
    """Return curves ``[seeds p]`` from 1 to 0 that are 1/2 at some epochs."""
    return 1 / (1 + np.exp((EPOCHS - at[:, None]) / width))


def noisy(rng, curves, deviation=0.003):
    return curves + deviation * rng.normal(size=curves.shape)


def since(memorized, constant):
    return np.exp(-np.maximum(EPOCHS - memorized[:, None], 0) / constant[:, None])


def constant(rng, rates, memorized, risen):
    return noisy(rng, np.full((len(rates), len(EPOCHS)), 0.05), 0.01)


def decay(rng, rates, memorized, risen):
    return noisy(rng, 0.09 * since(memorized, 400 * np.exp(0.3 * rng.normal(size=len(rates)))) + 0.01)


def decay_by_rate(rng, rates, memorized, risen):
    times = 0.4 / rates * np.exp(0.3 * rng.normal(size=len(rates)))
    return noisy(rng, 0.09 * since(memorized, times) + 0.01)


def skewed_decay(rng, rates, memorized, risen):
    return noisy(rng, 0.09 * since(memorized, 200 * (1 + rng.exponential(size=len(rates)))) + 0.01)


def walk(rng, rates, memorized, risen):
    return 0.05 + 0.003 * rng.normal(size=(len(rates), len(EPOCHS))).cumsum(1)


def ahead(rng, rates, memorized, risen):
    return noisy(rng, 0.08 * falls(risen - 500 + 60 * rng.normal(size=len(rates)), 150) + 0.01)


CASES = {
    "a constant with noise": (constant, False),
    "a decay since memorization": (decay, False),
    "the same, in proportion to the learning rate": (decay_by_rate, False),
    "a decay with skewed time constants": (skewed_decay, False),
    "a random walk": (walk, False),
    "a fall 500 epochs before the accuracy rises": (ahead, True),
}


def curves(rng, config, sensitivity):
    """Return a group whose accuracy rises at an epoch that depends on the learning rate and on chance."""
    rates = np.exp(rng.uniform(*np.log(config.rates), config.seeds))
    risen = 3 / rates * np.exp(0.2 * rng.normal(size=config.seeds))
    risen = np.clip(risen, 1_500, 5_000)
    memorized = np.round(0.3 / rates * np.exp(0.2 * rng.normal(size=config.seeds)) / 100) * 100
    unit = dict.fromkeys(MEASURES, np.ones((config.seeds, len(EPOCHS))))
    unit |= {"epochs": EPOCHS, "learning_rate": rates}
    unit["train_accuracy"] = np.where(memorized[:, None] <= EPOCHS, 1.0, 0.1)
    unit["test_accuracy"] = noisy(rng, 0.02 + 0.98 * (1 - falls(risen, 60)), 0.002)
    unit["token_sensitivity"] = sensitivity(rng, rates, memorized, risen)
    return estimates.Curves(config, Group("published", "none", 1.0), unit)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10])
def test_what_is_unrelated_to_the_accuracy_is_supported_at_the_stated_level(seeds, capsys):
    config = replace(PRESETS["laptop"], seeds=seeds)
    rng, lines = np.random.default_rng(seeds), []
    for name, (sensitivity, true) in CASES.items():
        found = []
        for _ in range(REPEATS):
            one = curves(rng, config, sensitivity)
            lead, unrelated = one.lead("token_sensitivity"), one.following("token_sensitivity")[1]
            design = claims.design(config, 0 if lead is None else lead.count)
            alone = lead is not None and lead.interval()[0] > 0
            found.append((alone, claims.falls_first(lead, unrelated, design=design).name == "supported"))
        early, supported = np.mean(found, axis=0)
        lines.append(f"{name:48}{early:10.3f}{supported:12.4f}")
        assert (supported > 0.5) if true else supported <= STATED + 3 * np.sqrt(STATED * (1 - STATED) / REPEATS), name
    with capsys.disabled():
        print("\n".join([f"\n{seeds} seeds{'':41}lead > 0   supported", *lines]))
