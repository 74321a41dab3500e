"""Kernels of attention: closed forms against finite widths within their intervals, and the parts of Proposition 3.1."""

import jax
import numpy as np
import pytest

from jaxsens.theory import (
    attention_kernels,
    conjugate_kernel,
    counterexample,
    cube_tokens,
    finite_width_kernel,
    tangent_kernel,
    walsh,
)
from jaxsens.theory.structure import degree_order_holds, structure

KEY = jax.random.key(5)
KERNELS = {"conjugate": conjugate_kernel, "tangent": tangent_kernel}
TOKENS = np.random.default_rng(0).normal(size=(5, 3, 2))


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize(("score", "read_out"), [("linear", "all"), ("relu", "mean"), ("relu", "first")])
def test_closed_forms_are_within_the_errors_of_finite_widths(kind, score, read_out):
    """Of general inputs, by another way: features and automatic differentiation of random networks."""
    measure = finite_width_kernel(kind, score=score, read_out=read_out, width=64, networks=800)
    found = measure(KEY, TOKENS)
    expected = KERNELS[kind](TOKENS, score=score, read_out=read_out)
    low, high = found.interval(1 - 1e-4)
    bias = 0.0 if score == "linear" else 0.02 * np.abs(expected).max()
    assert ((low - bias <= expected) & (expected <= high + bias)).all()
    assert (found.sem < 0.2 * np.abs(np.diag(expected)).max()).all()


def test_softmax_over_one_token_is_the_inner_product():
    tokens = cube_tokens(3, 1)
    found = finite_width_kernel("conjugate", score="softmax", width=2, networks=2)(KEY, tokens)
    np.testing.assert_allclose(found.mean, tokens[:, 0] @ tokens[:, 0].T / 3, atol=1e-6)


def test_the_tangent_kernel_of_linear_scores_is_four_times_the_conjugate_one():
    np.testing.assert_allclose(tangent_kernel(TOKENS), 4 * conjugate_kernel(TOKENS), rtol=1e-12)


@pytest.mark.parametrize("read_out", attention_kernels.READ_OUTS)
@pytest.mark.parametrize("score", attention_kernels.SCORES)
@pytest.mark.parametrize("kind", KERNELS)
def test_the_proposition_holds_with_one_token_only_and_its_weaker_parts_with_more(kind, score, read_out):
    for tokens in (1, 2):
        found = structure(KERNELS[kind](cube_tokens(4, tokens), score=score, read_out=read_out), tokens)
        broken = [found.spread, found.off_diagonal, found.within_degree]
        assert found.parity_leak < 1e-12
        assert found.ordered
        assert (np.max(broken) < 1e-9) == (tokens == 1)
        assert found.degree_means @ np.bincount(walsh.degrees(4)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("tokens", "read_out", "fraction"),
    [
        (2, "all", 0.285),
        (4, "all", 0.199),
        (8, "all", 0.0),
        (2, "mean", 0.735),
        (8, "mean", 0.935),
        (4, "first", 0.199),
    ],
)
def test_off_diagonal_fractions_of_eight_bits_are_those_noted_before(tokens, read_out, fraction):
    found = structure(conjugate_kernel(cube_tokens(8, tokens), read_out=read_out), tokens)
    assert found.off_diagonal == pytest.approx(fraction, abs=5e-4)


def test_the_counterexample_is_one():
    found = counterexample(conjugate_kernel(cube_tokens(4, 2)))
    inputs = np.stack([found.x, found.y, found.u, found.v]).reshape(4, 2, 2)
    own = conjugate_kernel(inputs)
    assert found.x @ found.y == found.u @ found.v == found.inner
    assert (own[0, 1], own[2, 3]) == (found.kernel_x_y, found.kernel_u_v) == (8, 4)


def test_a_kernel_of_the_inner_product_has_all_parts_and_others_are_told_apart():
    inner = walsh.signs(4) @ walsh.signs(4).T / 4
    found = structure(inner**3 + 0.5, 2)
    assert (found.spread, found.off_diagonal) == pytest.approx((0, 0), abs=1e-12)
    assert not degree_order_holds([0.1, 0.0, 0.2])
    one_bit = np.outer(walsh.signs(4)[:, 0], np.ones(16))
    assert structure(np.eye(16) + one_bit + one_bit.T, 2).parity_leak > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cube_tokens(4, 3), "tokens must divide bits"),
        (lambda: cube_tokens(0, 1), "bits"),
        (lambda: conjugate_kernel(TOKENS, score="softmax"), "finite_width_kernel samples softmax"),
        (lambda: conjugate_kernel(TOKENS, read_out="last"), "read_out must be one of"),
        (lambda: conjugate_kernel(TOKENS, TOKENS[:, :2]), "second must have tokens"),
        (lambda: conjugate_kernel(TOKENS[0]), r"first must be finite inputs \[m t w\]"),
        (lambda: finite_width_kernel("conjugate", width=0), "width must be"),
        (lambda: finite_width_kernel("conjugate", networks=1), "networks must be"),
        (lambda: finite_width_kernel("other"), "kind must be one of"),
        (lambda: structure(np.eye(8), 2), "tokens must divide the 3 bits"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
