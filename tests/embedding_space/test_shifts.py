"""Shifts of states: equal to one forward for each replacement, padding counted nowhere, the same on all devices."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.embedding_space import embedding_shifts, identifiability, joint_shifts
from jaxsens.embedding_space.states import Encoding
from jaxsens.execution import Execution
from jaxsens.models.text import bert, encoder

VOCABULARY, LENGTH, WIDTH = 11, 5, 4
TOKENS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 10, 1, 3, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
SITES = np.array([[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0]], bool)
OTHER = ((TOKENS + 3) % VOCABULARY).astype(np.int32)
RNG = np.random.default_rng(0)
PARAMS = {
    "table": RNG.normal(size=(VOCABULARY, WIDTH)).astype(np.float32),
    "mix": RNG.normal(size=(LENGTH, LENGTH)).astype(np.float32),
}
ORDER = {"l1": 1, "l2": 2, "linf": np.inf}


def encode(params, tokens, mask=None):
    """Embeddings; a map of each token separately; and one that mixes the real ones. Padding holds arbitrary numbers."""
    x = params["table"][tokens]
    y = jnp.tanh(2 * x) + 1
    seen = y if mask is None else jnp.where(mask[..., None], y, 0)
    z = y + jnp.einsum("ij,bjd->bid", params["mix"], seen) ** 2
    if mask is not None:
        z = jnp.where(mask[..., None], z, 1e9 * jnp.sum(y, (1, 2), keepdims=True))
    return jnp.stack([x, y, z])


def with_class(params, patches, mask):
    """States of patches, with a class token's before them."""
    x = jnp.concatenate([jnp.broadcast_to(params["table"][:1], (len(patches), 1, WIDTH)), patches], 1)
    real = jnp.concatenate([jnp.ones_like(mask[:, :1]), mask], 1)
    return jnp.stack([x, x + jnp.sum(jnp.where(real[..., None], x, 0), 1, keepdims=True) ** 2])


def one_forward_each(encode, params, tokens, other, mask, sites, first=0):
    """Shifts and sizes by plain loops in NumPy: ``{(norm, at): ([b t l], [b t l])}``, NaN where there is no site."""
    layers = len(encode(params, tokens[:1], mask[:1]))
    result = {
        (n, at): np.full((2, *tokens.shape[:2], layers), np.nan) for n in ORDER for at in ("own", "others", "whole")
    }
    for b, t in np.argwhere(sites):
        changed = tokens[b].copy()
        changed[t] = other[b, t]
        clean, moved = (
            np.asarray(encode(params, x[None], mask[b][None]), np.float64)[:, 0] for x in (tokens[b], changed)
        )
        real = np.concatenate([np.ones(first, bool), mask[b]])
        own = np.arange(len(real)) == t + first
        for at, where in (("own", own), ("others", real & ~own), ("whole", real)):
            for (norm, order), layer in itertools.product(ORDER.items(), range(layers)):
                for i, x in enumerate((moved - clean, clean)):
                    value = x[layer, where].ravel()
                    result[norm, at][i, b, t, layer] = np.linalg.norm(value, order) if value.size else 0
    return result


def assert_equal_to_plain(shifts, expected, layers=slice(None), **tolerance):
    for (norm, at), (shift, size) in expected.items():
        np.testing.assert_allclose(shifts.values(norm, at=at), shift[..., layers], **tolerance)
        with np.errstate(invalid="ignore"):
            relative = np.where(shift == 0, 0, shift / size)
        np.testing.assert_allclose(shifts.values(norm, at=at, relative=True), relative[..., layers], **tolerance)


@pytest.mark.parametrize("chunk", [1, 4, 12])
def test_equal_to_one_forward_for_each_replacement(chunk):
    expected = one_forward_each(encode, PARAMS, TOKENS, OTHER, MASK, SITES)
    shifts = embedding_shifts(encode, execution=Execution(chunk=chunk))(PARAMS, TOKENS, OTHER, MASK, SITES)
    assert_equal_to_plain(shifts, expected, rtol=2e-5, atol=1e-5)
    assert shifts.layers == (0, 1, 2)
    assert (shifts.values(at="others")[SITES][:, :2] == 0).all()
    assert (shifts.values(at="others")[SITES][:, 2] > 0).all()


def test_layers_and_norms_can_be_chosen_and_one_norm_needs_no_other():
    expected = one_forward_each(encode, PARAMS, TOKENS, OTHER, MASK, SITES)
    shifts = embedding_shifts(encode, norms=["linf"], layers=[-1, 0], execution=Execution(chunk=3))(
        PARAMS, TOKENS, OTHER, MASK, SITES
    )
    assert (shifts.norms, shifts.layers, shifts.own.shape) == (("linf",), (2, 0), (3, 5, 2, 1))
    expected = {key: value for key, value in expected.items() if key[0] == "linf"}
    assert_equal_to_plain(shifts, expected, layers=[2, 0], rtol=2e-5, atol=1e-5)
    with pytest.raises(ValueError, match="norm must be one of those measured, linf, got 'l2'"):
        shifts.values()


def test_without_a_mask_all_tokens_are_real_and_sites():
    full = np.ones_like(MASK)
    expected = one_forward_each(encode, PARAMS, TOKENS, OTHER, full, full)
    assert_equal_to_plain(
        embedding_shifts(lambda p, x: encode(p, x))(PARAMS, TOKENS, OTHER), expected, rtol=2e-5, atol=1e-5
    )


def test_states_before_those_of_the_tokens_are_others_and_tokens_may_be_vectors():
    patches, other = PARAMS["table"][TOKENS], PARAMS["table"][OTHER]
    expected = one_forward_each(with_class, PARAMS, patches, other, MASK, SITES, first=1)
    shifts = embedding_shifts(with_class, execution=Execution(chunk=4))(PARAMS, patches, other, MASK, SITES)
    assert_equal_to_plain(shifts, expected, rtol=2e-5, atol=1e-5)


def test_equal_bits_on_any_number_of_devices_and_either_backend(devices):
    def run(chunk, count, backend):
        measure = embedding_shifts(
            encode,
            execution=Execution(chunk=chunk, backend=backend, devices=devices[:count]),
        )
        return measure(PARAMS, TOKENS, OTHER, MASK, SITES)

    one = run(2, 1, "pmap")
    for count, backend in ((2, "pmap"), (8, "shard_map")):
        jax.tree.map(np.testing.assert_array_equal, one, run(2, count, backend))
    jax.tree.map(np.testing.assert_array_equal, run(12, 1, "pmap"), run(12, 2, "pmap"))  # several sequences at once


def test_layers_above_the_last_chosen_one_are_not_computed():
    def operations(*layers):
        one = Encoding(encode, layers)
        compiled = jax.jit(one).lower(PARAMS, TOKENS[0], OTHER[0], MASK[0], np.eye(5, dtype=bool)).compile()
        return compiled.cost_analysis()["flops"]

    assert operations(0, 1) < operations(0, 1, 2) / 2


def test_means_over_sites_then_sequences():
    shifts = embedding_shifts(encode)(PARAMS, TOKENS, OTHER, MASK, SITES)
    values = shifts.values("l1", at="own", relative=True)
    means = np.array([np.nanmean(values[b], 0) for b in range(3)])
    estimate = shifts.estimate("l1", at="own", relative=True)
    np.testing.assert_allclose(estimate.mean, means.mean(0))
    np.testing.assert_allclose(estimate.sem, means.std(0, ddof=1) / np.sqrt(3))
    chosen = TOKENS == 3  # at a site of the sequences 0 and 2
    one_token = shifts.estimate("l1", chosen=chosen)
    assert one_token.count == 2
    np.testing.assert_allclose(one_token.mean, shifts.values("l1")[[0, 2], [2, 3]].mean(0))
    with pytest.raises(ValueError, match="chosen holds no site"):
        shifts.estimate(chosen=TOKENS == 6)
    with pytest.raises(ValueError, match="chosen must be booleans"):
        shifts.estimate(chosen=TOKENS)
    with pytest.raises(ValueError, match="at must be one of own, others, whole"):
        shifts.values(at="mixing")


@functools.cache
def tiny_bert():
    config = bert.Config(vocabulary=VOCABULARY, positions=6, width=8, depth=2, heads=2, hidden=8, epsilon=1e-3)
    module = bert.Bert(config)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), encoder.shapes_of(module))
    return encoder.hidden_states(module), params


def test_a_bert_moves_where_it_should():
    """At the embeddings nothing but the token itself; two tokens at once add up there, and only there."""
    states, params = tiny_bert()
    expected = one_forward_each(jax.jit(states), params, TOKENS, OTHER, MASK, SITES)
    shifts = embedding_shifts(states, execution=Execution(chunk=3))(params, TOKENS, OTHER, MASK, SITES)
    assert_equal_to_plain(shifts, expected, rtol=1e-3, atol=1e-4)
    assert (shifts.values(at="others")[SITES][:, 0] == 0).all()
    assert (shifts.values(at="others")[SITES][:, 1:] > 1e-3).all()
    joint = joint_shifts(states)(params, TOKENS, OTHER, np.array([[[1, 3]], [[1, 2]], [[0, 2]]]), MASK)
    assert joint.estimate().mean[0] < 1e-6
    assert (joint.estimate().mean[1:] > 1e-2).all()


def test_joint_shifts_are_those_of_plain_forwards():
    places = np.array([[[1, 2, 3], [3, -1, -1]], [[0, 1, 2], [2, -1, 0]], [[1, 3, 2], [-1, 1, -1]]])
    result = joint_shifts(encode, execution=Execution(chunk=7))(PARAMS, TOKENS, OTHER, places, MASK)
    for b, g in np.ndindex(3, 2):

        def change(replaced, b=b):
            changed = TOKENS[b].copy()
            changed[replaced] = OTHER[b, replaced]
            states = (encode(PARAMS, x[None], MASK[b][None])[:, 0][:, MASK[b]] for x in (changed, TOKENS[b]))
            return np.subtract(*(np.asarray(x, np.float64) for x in states)).reshape(3, -1)

        used = [p for p in places[b, g] if p >= 0]
        joint, added = change(used), sum(change([p]) for p in used)
        for values, x in ((result.joint, joint), (result.added, added), (result.interaction, joint - added)):
            expected = [[np.linalg.norm(x[layer], order) for order in ORDER.values()] for layer in range(3)]
            np.testing.assert_allclose(values[b, g], expected, rtol=1e-4, atol=2e-5)
    assert (result.interaction[0, 0, 2] > 0.1).all()
    np.testing.assert_allclose(result.interaction[:, 1][[0, 2]], 0, atol=2e-5)  # groups of one
    ratio = (result.interaction / result.joint)[..., 1].mean(1)
    np.testing.assert_allclose(result.estimate("l2").mean, ratio.mean(0), rtol=1e-5)
    assert result.estimate().count == 3


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (np.ones((2, 1, 2), int), "integers .b g m. with b = 3"),
        (np.array([[[1, 1]], [[0, 1]], [[0, 1]]]), r"places\[0, 0\]"),
        (np.array([[[1, 2]], [[0, 3]], [[0, 1]]]), r"places\[1, 0\]"),
        (np.array([[[1, 2]], [[0, 1]], [[-1, -1]]]), r"places\[2, 0\]"),
    ],
)
def test_places_that_do_not_fit_are_named(places, message):
    with pytest.raises(ValueError, match=message):
        joint_shifts(encode)(PARAMS, TOKENS, OTHER, places, MASK)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_identifiability_is_the_nearest_row_of_every_state(metric):
    result = identifiability(encode, metric=metric, block=4, execution=Execution(chunk=2))(
        PARAMS, PARAMS["table"], np.where(MASK, TOKENS, -1), MASK, SITES, exclude=[0]
    )
    states = np.asarray(encode(PARAMS, TOKENS, MASK), np.float64)
    table = PARAMS["table"].astype(np.float64)
    if metric == "cosine":
        unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
        score = unit @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T
    else:
        score = -np.linalg.norm(states[..., None, :] - table, axis=-1)
    score[..., 0] = -np.inf
    expected = np.moveaxis(score.argmax(-1), 0, -1)
    np.testing.assert_array_equal(result.nearest[SITES], expected[SITES])
    assert (result.nearest[~SITES] == -1).all()
    assert result.rate(0).mean == 1  # the embeddings themselves
    own = np.where(SITES[..., None], expected == TOKENS[..., None], False)
    np.testing.assert_allclose(result.per_sequence, own.sum(1) / SITES.sum(1)[:, None])
    assert (result.rate(2).mean, result.rate(2).count) == (pytest.approx(result.per_sequence[:, 2].mean()), 3)
    assert result.rate(2).interval()[1] <= 1
    with pytest.raises(ValueError, match="layer must be one of"):
        result.rate(3)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_states_with_one_large_dimension_are_identified(metric):
    """The states are the rows themselves; float32 scores alone identify a hundredth of them."""
    table = np.float32(0.05) * RNG.normal(size=(60, 16)).astype(np.float32)
    table[:, 0] = 3000
    tokens = RNG.integers(0, 60, (4, 5))
    found = identifiability(lambda params, ids: params[ids][None], metric=metric, execution=Execution(chunk=2))(
        table, table, tokens
    )
    assert found.identified.all()


def test_sites_must_be_rows_of_the_table():
    measure = identifiability(lambda params, ids: params[jnp.maximum(ids, 0)][None])
    for wrong in (-1, VOCABULARY):
        with pytest.raises(ValueError, match=rf"0 to 10, got {wrong} in sequence 1 at position 2"):
            measure(PARAMS["table"], PARAMS["table"], np.where(TOKENS == 8, wrong, TOKENS), MASK)


def test_a_class_token_is_not_identified():
    states = identifiability(lambda params, ids, mask: with_class(params, params["table"][ids], mask), layers=[0])
    assert states(PARAMS, PARAMS["table"], TOKENS, MASK).rate(0).mean == 1


def measure(**changes):
    arguments = {
        "encode": encode,
        "params": PARAMS,
        "tokens": TOKENS,
        "alternatives": OTHER,
        "mask": MASK,
        "sites": SITES,
    }
    options = {key: changes.pop(key) for key in ("norms", "layers", "chunk") if key in changes}
    arguments |= changes
    return embedding_shifts(arguments.pop("encode"), **options)(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norms": ("l3",)}, "norms must be different names out of l1, l2, linf"),
        ({"norms": ()}, "norms must be"),
        ({"norms": ("l1", "l1")}, "norms must be"),
        ({"layers": [3]}, "layers must be integers from 0 to 2"),
        ({"layers": "last"}, 'layers must be "all"'),
        ({"layers": []}, "layers must be integers"),
        ({"layers": [1.0]}, "layers must be integers"),
        ({"layers": [True]}, "layers must be integers"),
        ({"layers": 1}, "layers must be integers"),
        ({"tokens": TOKENS.astype(np.int8), "alternatives": OTHER + 126}, "alternatives must fit int8"),
        ({"tokens": TOKENS.astype(np.int64) + 2**32}, "tokens must fit int32"),
        ({"alternatives": OTHER[:2]}, "alternatives must have the shape"),
        ({"alternatives": OTHER.astype(float)}, "alternatives must have the shape and kind"),
        ({"alternatives": np.where(TOKENS == 8, -1, OTHER)}, "token 8 of sequence 1, position 2, has no neighbor"),
        ({"sites": SITES & (TOKENS != 2) & (TOKENS > 5)}, "example 0 has no real token"),
        ({"encode": lambda params, tokens, mask: encode(params, tokens, mask)[-1]}, r"must give states \[l\+1 b t d\]"),
        ({"params": {}}, "do not fit together"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        measure(**changes)


def test_a_missing_neighbor_matters_at_sites_only():
    expected = measure()
    result = measure(alternatives=np.where(SITES, OTHER, -1))
    jax.tree.map(np.testing.assert_array_equal, dataclasses.asdict(result), dataclasses.asdict(expected))


def test_padding_is_no_site_even_if_asked_for():
    result = measure(sites=np.ones_like(MASK))
    np.testing.assert_array_equal(result.sites, MASK)
    np.testing.assert_array_equal(result.estimate().mean, measure(sites=None).estimate().mean)


def test_states_that_are_not_finite_are_named_with_their_place():
    params = PARAMS | {"table": PARAMS["table"].copy()}
    params["table"][0] = np.inf  # what token 8 of sequence 1 becomes
    with pytest.raises(FloatingPointError, match="sequence 1 are not finite when place 2"):
        measure(params=params)
    params["table"][0], params["table"][7] = 0, np.nan
    with pytest.raises(FloatingPointError, match="sequence 1"):
        identifiability(encode)(params, PARAMS["table"], TOKENS, MASK)


def test_an_encoder_that_mixes_sequences_is_refused():
    def mixed(params, tokens):
        x = params[tokens]
        return jnp.stack([x, x - x.mean(0, keepdims=True)])

    table, tokens = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), np.array([[0, 1], [2, 3], [4, 5]])
    for measure in (
        lambda **k: embedding_shifts(mixed, **k)(table, tokens, tokens + 1),
        lambda **k: joint_shifts(mixed, **k)(table, tokens, tokens + 1, np.array([[[0, 1]]] * 3)),
        lambda **k: identifiability(mixed, **k)(table, table, tokens),
    ):
        with pytest.raises(ValueError, match="another example is beside it"):
            measure()
    unchecked = embedding_shifts(mixed, execution=Execution(check=False))(table, tokens, tokens + 1)
    assert unchecked.values("l2").shape[:2] == tokens.shape
