"""Models with an output for each token, and groups of tokens in every measure of token sensitivity."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import changes, substitution
from jaxsens.execution import Execution
from jaxsens.sensitivity import Groups

KEY = jax.random.key(0)
BITS = np.random.default_rng(0).integers(0, 2, (3, 5), np.int32)
MASK = np.array([[True] * 5, [True, True, True, False, False], [False, True, True, True, True]])


def running_parity(params, bits, mask=None):
    """The sign of output j is the parity of bits 0 to j: flipping bit i changes outputs i, i + 1, ... and no others."""
    real = bits if mask is None else jnp.where(mask, bits, 0)
    return 1.0 - 2.0 * (jnp.cumsum(real, 1) % 2)


def flip(key, draw, bits):
    return 1 - bits


def measured(positions, *, apply=running_parity, change=changes.prediction_change, mask=MASK, sites=None, tokens=BITS):
    over = changes.over_positions(change, positions)
    measure = jaxsens.token_sensitivity(substitution.one_at_a_time(apply), flip, change=over)
    return measure(KEY, None, tokens, mask, sites)


SITE, J = np.arange(5)[:, None], np.arange(5)[None]
SETS = {
    "all": J >= 0,
    "sites": J >= 0,
    "replaced": SITE == J,
    "others": SITE != J,
    "onward": J >= SITE,
    (2,): J == 2,
    (1, 2): (J == 1) | (J == 2),
}


@pytest.mark.parametrize("positions", SETS, ids=str)
def test_a_running_parity_changes_from_the_flipped_bit_on(positions):
    """The share of changed predictions is that of the positions in P which are at or after the site."""
    real = MASK[:, None] & SETS[positions][None]
    with np.errstate(invalid="ignore"):
        truth = (real & (J >= SITE)).sum(2) / real.sum(2)
    found = measured(positions)
    np.testing.assert_allclose(found.values, np.where(MASK, truth, np.nan), rtol=1e-6)
    assert found.rate
    assert found.interval()[1] <= 1


def test_positions_that_are_sites_are_those_of_the_words():
    """Between two marks that are no sites; the output at the last one would change always."""
    words = np.array([False, True, True, True, False])
    found = measured("sites", sites=words, mask=None)
    np.testing.assert_allclose(found.per_token, [np.nan, 1, 2 / 3, 1 / 3, np.nan], rtol=1e-6)
    np.testing.assert_allclose(measured("all", sites=words, mask=None).per_token[1:4], [0.8, 0.6, 0.4], rtol=1e-6)


def test_groups_that_are_replaced_and_the_positions_around_them():
    """Bits 1 and 3 flipped together change outputs 1 and 2, since they cancel from 3 on; bit 2 changes 2, 3 and 4."""
    groups = Groups([-1, 0, 1, 0, -1])
    for positions, expected in (
        ("replaced", [1 / 2, 1]),
        ("others", [1 / 3, 2 / 4]),
        ("onward", [2 / 4, 1]),
    ):
        found = measured(positions, sites=groups, mask=None)
        np.testing.assert_allclose(found.values, [expected] * 3, rtol=1e-6)


def test_distances_are_averaged_and_padding_need_not_be_finite():
    """Output j is 3 x_j: a flip moves it by 3, and no other; outputs of padding are NaN."""

    def tripled(params, bits, mask):
        return jnp.where(mask, 3.0 * bits, jnp.nan)[..., None]

    found = measured("all", apply=tripled, change=changes.squared_change)
    np.testing.assert_allclose(found.values, np.where(MASK, 9 / MASK.sum(1, keepdims=True), np.nan), rtol=1e-6)
    assert not found.rate
    with pytest.raises(FloatingPointError, match="not finite for example 0 as it is"):
        measured("all", apply=lambda p, x, m: tripled(p, x, m & (x < 0)), change=changes.squared_change)


def test_outputs_that_do_not_fit_are_refused():
    for options, message in (
        ({"positions": "all", "apply": lambda p, x, m: x.sum(1) * 1.0}, r"an output for each token, \[t \*k\]"),
        ({"positions": "all", "apply": lambda p, x, m: x[:, 1:] * 1.0}, "for each of 5 tokens.* got outputs for 4"),
        ({"positions": "all", "change": lambda a, b: jnp.stack([a, b])}, "position's output to a scalar"),
        ({"positions": 5}, "positions must be from 0 to 4, got 5"),
        ({"positions": [4, 3]}, r"counts for example 1, since \(3, 4\) has no real token"),
        ({"positions": "others", "mask": np.array([[1], [1], [2]]) == J}, "counts for example 0, since 'others'"),
        ({"positions": "others", "sites": Groups([0] * 5), "mask": None}, "counts for example 0, since 'others'"),
    ):
        with pytest.raises(ValueError, match=message):
            measured(**options)
    for change, positions, message in (
        (changes.over_positions(), "all", "over positions already"),
        (changes.sign_change, "before", "positions must be one of all, sites, replaced, others, onward"),
        (changes.sign_change, [], "positions must be one of"),
        (changes.sign_change, [-1], "positions must be one of"),
        (changes.sign_change, [True, False], "positions must be one of"),
        (3, "all", "change must be a function"),
    ):
        with pytest.raises(ValueError, match=message):
            changes.over_positions(change, positions)
    with pytest.raises(ValueError, match="'others' needs a token that is replaced"):
        changes.over_positions(changes.sign_change, "others")(jnp.zeros(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("apply", "change", "warned"),
    [
        (running_parity, changes.prediction_change, True),
        (lambda p, x: jnp.stack([1.0 * x, 2.0 * x], -1), changes.euclidean_change, True),
        (lambda p, x: x * 2.0, lambda clean, changed: jnp.abs(changed - clean).max(), False),  # meant
        (lambda p, x: x.mean(1)[:, None] * jnp.arange(5.0)[None], changes.prediction_change, False),  # as many classes
        (lambda p, x: jnp.einsum("bt,tk->bk", 1.0 * x, jnp.eye(5)), changes.squared_change, False),  # of one length
    ],
)
def test_outputs_of_all_tokens_taken_for_one_are_warned_of(apply, change, warned):
    measure = jaxsens.token_sensitivity(substitution.one_at_a_time(apply), flip, change=change)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measure(KEY, None, BITS)
    assert any("pass change=changes.over_positions(changes." in str(one.message) for one in caught) is warned
    assert all(one.filename == __file__ for one in caught if "over_positions" in str(one.message))


def test_logits_for_each_token_name_the_remedy():
    substitute = substitution.one_at_a_time(lambda params, x: jnp.stack([1.0 * x, 2.0 * x], -1))
    with pytest.raises(ValueError, match=r"pass changes.over_positions\(changes.prediction_change\)"):
        jaxsens.token_sensitivity(substitute, flip)(KEY, None, BITS)


def test_a_sigmoid_at_each_token_is_warned_of():
    with pytest.warns(UserWarning, match="return the logit"):
        measured("all", apply=lambda params, x, mask: jax.nn.sigmoid(running_parity(params, x, mask)))


TOKENS = np.random.default_rng(1).normal(size=(24, 6, 2)).astype(np.float32)
LABELS = np.where(np.arange(24)[:, None] % 2, [0, 0, 1, 1, 2, -1], [0, 1, 1, 1, -1, -1])
WEIGHTS = np.random.default_rng(2).normal(size=(2, 3)).astype(np.float32)
ONE = Execution(devices=jax.devices()[:1])


def logits(params, tokens, mask=None):
    return jnp.tanh(tokens.sum(1)) @ params


def in_steps(params, tokens, mask=None):
    """A precision so low that it is often wrong."""
    return logits(params, jnp.round(4 * tokens) / 4, mask)


@pytest.fixture(scope="module")
def of_groups():
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(logits), jaxsens.perturb.gaussian(1.0), draws=2, execution=ONE
    )
    return measure(KEY, WEIGHTS, TOKENS, sites=Groups(LABELS))


def test_groups_that_are_drawn_change_as_they_do_among_all(of_groups):
    measure = jaxsens.token_sensitivity(
        substitution.one_at_a_time(logits), jaxsens.perturb.gaussian(1.0), draws=2, sites_drawn=2, execution=ONE
    )
    some = measure(KEY, WEIGHTS, TOKENS, sites=Groups(LABELS))
    np.testing.assert_array_equal(some.sites.sum(1), 2)
    assert (some.sites <= of_groups.sites).all()
    np.testing.assert_array_equal(some.changes, of_groups.changes & some.sites[:, None])
    assert 0 < some.changes.mean() < 1


def test_groups_are_sampled(of_groups):
    """Every change is that of the full grid, whether a part of the examples has fewer groups or not."""
    measure = jaxsens.sampled_token_sensitivity(
        substitution.one_at_a_time(logits), jaxsens.perturb.gaussian(1.0), target_sem=0.1, pilot=10, pilot_sites=2,
        execution=ONE,
    )  # fmt: skip
    found = measure(KEY, WEIGHTS, TOKENS, sites=Groups(LABELS))
    shown = found.measured.sites[:, None]
    draws = min(found.allocation.draws, 2)
    expected = of_groups.changes[found.examples] & shown
    np.testing.assert_array_equal(found.measured.changes[:, :draws], expected[:, :draws])
    assert found.measured.sites.shape == (found.count, 3)
    assert expected.any()


def test_groups_are_screened(of_groups):
    measure = jaxsens.screened_token_sensitivity(
        substitution.one_at_a_time(logits), jaxsens.perturb.gaussian(1.0), draws=2, calibration=24, audit=0,
        screen=substitution.one_at_a_time(in_steps), execution=ONE,
    )  # fmt: skip
    found = measure(KEY, WEIGHTS, TOKENS, sites=Groups(LABELS))
    np.testing.assert_array_equal(found.measured.changes, of_groups.changes)
    assert found.screening.total == 2 * of_groups.sites.sum()
    assert found.screening.redone > 0


def test_a_causal_language_model_changes_onward_only():
    """With the fast substitution, whose outputs are those of the plain way."""
    from jaxsens import models
    from jaxsens.models.text import encoder, gpt2

    config = gpt2.Config(vocabulary=7, positions=5, width=4, depth=1, heads=1, hidden=4, read_out="every")
    module = gpt2.GPT2(config)
    ids = np.random.default_rng(3).integers(0, 7, 5, np.int32)
    variables = encoder.init(module, KEY)
    copies = np.concatenate([ids[None], np.where(np.eye(5, dtype=bool), (ids + 1) % 7, ids)])
    outputs = np.asarray(jax.jit(models.evaluation(module))(variables, copies))
    moved = np.linalg.norm(outputs[1:] - outputs[:1], axis=-1)
    assert not moved[J < SITE].any()
    fast, onward = models.substitution.encoder(module), changes.over_positions(changes.euclidean_change, "onward")
    measure = jaxsens.token_sensitivity(fast, lambda key, draw, x: (x + 1) % 7, change=onward, execution=ONE)
    np.testing.assert_allclose(measure(KEY, variables, ids[None]).values[0], moved.sum(1) / (5 - SITE[:, 0]), rtol=1e-4)
    with pytest.raises(ValueError, match="SharedLayers replaces one token at a time: pass the plain way"):
        jaxsens.token_sensitivity(fast, flip, change=onward)(KEY, variables, ids[None], sites=Groups([0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match="sites are groups of tokens"):
        fast(variables, ids, ids, None, np.ones((1, 5), bool))
