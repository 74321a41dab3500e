"""What is trained on what: paired models, fresh strings, nested training sets, labels of the right function."""

import dataclasses

import numpy as np
import pytest

from experiments.length_and_sharpness import estimates, train
from experiments.length_and_sharpness.config import FUNCTIONS, PRESETS, targets
from jaxsens.training import many_models

SMOKE = PRESETS["smoke"]


class Captured(Exception):
    pass


@pytest.fixture
def captured(monkeypatch):
    """Return what a unit would train, in place of training it."""

    def capture(config, variables, members, data, watched, key, steps, checkpoint, label):
        raise Captured(variables, members, data, watched, steps)

    def call(unit, *args, **kwargs):
        with pytest.raises(Captured) as error:
            unit(*args, **kwargs)
        return error.value.args

    monkeypatch.setattr(train, "_trained", capture)
    return call


def test_functions_of_a_seed_are_paired_and_strings_are_fresh(captured):
    config = dataclasses.replace(SMOKE, seeds=2)
    variables, members, data, watched, _ = captured(train.by_length, config, 4)
    weights = variables["params"]["layers"]["query"]
    assert (weights[:4] == weights[:1]).all()
    assert (weights[4] != weights[0]).any()
    for epoch in (0, 1):
        bits, labels = data(epoch)
        assert bits.shape == (8, config.epoch_strings, 4)
        assert (bits[:4] == bits[:1]).all()
        assert (bits[4] != bits[0]).any()
        for i, function in enumerate(FUNCTIONS * 2):
            np.testing.assert_array_equal(labels[i], targets(function, bits[i]))
    assert (data(0)[0] != data(1)[0]).any()
    assert members.dataset.tolist() == list(range(8))
    assert watched[0].shape == (8, 16, 4)
    assert len(np.unique(watched[0][0], axis=0)) == 16, "all strings, as they are few"
    alone = captured(train.by_length, SMOKE, 4)[0]["params"]["layers"]["query"]
    np.testing.assert_array_equal(alone, weights[:4])


def test_models_of_the_tradeoff_differ_in_rate_and_decay_and_do_not_depend_on_their_group(captured):
    config = dataclasses.replace(SMOKE, tradeoff_models=60, tradeoff_group=60)
    variables, members, data, _, _ = captured(train.tradeoff, config, 0)
    for values, ends in (
        (members.learning_rate, config.tradeoff_rates),
        (members.weight_decay, config.tradeoff_decays),
    ):
        assert ends[0] <= values.min() < values.mean() < values.max() <= ends[1]
        assert values.mean() == pytest.approx(np.mean(ends), rel=0.2)
        assert len(np.unique(values)) == 60
    assert abs(np.corrcoef(members.learning_rate, members.weight_decay)[0, 1]) < 0.4
    second = dataclasses.replace(config, tradeoff_group=30)
    others, other_members, *_ = captured(train.tradeoff, second, 1)
    np.testing.assert_array_equal(other_members.learning_rate, members.learning_rate[30:])
    np.testing.assert_array_equal(others["params"]["embedding"], variables["params"]["embedding"][30:])
    bits, labels = data(0)
    np.testing.assert_array_equal(labels, targets("parity", bits))


def test_training_sets_of_random_functions_are_nested_and_labeled_by_them(captured):
    config = dataclasses.replace(SMOKE, function_seeds=3)
    _, members, (bits, labels), (every, all_labels), steps = captured(train.random_functions, config)
    assert bits.shape == (4, SMOKE.epoch_strings, 4)
    assert steps == SMOKE.function_steps
    assert members.dataset.tolist() == [d for d in range(4) for _ in range(3)]
    seen = [{tuple(s) for s in one.tolist()} for one in bits]
    assert [len(one) for one in seen] == [8, 16, 8, 16]
    assert seen[0] < seen[1]
    assert (all_labels[0] == all_labels[1]).all()
    assert (all_labels[0] != all_labels[2]).any()
    assert all(len(np.unique(one, axis=0)) == 16 for one in every)
    for d in range(4):
        table = dict(zip(map(tuple, every[d].tolist()), all_labels[d], strict=True))
        assert [table[tuple(s)] for s in bits[d].tolist()] == labels[d].tolist()


def test_given_functions_take_the_place_of_random_ones(captured):
    tables = np.array([[0, 1] * 8, [1] * 16])
    *_, (every, labels), _ = captured(train.random_functions, SMOKE, tables=tables)
    np.testing.assert_array_equal(labels, 2 * tables.repeat(2, 0) - 1)
    np.testing.assert_array_equal(every[0], np.stack([np.arange(16) >> shift & 1 for shift in (3, 2, 1, 0)], 1))


@pytest.mark.whole
def test_models_that_diverge_are_recorded():
    unit = train.by_length(dataclasses.replace(SMOKE, learning_rate=1e30), 4)
    assert (unit["status"] == many_models.DIVERGED).all()
    assert np.isnan(unit["sharpness"]).all()
    assert not estimates.converged(unit, unit["function"]).any()
