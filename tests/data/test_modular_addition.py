"""Laws of the data of modular addition."""

import jax
import numpy as np
import pytest

from jaxsens.data.modular_addition import ModularAddition


def test_every_sum_is_the_label_of_as_many_pairs():
    task = ModularAddition(5)
    pairs, labels = task.pairs, task.labels
    assert len(np.unique(pairs, axis=0)) == 25
    assert ((pairs[:, 0] + pairs[:, 1] - labels) % 5 == 0).all()
    assert np.bincount(labels).tolist() == [5] * 5


def test_mirrors_are_the_pairs_in_the_other_order():
    task = ModularAddition(5)
    assert np.array_equal(task.pairs[task.mirrors], task.pairs[:, ::-1])


def test_a_split_has_every_pair_once_and_depends_on_the_key():
    task = ModularAddition(7)
    (train, test), (other, _) = (task.split(jax.random.key(seed), 0.3) for seed in (0, 1))
    assert len(train) == 14
    assert sorted([*train, *test]) == list(range(49))
    assert train.tolist() != other.tolist()


@pytest.mark.parametrize(("modulus", "fraction"), [(1, 0.5), (2.5, 0.5), (5, 0.0), (5, 1.0), (5, 0.01), (5, "a")])
def test_bad_settings_are_named(modulus, fraction):
    with pytest.raises(ValueError, match=r"modulus|fraction"):
        ModularAddition(modulus).split(jax.random.key(0), fraction)
