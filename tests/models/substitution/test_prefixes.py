"""Law 4 for causal models: shared prefixes give what the plain way gives, with as many operations as are counted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import models, substitution
from jaxsens.execution import flops
from jaxsens.models.substitution import causal, causal_operations
from jaxsens.models.text import bert, encoder, gpt2, llama, lstm
from tests.models.substitution.nonfinite import only_its_own_output_is_not_finite

# Compiling is what takes long; what LLVM makes of the program is not what is tested.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

COUNT, VOCABULARY = 7, 13


def decoder(**changes):
    sizes = {"width": 12, "depth": 2, "heads": 3, "hidden": 10, "vocabulary": VOCABULARY, "positions": 9}
    return gpt2.GPT2(gpt2.Config(**sizes | changes))


def rotated(**changes):
    """A Llama of which several queries share a key."""
    sizes = {"width": 12, "depth": 2, "heads": 4, "key_heads": 2, "head_size": 4, "hidden": 10}
    return llama.Llama(llama.Config(**{**sizes, "vocabulary": VOCABULARY, "positions": 9} | changes))


def recurrent(**changes):
    return lstm.LSTM(lstm.Config(**{"vocabulary": VOCABULARY, "width": 6, "depth": 2, "classes": 3} | changes))


# A module, rows and tile: some divide the tokens and some do not.
CASES = {
    "next token": (decoder(depth=3), 3, 2),
    "last token": (decoder(read_out="last", classes=2, attention="relu"), 2, 7),
    "every token": (decoder(read_out="every"), 3, 3),
    "one layer": (decoder(depth=1), 8, 4),
    "Llama, next token": (rotated(tied=False, normalized_queries=True), 3, 2),
    "Llama, states": (rotated(read_out="states", window=3, full_layers=1, projection_biases=True), 2, 3),
    "LSTM": (recurrent(), 3, 2),
    "LSTM, mean": (recurrent(read_out="mean"), 2, 3),
}
MASKS = {"none": None, "right": np.arange(COUNT) < 5, "both": (np.arange(COUNT) > 1) & (np.arange(COUNT) < 6)}


@functools.cache
def example(module, dtype=np.float32):
    """Variables that are all large enough to matter, a text and its alternatives."""
    draws = np.random.default_rng(0)

    def draw(path, leaf):
        spread = leaf.shape[0] ** -0.5 if path[-1].key in ("kernel", "from_before") else 1
        return (spread * draws.normal(size=leaf.shape)).astype(dtype)

    ids = np.tile(np.arange(VOCABULARY, dtype=np.int32), (COUNT, 1))
    return jax.tree.map_with_path(draw, encoder.shapes_of(module)), *draws.permuted(ids, axis=1)[:, :2].T


def plain_of(module):
    return substitution.one_at_a_time(models.evaluation(module))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_plain_one_in_float64(name, float64):
    module, rows, tile = CASES[name]
    module = type(module)(dataclasses.replace(module.config, dtype="float64"))
    variables, tokens, alternatives = example(module, np.float64)
    plain, fast = quick(plain_of(module)), quick(causal(module, rows, tile))
    for mask in MASKS.values():
        expected, found = (run(variables, tokens, alternatives, mask) for run in (plain, fast))
        only_its_own_output_is_not_finite(fast, variables, tokens, alternatives, mask, found[1])
        if module.config.read_out in ("every", "states"):  # before the replaced token, to the bit
            assert not (found[1] != found[0][None]).any(2)[np.tri(COUNT, k=-1, dtype=bool)].any()
        if module.config.read_out in ("every", "states") and mask is not None:  # outputs at padding are not defined
            expected, found = ([outputs[..., mask, :] for outputs in pair] for pair in (expected, found))
        scale = np.abs(expected[1]).max()
        assert found[0].dtype == np.float64
        assert np.ptp(np.asarray(expected[1]), axis=0).max() > 1e-3 * scale
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["next token", "Llama, next token", "LSTM"])
def test_is_no_less_exact_in_float32(name):
    module, rows, tile = CASES[name]
    variables, tokens, alternatives = example(module)
    with jax.enable_x64(True):
        wide = type(module)(dataclasses.replace(module.config, dtype="float64"))
        exact = np.asarray(quick(plain_of(wide))(jax.tree.map(np.float64, variables), tokens, alternatives)[1])
    plain, fast = (
        np.sqrt(np.mean((np.asarray(quick(run)(variables, tokens, alternatives)[1]) - exact) ** 2))
        for run in (plain_of(module), causal(module, rows, tile))
    )
    assert 0 < fast < 2 * plain, (plain, fast)


@pytest.mark.parametrize("name", ["next token", "LSTM, mean"])
def test_a_few_sites_of_each_text_are_rows_of_the_whole(name):
    """The sites differ between the texts that are mapped together, as those of a sample do."""
    module, rows, tile = CASES[name]
    variables, tokens, alternatives = example(module)
    clean, changed = quick(causal(module, rows, tile))(variables, tokens, alternatives)
    sites = np.array([[6, 0, 3], [2, 5, 4]])
    some = quick(jax.vmap(lambda sites: causal(module, 2, tile)(variables, tokens, alternatives, None, sites)))(sites)
    np.testing.assert_allclose(some[0], np.stack([clean, clean]), rtol=0, atol=1e-5)
    np.testing.assert_allclose(some[1], changed[sites], rtol=0, atol=1e-5)


def test_outputs_before_a_few_sites_are_the_clean_ones_to_the_bit():
    module = CASES["Llama, states"][0]
    variables, tokens, alternatives = example(module)
    sites = np.array([4, 1, 6])
    clean, changed = jax.jit(causal(module, 2, 2))(variables, tokens, alternatives, None, sites)
    differs = (np.asarray(changed) != clean[None]).any(2)
    np.testing.assert_array_equal(differs, np.arange(COUNT)[None] >= sites[:, None])


def test_embeddings_are_tokens_too():
    module, rows, tile = CASES["next token"]
    variables, tokens, alternatives = example(module)
    x, y = encoder.embed(module)(variables, np.stack([tokens, alternatives]))
    by_ids = quick(causal(module, rows, tile))(variables, tokens, alternatives)
    by_embeddings = quick(causal(module, rows, tile, embeddings=True))(variables, x, y)
    for a, b in zip(by_ids, by_embeddings, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [decoder, rotated])
def test_logits_of_states_are_those_of_every_token(make):
    states, every = make(read_out="states"), make(read_out="every")
    variables, tokens, _ = example(every)
    expected = models.evaluation(every)(variables, tokens[None])
    found = encoder.next_logits(states)(variables, models.evaluation(states)(variables, tokens[None]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_token_that_is_replaced_by_itself_changes_no_bit():
    for name in ("next token", "LSTM"):
        module, rows, tile = CASES[name]
        variables, tokens, _ = example(module)
        clean, changed = quick(causal(module, rows, tile))(variables, tokens, tokens)
        np.testing.assert_array_equal(changed, np.broadcast_to(clean, changed.shape))


WIDE = {"width": 128, "heads": 4, "hidden": 512, "positions": 64}


@pytest.mark.parametrize(
    ("module", "ratio"),
    [
        (decoder(**WIDE, depth=3), 2.34),
        (decoder(**WIDE, read_out="every"), 1.59),
        (rotated(**WIDE, depth=3, head_size=32), 2.28),
        (recurrent(width=128), 1.76),
    ],
    ids=["next token", "every token", "Llama", "LSTM"],
)
def test_operations_are_those_of_the_programs(module, ratio):
    count, rows, tile = 64, 4, 8
    config, tokens = module.config, jax.ShapeDtypeStruct((count,), jnp.int32)
    plain, shared = (
        flops.count(run, encoder.shapes_of(module), tokens, tokens).operations
        for run in (plain_of(module), causal(module, rows, tile))
    )
    said_plain, said_shared = causal_operations(config, count, rows, tile)
    counted = said_shared
    if getattr(config, "reads_one_row", False):  # the read-out is in a condition, and counted in every turn of the loop
        turns = sum(8 - max(0, site) // tile for site in range(60, -5, -rows))
        last = 8 * 128**2 + 4 * 128 * 512 + 4 * count * config.heads * 128
        if isinstance(config, llama.Config):
            last = 4 * 128**2 + 6 * 128 * 512 + 4 * count * 128
        counted += (turns - 17) * rows * last
    np.testing.assert_allclose([plain, shared], [said_plain, counted], rtol=0.02)
    assert round(said_plain / said_shared, 2) == ratio


def test_other_modules_are_refused():
    module = bert.Bert(bert.Config(width=4, depth=1, heads=1, hidden=4, vocabulary=5, positions=4))
    with pytest.raises(ValueError, match=r"module.*Bert.*GPT2, a Llama or an LSTM"):
        causal(module)
    with pytest.raises(ValueError, match="tile"):
        causal(decoder(), tile=0)
