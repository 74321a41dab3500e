"""The decoder as laws: what padding, windows and shifts of positions must do whatever the parameters."""

import functools

import jax
import numpy as np
import pytest

from jaxsens.models.text import encoder, llama, rotary

SIZES = {"width": 6, "depth": 1, "heads": 4, "key_heads": 2, "head_size": 4, "hidden": 5, "vocabulary": 9}
CONFIG = llama.Config(**SIZES, positions=8, normalized_queries=True, window=3, tied=False, read_out="every")

quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def test_scores_of_rotated_queries_and_keys_depend_on_the_distance_alone():
    query, key = np.random.default_rng(0).normal(size=(2, 1, 2, 5, 6)).astype(np.float32)
    places = np.array([[0, 1, 2, 5, 9]])
    scores = [
        rotary.rotate(query, at, 100.0) @ rotary.rotate(key, at, 100.0).swapaxes(-1, -2) for at in (places, places + 7)
    ]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-5)
    assert np.abs(scores[0] - query @ key.swapaxes(-1, -2)).max() > 0.1
    np.testing.assert_allclose(rotary.rotate(query, 0 * places, 100.0), query)


def test_linear_scaling_is_a_shorter_text_and_the_others_keep_the_highest_frequencies():
    at = np.arange(6)[None]
    query = np.random.default_rng(0).normal(size=(1, 2, 6, 8)).astype(np.float32)
    shorter = rotary.rotate(query, at / 4, 100.0)
    scaled = rotary.rotate(query, at, 100.0, rotary.Scaling(kind="linear", factor=4.0))
    np.testing.assert_allclose(scaled, shorter, rtol=0, atol=1e-6)
    plain = rotary.frequencies(1e4, 64)[0]
    for kind in ("llama3", "yarn"):
        turns, amplitude = rotary.frequencies(1e4, 64, rotary.Scaling(kind=kind, factor=8.0, original=4096))
        ratio = plain / turns
        assert (ratio[0], round(ratio[-1], 9)) == (1, 8)
        assert (np.diff(ratio) > -1e-9).all()
        assert amplitude == (1 if kind == "llama3" else 0.1 * np.log(8) + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "dynamic"}, "kind is 'dynamic', but must be one of linear, llama3, yarn"),
        ({"kind": "yarn"}, "original is None, but must be an integer of at least 1"),
        ({"factor": 0.5}, "factor is 0.5, but must be a finite number of at least 1"),
        ({"kind": "llama3", "original": 8, "high": 1.0}, "high is 1.0, but must be above low, 1.0"),
    ],
)
def test_scalings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        rotary.Scaling(**{"kind": "linear", "factor": 2.0} | changes)


def test_a_token_reaches_those_after_it_in_the_window_and_padding_nothing():
    module, draws = llama.Llama(CONFIG), np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: draws.normal(size=leaf.shape).astype(np.float32), encoder.shapes_of(module))
    ids = draws.integers(0, 9, (1, 6)).astype(np.int32)
    others = np.where(np.eye(6, dtype=bool), (ids + 1) % 9, ids).astype(np.int32)
    right = np.pad(np.concatenate([ids, others]), ((0, 0), (0, 2)), constant_values=7)
    left = np.roll(right, 2, axis=1)
    mask = np.broadcast_to(np.arange(8) < 6, right.shape)
    apply = quick(module.apply)
    clean, *changed = outputs = apply(variables, right, mask)[:, :6]
    reached = np.array([np.abs(one - clean).max(axis=1) > 1e-3 for one in changed])
    here, there = np.indices((6, 6))
    np.testing.assert_array_equal(reached, (there >= here) & (there - here < 3))
    np.testing.assert_allclose(apply(variables, left, np.roll(mask, 2, axis=1))[:, 2:], outputs, rtol=0, atol=1e-4)
    np.testing.assert_allclose(quick(module.apply)(variables, ids)[0], clean, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key_heads": 3}, "key_heads is 3, but must be a divisor of the heads 4"),
        ({"head_size": 3}, "head_size is 3, but must be even"),
        ({"window": 0}, "window is 0, but must be an integer of at least 1"),
        ({"full_layers": -1}, "full_layers is -1, but must be an integer of at least 0"),
        ({"theta": 0.0}, "theta is 0.0, but must be a finite number above 0"),
        ({"activation": "tanh"}, "activation is 'tanh', but must be one of gelu"),
        ({"read_out": "mean"}, "read_out is 'mean', but must be one of last, next, every"),
    ],
)
def test_configurations_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        llama.Config(**{**SIZES, "positions": 8, **changes})


def test_texts_that_do_not_fit_are_named():
    module = llama.Llama(CONFIG)
    for ids, message in (
        (np.zeros((1, 9), np.int32), "tokens' length is 9, but must be at most 8"),
        (np.full((1, 2), 9, np.int32), "an id in tokens is 9, but must be at least 0 and below 9"),
    ):
        with pytest.raises(ValueError, match=message):
            module.apply(encoder.shapes_of(module), ids)
