import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import changes
from jaxsens.boolean import decisions
from jaxsens.boolean.decisions import ACCEPT, REJECT, UNDEFINED

LOGITS = np.array([-2.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 2.0], np.float32)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_equation_15(array):
    """The margin itself belongs to the decisions, not to what is undefined."""
    found = decisions.decide(array(LOGITS), 0.5)
    assert found.dtype == np.int8
    assert isinstance(found, jax.Array) == (array is jnp.asarray)
    np.testing.assert_array_equal(found, [0, 0, -1, -1, -1, -1, 1, 1])


def test_without_a_margin_the_sign_decides_as_it_does_for_sign_changes():
    found = decisions.decide(LOGITS)
    np.testing.assert_array_equal(found, [0, 0, 0, 0, 0, 1, 1, 1])
    for a, first in zip(LOGITS, found, strict=True):
        for b, second in zip(LOGITS, found, strict=True):
            assert changes.sign_change(jnp.asarray(a), jnp.asarray(b)) == (first != second)


def test_a_wider_margin_only_takes_decisions_away():
    logits = np.random.default_rng(0).normal(size=500)
    narrow, wide = decisions.decide(logits, 0.3), decisions.decide(logits, 0.9)
    kept = wide != UNDEFINED
    np.testing.assert_array_equal(wide[kept], narrow[kept])
    assert (narrow == UNDEFINED).sum() < (~kept).sum()


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_nan_decides_nothing(margin):
    assert decisions.decide(np.nan, margin) == UNDEFINED
    assert decisions.decide(np.inf, margin) == ACCEPT
    assert decisions.decide(-np.inf, margin) == REJECT


def test_numbers_on_the_host_keep_their_precision():
    """1e-50 is 0 in float32, which would be rejected."""
    assert decisions.decide(1e-50) == ACCEPT
    assert decisions.decide(1e-50, 1e-49) == UNDEFINED


def test_a_margin_below_the_smallest_float32_accepts_no_zero():
    assert decisions.decide(jnp.zeros(()), 1e-50) == decisions.decide(np.float32(0), 1e-50) == REJECT


def test_the_margin_may_be_traced():
    compiled = jax.jit(decisions.decide)
    for margin in (0.0, 0.25, 1.0):
        np.testing.assert_array_equal(compiled(LOGITS, margin), decisions.decide(LOGITS, margin))


def test_recognition_needs_the_right_side_of_the_margin():
    """Def. 2.8: an undefined decision is neither label."""
    logits, labels = np.array([2.0, 0.1, -0.1, -2.0]), np.array([1, 1, 0, 0])
    assert decisions.recognizes(logits, labels, 0.1).all()
    np.testing.assert_array_equal(decisions.recognizes(jnp.asarray(logits), labels == 1, 0.5), [1, 0, 0, 1])
    for either in (labels, 1 - labels):
        assert not decisions.recognizes(logits, either, 3.0).any()
    assert not decisions.recognizes(logits, 1 - labels, 0.1).any()


@pytest.mark.parametrize("margin", [-0.5, np.nan, np.inf])
def test_bad_margins_are_named(margin):
    with pytest.raises(ValueError, match=f"margin must be a finite number of at least 0, got {margin}"):
        decisions.decide(LOGITS, margin)
    with pytest.raises(ValueError, match="margin must be"):
        decisions.recognizes(LOGITS, LOGITS > 0, margin)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([0, 1, -1]), "labels must be 0 or 1, got -1"),
        (np.array([0.5, 1, 0]), "labels must be 0 or 1, got 0.5"),
        (np.ma.masked_array([0, 1, 0], [0, 1, 0]), "labels must not be a masked array"),
        (np.array([[0], [1], [1]]), r"labels must have the shape \(3,\) of the logits, got \(3, 1\)"),
    ],
)
def test_bad_labels_are_named(labels, match):
    with pytest.raises(ValueError, match=match):
        decisions.recognizes(np.ones(3), labels)
