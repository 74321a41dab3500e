"""Laws of batches cut into blocks."""

import jax
import numpy as np
import pytest

from jaxsens.execution import batches


def test_evenly_takes_no_more_rounds_and_leaves_little_idle():
    for count in range(1, 60):
        for room in range(1, 60):
            each = batches.evenly(count, room)
            rounds = -(-count // room)
            assert 1 <= each <= min(count, room)
            assert -(-count // each) == rounds
            assert rounds * each - count < rounds, "less than one idle place a round"


def test_blocks_hold_every_example_in_order_and_then_the_last():
    batch = {"x": np.arange(14.0).reshape(7, 2), "y": np.arange(7)}
    blocks = batches.in_blocks(batch, 2, 2, 2)
    np.testing.assert_array_equal(blocks["y"].ravel(), [0, 1, 2, 3, 4, 5, 6, 6])
    np.testing.assert_array_equal(blocks["x"].reshape(8, 2)[:7], batch["x"])


def test_a_model_of_a_stack_is_that_model():
    params = {"w": np.arange(3.0), "b": np.ones(())}
    stacked = batches.stack_of_one(params)
    assert batches.count_of_models(stacked) == 1
    jax.tree.map(np.testing.assert_array_equal, batches.select_model(stacked, 0), params)


@pytest.mark.parametrize("batch", [{}, np.ones(()), np.ones((0, 2)), (np.ones(2), np.ones(3))])
def test_batches_without_a_common_axis_are_named(batch):
    with pytest.raises(ValueError, match="batch must be arrays with one leading axis b"):
        batches.count_of(batch)
    with pytest.raises(ValueError, match="stacked must be params with one leading axis m"):
        batches.count_of_models(batch)
