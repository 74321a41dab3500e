import numpy as np
import pytest

from jaxsens.statistics import estimate, sequential


def test_sizes_grow_by_a_quarter_in_whole_parts_until_all_units_are_in():
    assert sequential.sizes(400, 2000) == [400, 500, 700, 900, 1200, 1500, 1900, 2000]
    assert sequential.sizes(10, 20) == [12, 15, 20]
    assert sequential.sizes(50, 20) == [20]


def test_the_looks_together_miss_no_more_than_one_interval():
    missed = [1 - sequential.level_of(look, 0.95) for look in range(1, 1000)]
    assert missed[0] == pytest.approx(0.025)
    assert 0.0499 < sum(missed) < 0.05
    assert (np.diff(missed) < 0).all()


def test_a_mean_is_precise_when_its_standard_error_is_small():
    values = np.random.default_rng(0).normal(size=2000)
    found = estimate.from_values(values)
    assert sequential.precise_enough(found, 1.001 * found.sem)
    assert not sequential.precise_enough(found, 0.999 * found.sem)


@pytest.mark.parametrize("target", [0.05, 0.01, 0.001, 1e-4])
def test_a_rate_of_which_nothing_was_seen_is_not_precise_at_once(target):
    """Its standard error is 0 from the first unit on; it takes 1 / (2 target) of them."""
    enough = sequential.least(target, rate=True)
    assert enough == pytest.approx(0.5 / target, abs=2)
    for count, precise in ((int(0.97 * enough), False), (enough, True)):
        nothing = estimate.from_values(np.zeros(count, bool))
        assert nothing.sem == 0
        assert sequential.precise_enough(nothing, target) is precise
    assert sequential.least(target, rate=False) == 1


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="first must be an integer of at least 1, got 0"):
        sequential.sizes(0, 3)
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
        sequential.level_of(1, 95)
    with pytest.raises(ValueError, match="look must be an integer of at least 1, got 0"):
        sequential.level_of(0, 0.95)
    with pytest.raises(ValueError, match="first must be an integer of at least 1, got nan"):
        sequential.sizes(np.nan, 3)
    with pytest.raises(ValueError, match="look must be an integer of at least 1, got nan"):
        sequential.level_of(np.nan, 0.95)
    with pytest.raises(ValueError, match="target_sem must be a finite number above 0, got nan"):
        sequential.least(np.nan, rate=True)


def test_sizes_are_python_integers_whatever_the_type_of_the_counts():
    """Counts of units decide shapes: a narrow numpy integer would wrap."""
    found = sequential.sizes(np.int8(100), np.int64(300))
    assert found == [100, 125, 175, 225, 300]
    assert {type(size) for size in found} == {int}
