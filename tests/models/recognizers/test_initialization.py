import math

import jax
import numpy as np
import pytest

from jaxsens.models.recognizers import initialization
from jaxsens.models.recognizers.initialization import SCHEMES, Spec, draw

# Fans unlike the shape, as those of stacked layers and of heads are.
BIG = Spec((3, 40, 500), fans=(30, 70))
LIMITS = {"uniform": 1.0, "xavier_uniform": math.sqrt(6 / 100), "uniform_10": 10.0}
DEVIATIONS = {"normal": 1.0, "xavier_normal": math.sqrt(2 / 100), "normal_10": 10.0}
TREE = {
    "weight": BIG,
    "bias": Spec((4000,), "bias"),
    "gain": Spec((4000,), "gain"),
    "offset": Spec((4000,), "offset"),
    "embedding": Spec((3, 2000), "embedding"),
}


def drawn(scheme, **choices):
    return jax.tree.map(np.asarray, draw(jax.random.key(0), TREE, scheme, **choices))


def assert_moments(values, deviation, fourth):
    """Mean 0, and the second and fourth moments, each within five standard errors."""
    values = values.ravel().astype(np.float64) / deviation
    for power, moment in ((1, 0), (2, 1), (4, fourth)):
        powers = values**power
        assert abs(powers.mean() - moment) < 5 * powers.std() / math.sqrt(len(powers)), f"moment {power}"


def test_every_scheme_is_tested():
    assert LIMITS.keys() | DEVIATIONS.keys() == SCHEMES.keys()


@pytest.mark.parametrize("scheme", LIMITS)
def test_uniform_schemes_fill_their_range(scheme):
    values, limit = drawn(scheme)["weight"], LIMITS[scheme]
    assert values.dtype == np.float32
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.999 * limit
    assert_moments(values, limit / math.sqrt(3), fourth=9 / 5)


@pytest.mark.parametrize("scheme", DEVIATIONS)
def test_normal_schemes_have_the_moments_of_a_normal(scheme):
    assert_moments(drawn(scheme)["weight"], DEVIATIONS[scheme], fourth=3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_biases_gains_and_embeddings_as_chosen(scheme):
    xavier = scheme.startswith("xavier")
    default, chosen = drawn(scheme), drawn(scheme, biases="zero", gains="scheme", embedding="scheme")
    assert_moments(default["embedding"], 1.0, fourth=3)
    assert not default["offset"].any()
    assert (default["gain"] == 1).all()
    assert not chosen["bias"].any()
    if xavier:  # which is defined for matrices only
        assert not default["bias"].any()
        assert not chosen["offset"].any()
        assert (chosen["gain"] == 1).all()
    else:
        deviation = LIMITS[scheme] / math.sqrt(3) if scheme in LIMITS else DEVIATIONS[scheme]
        fourth = 9 / 5 if scheme in LIMITS else 3
        assert_moments(default["bias"], deviation, fourth)
        assert_moments(chosen["gain"], deviation, fourth)
        assert_moments(chosen["offset"], deviation, fourth)
        assert_moments(chosen["embedding"], deviation, fourth)


def test_an_array_without_numbers_is_drawn():
    """The hidden layers after the first, where there is but one."""
    assert draw(jax.random.key(0), Spec((0, 4)), "normal").shape == (0, 4)


def test_xavier_embeddings_have_the_fans_of_their_specification():
    embedding = Spec((3, 2000), "embedding", fans=(3, 5))
    values = draw(jax.random.key(1), embedding, "xavier_normal", embedding="scheme")
    assert_moments(np.asarray(values), math.sqrt(2 / 8), fourth=3)


def test_large_arrays_are_drawn_in_blocks_that_differ():
    values = np.asarray(draw(jax.random.key(2), Spec((2**20 + 5,)), "normal"))
    assert len(np.unique(values[-5:])) == 5
    assert not np.isin(values[-5:], values[:5]).any()


def test_a_leaf_is_drawn_from_its_place_only():
    """What the others are changes nothing; two places with the same specification differ."""
    first = draw(jax.random.key(3), [Spec((5,)), Spec((4, 2)), Spec((4, 2))], "normal")
    second = draw(jax.random.key(3), [Spec((7, 7), "bias"), Spec((4, 2)), Spec((), "gain")], "normal", biases="zero")
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[1] != first[2]).all()
    other_key = draw(jax.random.key(4), [Spec((5,)), Spec((4, 2)), Spec((4, 2))], "normal")
    assert (first[1] != other_key[1]).all()


def test_schemes_of_one_shape_share_their_draws():
    """The wide schemes are the narrow ones, ten times as wide: pairs of models that differ in scale alone."""
    for narrow, wide in (("uniform", "uniform_10"), ("normal", "normal_10")):
        np.testing.assert_allclose(10 * drawn(narrow)["weight"], drawn(wide)["weight"], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("choice", "value"), [("scheme", "glorot"), ("biases", "ones"), ("gains", "zero"), ("embedding", "uniform")]
)
def test_an_unknown_choice_is_named(choice, value):
    choices = {"scheme": "normal", choice: value}
    with pytest.raises(ValueError, match=f"{choice} is '{value}', but must be"):
        draw(jax.random.key(0), TREE, **choices)


def test_roles_are_those_of_the_specifications():
    assert {spec.role for spec in TREE.values()} == set(initialization.ROLES)
    with pytest.raises(ValueError, match="role is 'scale', but must be one of weight"):
        Spec((3,), "scale")
