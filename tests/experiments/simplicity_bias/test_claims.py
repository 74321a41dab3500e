"""Claims are supported where the planted results say so, and contradicted where they say otherwise."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.simplicity_bias import claims, estimates
from experiments.simplicity_bias.config import KINDS, PRESETS
from jaxsens.training.many_models import REACHED, TRAINING
from tests.experiments.test_reachable import require_reachable


def planted(config, generalizes, sensitivities):
    """Results as they would be if a kind generalized, and the other learned by heart."""
    results = {}
    points = np.array([0, 4])
    for kind in KINDS:
        for count in config.counts:
            for seed in range(config.seeds):
                noise, rate = np.transpose(config.settings)
                clean = np.where(kind == generalizes, 1.0, 0.55 + 0.01 * seed) - (rate > 1e-3) * 0.1
                training = np.where(kind == generalizes, 1 - noise, 1.0)
                last = {"training_accuracy": training, "validation_accuracy": clean, "test_accuracy": clean}
                last |= {"sensitivity": training / 5, "sensitivity_sem": 0 * training}
                unit = {name: np.stack([np.full(len(noise), 0.5), value], 1) for name, value in last.items()}
                status = np.full(len(noise), TRAINING)
                results["parity", kind, count, seed] = unit | {"epochs": points, "status": status}
        status = np.array([[REACHED, TRAINING], [REACHED, REACHED], [TRAINING, TRAINING], [REACHED, TRAINING]])
        spread = np.array([[0.0, 9.0], [-0.01, 0.01], [9.0, 9.0], [0.01, 9.0]])  # 9 where it must not count
        unit = {"status": status, "trained_sensitivity": sensitivities[kind] + spread}
        results["labels", kind] = unit | {"untrained_sensitivity": 0.05 + spread}
    return results


def paper(**changes):
    """Return settings with enough seeds for the rows of a claim together."""
    return replace(PRESETS["paper"], seeds=9, label_sets=4, label_models=2, label_rates=(3e-4, 1e-3), **changes)


def groups_of(config, results):
    levels = [(kind, count, noise) for kind in KINDS for count in config.counts for noise in config.noises]
    assert {estimates.best_rate(config, results, *level) for level in levels} == {1e-3}
    return {level: estimates.Group(config, results, *level, 1e-3) for level in levels}


@pytest.mark.parametrize("generalizes", KINDS)
def test_claims_follow_the_results(generalizes):
    config = paper(counts=(30_000, 1_000), noises=(0.0, 0.2), rates=(3e-3, 1e-3, 3e-4))
    other = next(kind for kind in KINDS if kind != generalizes)
    results = planted(config, generalizes, {generalizes: 0.16, other: 0.27})
    verdict = "supported" if generalizes == "transformer" else "contradicted"
    opposite = {"supported": "contradicted", "contradicted": "supported"}[verdict]
    judged = [claim for claim in claims.parity_claims(config, groups_of(config, results)) if claim.verdict]
    assert len(judged) == 2 * 4 + 2 * 3  # with 1,000 strings transformers are said to overfit
    for claim in judged:
        small = "1000 strings" in claim.dataset and claim.subject == "transformer" and not claim.reference
        exact = claim.quantity.endswith("on the training labels") and claim.dataset.endswith("noise 0")
        assert claim.verdict == ("supported" if exact else opposite if small else verdict), claim
        assert claim.units == 9
    difference, *others = claims.label_claims(config, results)
    assert difference.verdict == verdict
    assert difference.measured == pytest.approx(0.11 * (-1 if generalizes == "transformer" else 1))
    assert "3 of 4 with both" in difference.note
    assert [claim.verdict for claim in others if claim.verdict] == [verdict] * 2
    assert [claim.measured for claim in others if not claim.verdict] == [0.5, 0.5]


def test_models_that_did_not_begin_to_learn_decide_nothing():
    config = paper(counts=(30_000,), noises=(0.2,), rates=(3e-3, 1e-3, 3e-4))
    results = planted(config, "transformer", {"transformer": 0.16, "lstm": 0.27})
    for seed in range(9):
        unit = results["parity", "transformer", 30_000, seed]
        unit["training_accuracy"] = np.full_like(unit["training_accuracy"], 0.52)
        unit["test_accuracy"] = np.full_like(unit["test_accuracy"], 0.5)
    groups = {(kind, 30_000, 0.2): estimates.Group(config, results, kind, 30_000, 0.2, 1e-3) for kind in KINDS}
    judged = [claim for claim in claims.parity_claims(config, groups) if claim.verdict]
    transformers = [claim for claim in judged if claim.subject == "transformer"]
    assert [claim.verdict for claim in transformers] == ["inconclusive"] * 3
    assert all("9 did not begin to learn" in claim.note for claim in transformers)
    assert [claim.verdict for claim in judged if claim.subject == "lstm"] == ["supported"]


def test_one_learning_rate_allows_no_verdict():
    config = replace(paper(counts=(30_000,), noises=(0.0,), rates=(1e-3,)), label_rates=(1e-3,))
    results = planted(config, "transformer", {"transformer": 0.16, "lstm": 0.27})
    judged = claims.claims(config, results, groups_of(config, results))
    assert {claim.verdict for claim in judged if claim.verdict} == {"inconclusive"}
    assert all("1 tried; 3 are needed" in claim.reason for claim in judged if claim.verdict)


def test_overfitting_is_zero_for_the_truth_and_the_noise_for_memorized_labels():
    assert estimates.overfitting(0.8, 1.0, 0.2) == pytest.approx(0)
    assert estimates.overfitting(1.0, 0.5, 0.2) == pytest.approx(0.5)
    assert estimates.overfitting(1.0, 1.0, 0.2) == pytest.approx(0.2)


def test_equal_accuracies_keep_an_interval():
    config = paper(counts=(30_000,), noises=(0.0,), rates=(1e-3,))
    group = estimates.Group(config, planted(config, "lstm", {"lstm": 0.1, "transformer": 0.2}), "lstm", 30_000, 0, 1e-3)
    accuracy = group.final()["test_accuracy"]
    low, high = accuracy.interval()
    assert (float(accuracy.mean), high) == (1, 1)
    assert low == pytest.approx(0.025 ** (1 / 9)), "nine models that all learn: 0.66 or more"
    np.testing.assert_allclose([end[-1] for end in group.curve("test_accuracy")[1:]], [1, low, 1])


def test_nine_seeds_and_a_grid_judge_all_that_the_laptop_preset_does_not():
    config = replace(PRESETS["laptop"], seeds=9, rates=(3e-4, 1e-3, 3e-3), label_rates=(1e-3, 3e-3))
    for use in claims.uses(config).values():
        require_reachable(use)
        assert not use.design.reason()
