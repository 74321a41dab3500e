"""Laws of the recognizers built by hand: exact at all strings and lengths, and their margin fades as they say."""

import jax
import numpy as np
import pytest

from experiments.recognizer_geometry import constructions
from jaxsens.models import recognizers

LENGTHS = (1, 10, 33)
BOUNDED = ("first", "majority", "parity")


def margins(built, n, strings=None):
    """Logits, each counted as positive where it is on the right side."""
    strings = constructions.hard_strings(n) if strings is None else strings
    logits = np.asarray(jax.jit(recognizers.evaluation(built.config))(built.variables(n), strings))
    return np.where(np.asarray(built.language(n).accept(strings)), logits, -logits)


@pytest.mark.parametrize("name", constructions.CONSTRUCTIONS)
def test_without_epsilon_every_string_of_every_length_has_margin_one(name, float64):
    built = constructions.CONSTRUCTIONS[name](0.0)
    for n in LENGTHS:
        np.testing.assert_allclose(margins(built, n), 1, rtol=1e-9, err_msg=f"N = {n}")


@pytest.mark.parametrize("name", constructions.CONSTRUCTIONS)
def test_with_epsilon_the_smallest_margin_is_the_closed_form(name, float64):
    for epsilon, lengths in ((1e-4, (10,)), (1e-2, (33,))):
        built = constructions.CONSTRUCTIONS[name](epsilon)
        for n in lengths:
            smallest = margins(built, n)
            assert (smallest > 0).all(), "the sign is right, however small the margin"
            np.testing.assert_allclose(smallest.min(), built.smallest(np.asarray(n)), rtol=0.03)


def test_margins_fall_as_a_power_of_the_length_and_later_with_a_gain():
    n = np.array([1e4, 2e4])
    for name, power in (("first", -1), ("majority", -1), ("parity", -2)):
        build = constructions.CONSTRUCTIONS[name]
        plain = build(1e-2).smallest(n)
        np.testing.assert_allclose(np.log2(plain[1] / plain[0]), power, atol=1e-3)
        np.testing.assert_allclose(build(1e-2, gain=3.0).smallest(n), 3 * plain, rtol=1e-3)
    growing = constructions.first_by_growing_positions(1e-2).smallest(n)
    assert (growing > 0.9).all(), "positions without a bound keep the margin"


@pytest.mark.parametrize("name", constructions.CONSTRUCTIONS)
def test_a_gain_is_what_the_closed_form_says(name, float64):
    built = constructions.CONSTRUCTIONS[name](1e-2, 5.0)
    np.testing.assert_allclose(margins(built, 33).min(), built.smallest(np.asarray(33)), rtol=0.03)


@pytest.mark.parametrize("name", BOUNDED)
def test_they_depend_on_a_bias_that_random_weights_miss(name, float64):
    """The residual must cancel: if a bias is off by a tenth, the margin is lost."""
    built = constructions.CONSTRUCTIONS[name](0.0)
    bias = built.params["layers"]["contract_bias"]
    cancels = np.flatnonzero(bias[-1])[0]
    bias[-1, cancels] += 0.1
    assert margins(built, 64).min() < 0.5


def test_positions_depend_on_the_position_only():
    """The paper's p(n) does not know N."""
    for build in constructions.CONSTRUCTIONS.values():
        built = build(0.0)
        long = built.variables(9)["positions"]
        np.testing.assert_array_equal(built.variables(4)["positions"], long[:5])
    assert np.abs(constructions.first(0.0).variables(500)["positions"]).max() == constructions.SHIFT


def test_hard_strings_include_one_of_smallest_margin(float64):
    assert len(np.unique(constructions.hard_strings(6), axis=0)) == 64
    for name in BOUNDED:
        built = constructions.CONSTRUCTIONS[name](1e-2)
        everything = margins(built, 11, constructions.hard_strings(11, exhaustive=11))
        hard = everything[constructions.hard_strings(11) @ (1 << np.arange(11)[::-1])]
        np.testing.assert_allclose(hard.min(), everything.min(), rtol=1e-3)
    ones = constructions.hard_strings(21).sum(1)
    assert {0, 1, 10, 11, 20, 21} <= set(ones.tolist())
