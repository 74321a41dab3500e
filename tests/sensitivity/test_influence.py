"""The influence matrix of language models whose influences are known, and of a decoder by fast and plain evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import models, perturb, substitution
from jaxsens.execution import Execution
from jaxsens.models.substitution import causal
from jaxsens.models.text import encoder, llama
from jaxsens.sensitivity import token_influence
from jaxsens.sensitivity.influence import TokenInfluence

KEY = jax.random.key(3)
LENGTH, VOCABULARY = 5, 7
TEXTS = np.array([[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]], np.int32)


def next_id(key, draw, ids):
    """Replace every token by 5, and in the second draw by 6, which are in no text."""
    return jnp.full_like(ids, 5) + draw.astype(ids.dtype)


def bigram(table, ids):
    return table[ids]


def mean_pool(params, ids, mask=None):
    """Half of the probability is uniform, half is the share of each token in the text so far."""
    real = jnp.ones(ids.shape, bool) if mask is None else mask
    counts = jnp.cumsum(jax.nn.one_hot(ids, VOCABULARY) * real[..., None], axis=1)
    return jnp.log(0.5 / VOCABULARY + 0.5 * counts / jnp.maximum(jnp.cumsum(real, axis=1), 1)[..., None])


def measured(apply, params=None, *more, **options):
    return token_influence(substitution.one_at_a_time(apply), next_id, draws=2, **options)(KEY, params, TEXTS, *more)


def test_a_bigram_model_depends_on_the_last_token_alone():
    table = np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float32)
    found = measured(bigram, table)
    p = np.exp(table.astype(float)) / np.exp(table.astype(float)).sum(1, keepdims=True)
    before, after = p[TEXTS][:, None], p[[5, 6]][None, :, None]
    expected = {
        "prediction": (before.argmax(-1) != after.argmax(-1)).mean(1),
        "total variation": (np.abs(before - after).sum(-1) / 2).mean(1),
        "KL": (before * np.log(before / after)).sum(-1).mean(1),
    }
    for quantity, values in expected.items():
        np.testing.assert_allclose(found.by_distance(quantity).mean, [values.mean(), 0, 0, 0, 0], atol=1e-6)
        np.testing.assert_allclose(np.diag(found.matrix(quantity, example=1)), values[1], atol=1e-6)
    assert found.effective_context().mean == 1
    two = found.changes[1, :, 2, 2, 1].astype(float)
    np.testing.assert_allclose(found.matrix_sem(example=1)[2, 2], abs(two[0] - two[1]) / 2, rtol=1e-6)


def test_a_constant_model_has_no_influence():
    found = measured(lambda params, ids: jnp.broadcast_to(jnp.arange(7.0), (*ids.shape, VOCABULARY)))
    assert not found.changes.any()
    assert (found.mean, found.effective_context().mean) == (0, 0)


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_in_a_mean_pool_every_token_so_far_matters_as_much(padding):
    mask, real = None, np.arange(LENGTH)
    if padding != "none":
        real = np.arange(3) + 2 * (padding == "left")
        mask = np.broadcast_to(np.isin(np.arange(LENGTH), real), TEXTS.shape)
    found = measured(mean_pool, None, *([] if mask is None else [mask]))
    count = len(real)
    share = 0.5 / np.arange(1, count + 1)
    matrix = np.triu(np.ones((count, count))) * share
    np.testing.assert_allclose(found.matrix(example=0)[np.ix_(real, real)], matrix, atol=1e-6)
    np.testing.assert_allclose(found.mean, matrix.sum() / count, rtol=1e-5)
    distances = [np.diag(matrix, d).mean() for d in range(count)]
    np.testing.assert_allclose(found.by_distance().mean, distances, rtol=1e-5)
    np.testing.assert_allclose(found.effective_context().mean, (count + 1) / 2, rtol=1e-5)
    assert np.isnan(found.matrix()).sum() == LENGTH**2 - count**2


def test_the_effective_context_is_that_of_influences_of_any_size():
    every = np.ones((2, LENGTH), bool)
    changes = np.ones((2, 1, LENGTH, LENGTH, 3), np.float32) * np.tri(LENGTH, dtype=np.float32).T[..., None]
    for scale in (1, 1e-9):
        found = TokenInfluence(np.float32(scale) * changes, every, every)
        np.testing.assert_allclose(found.effective_context("KL").mean, (LENGTH + 1) / 2)


def test_a_decoder_is_measured_fast_and_plainly_with_equal_answers():
    sizes = {"width": 8, "depth": 1, "heads": 2, "key_heads": 1, "head_size": 4, "hidden": 6}
    states, every = (
        llama.Llama(llama.Config(**sizes, vocabulary=VOCABULARY, positions=8, read_out=read_out))
        for read_out in ("states", "every")
    )
    draws = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: draws.normal(size=leaf.shape).astype(np.float32), encoder.shapes_of(states))
    sampler, mask = perturb.replace_uniform(VOCABULARY), np.broadcast_to(np.arange(LENGTH) < 4, TEXTS.shape)
    fast = token_influence(causal(states, 2, 2), sampler, head=encoder.next_logits(states))
    plain = token_influence(substitution.one_at_a_time(models.evaluation(every)), sampler, execution=Execution(chunk=3))
    found, expected = (measure(KEY, variables, TEXTS, mask) for measure in (fast, plain))
    np.testing.assert_allclose(found.changes, expected.changes, atol=2e-5)
    assert found.changes[..., 1].max() > 0.1
    before = np.tri(LENGTH, k=-1, dtype=bool)
    assert not found.changes[:, :, before].any(), "what follows changes no prediction, to the bit"
    assert not found.changes[:, :, 4].any()


def test_what_cannot_be_measured_is_named():
    with pytest.raises(ValueError, match=r"logits for each of the 5 tokens of a text, \[t v\], got \(7,\)"):
        measured(lambda params, ids: jnp.zeros((len(ids), VOCABULARY)))
    hole = np.where(np.arange(LENGTH) == 2, np.nan, 0.0)[None, :, None]
    with pytest.raises(FloatingPointError, match=r"prediction after token 2 of text 0 is nan with token 0 replaced"):
        measured(lambda params, ids: hole + jnp.eye(VOCABULARY)[ids])
    found = measured(bigram, np.eye(VOCABULARY, dtype=np.float32))
    with pytest.raises(ValueError, match="quantity must be one of prediction, total variation, KL, got 'TV'"):
        found.total("TV")
    with pytest.raises(ValueError, match="example must be from 0 to 1, got 2"):
        found.matrix(example=2)
