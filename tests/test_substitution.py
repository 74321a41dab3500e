import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import substitution


def attention(params, tokens, mask=None):
    """A toy model in which every token counts, differently."""
    scores = tokens @ params @ jnp.swapaxes(tokens, -1, -2)
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, -jnp.inf)
    mixed = jax.nn.softmax(scores) @ tokens
    return {"first": mixed[:, 0], "norm": jnp.linalg.norm(mixed[:, 1], axis=-1)}


@pytest.fixture
def example():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((4, 4), (7, 4), (7, 4))]


@pytest.mark.parametrize("rows", [None, 1, 3, 8, 50])
def test_equals_replacing_by_hand(example, rows):
    params, tokens, alternatives = example
    clean, changed = substitution.one_at_a_time(attention, rows)(params, tokens, alternatives)
    one = lambda x: jax.tree.map(lambda a: a[0], attention(params, x[None]))  # noqa: E731
    chex.assert_trees_all_close(clean, one(tokens), atol=1e-6)
    for site in range(7):
        by_hand = one(tokens.at[site].set(alternatives[site]))
        chex.assert_trees_all_close(jax.tree.map(lambda a, s=site: a[s], changed), by_hand, atol=1e-6)


def test_no_more_than_rows_are_evaluated_at_once(example):
    seen = []

    def counted(params, tokens, mask=None):
        seen.append(len(tokens))
        return attention(params, tokens, mask)

    substitution.one_at_a_time(counted, rows=3)(*example)
    assert set(seen) == {3}


@pytest.mark.parametrize("rows", [None, 2])
def test_a_few_sites_are_rows_of_the_whole_in_fewer_evaluations(example, rows):
    seen = []

    def counted(params, tokens, mask=None):
        seen.append(len(tokens))
        return attention(params, tokens, mask)

    clean, changed = substitution.one_at_a_time(attention)(*example)
    sites = jnp.array([5, 0, 2])
    some = jax.jit(substitution.one_at_a_time(counted, rows))(*example, None, sites)
    chex.assert_trees_all_close(some, (clean, jax.tree.map(lambda a: a[sites], changed)), atol=1e-6)
    assert seen == [rows or 4]


def test_ids_are_tokens_too():
    tokens, flipped = jnp.array([0, 1, 1]), jnp.array([1, 0, 0])
    parity = lambda params, x, mask=None: 1.0 - 2.0 * (x.sum(1) % 2)  # noqa: E731
    clean, changed = substitution.one_at_a_time(parity)(None, tokens, flipped)
    assert clean == 1
    np.testing.assert_array_equal(changed, [-1, -1, -1])


def test_the_mask_reaches_every_copy(example):
    params, tokens, alternatives = example
    mask = jnp.arange(7) < 5
    full = substitution.one_at_a_time(attention)(params, tokens, alternatives, mask)
    short = substitution.one_at_a_time(attention)(params, tokens[:5], alternatives[:5])
    chex.assert_trees_all_close(full[0], short[0], atol=1e-6)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[:5], full[1]), short[1], atol=1e-6)


def test_equal_builds_are_equal():
    assert substitution.one_at_a_time(attention, 3) == substitution.one_at_a_time(attention, 3)
    assert hash(substitution.one_at_a_time(attention)) == hash(substitution.one_at_a_time(attention))


def test_bad_arguments_are_named(example):
    params, tokens, alternatives = example
    with pytest.raises(ValueError, match="rows must be an integer of at least 1"):
        substitution.one_at_a_time(attention, 0)
    with pytest.raises(ValueError, match="alternatives must have the shape and dtype of the tokens"):
        substitution.one_at_a_time(attention)(params, tokens, alternatives[:3])
    for sites in ([0, 7], [-1], [0.5], [[1]], [True], []):
        with pytest.raises(ValueError, match="sites must be a vector of integers from 0 to 6"):
            substitution.one_at_a_time(attention)(params, tokens, alternatives, None, np.array(sites))


def test_sites_may_be_narrow_integers_or_a_list():
    substitute = substitution.one_at_a_time(lambda params, x, mask=None: x.sum(-1))
    tokens, alternatives = np.zeros(256, np.float32), np.ones(256, np.float32)
    for sites in (np.array([1, 255], np.uint8), [1, 255]):
        clean, changed = substitute(None, tokens, alternatives, None, sites)
        assert (float(clean), changed.tolist()) == (0, [1, 1])


def test_a_substitution_that_takes_sites_is_recognized_by_its_signature():
    assert substitution.takes_sites(substitution.one_at_a_time(len))
    assert not substitution.takes_sites(lambda params, tokens, alternatives, mask=None: None)
    assert not substitution.takes_sites(max)
