"""Which leaves are trained, and what happens to those in narrow dtypes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxsens import parameters


def test_weights_are_the_floating_leaves_and_can_be_put_back():
    params = {"a": np.float32([1, 2]), "count": np.int32(3), "b": jnp.bfloat16(4)}
    chosen, put_back = parameters.weights(params)
    chex.assert_trees_all_equal(chosen, (params["a"], params["b"]))
    chex.assert_trees_all_equal(put_back(chosen), params)
    chex.assert_trees_all_equal(put_back([5.0, 6.0]), {"a": 5.0, "count": np.int32(3), "b": 6.0})
    with pytest.raises(ValueError, match="zip"):
        put_back(chosen[:1])


def test_only_the_collection_params_has_weights_where_there_is_one():
    variables = {"batch_stats": {"mean": np.float32(1)}, "params": {"w": np.float32(2), "bias": np.float32(3)}}
    assert parameters.weights(variables)[0] == (3, 2)
    (bias,), put_back = parameters.weights(variables, lambda path, leaf: path[-1].key == "bias")
    moved = put_back([bias + 1])
    assert moved == {"batch_stats": {"mean": 1}, "params": {"w": 2, "bias": 4}}
    assert variables["params"]["bias"] == 3


def test_choosing_no_weights_is_refused():
    for params, where in (({"w": np.ones(2)}, lambda path, leaf: False), ({"w": np.arange(2)}, None)):
        with pytest.raises(ValueError, match="no real floating-point leaf to move"):
            parameters.weights(params, where)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


class Temperature(nnx.Variable):
    """A type of the user's own: nothing says whether it is trained."""


@pytest.fixture(scope="module")
def model():
    return Model(nnx.Rngs(0))


def test_of_nnx_only_params_are_trained(model):
    """Not running statistics, nor the keys and counts of dropout; in a state and in a module alike."""
    state = nnx.state(model)
    trained = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    for params in (state, model, jax.eval_shape(lambda tree: tree, state)):
        assert [leaf.shape for leaf in parameters.weights(params)[0]] == trained == [(3,), (2, 3), (3,), (3,)]
    leaves, put_back = parameters.weights(state)
    doubled = put_back([2 * leaf + 1 for leaf in leaves])
    np.testing.assert_array_equal(doubled["norm"]["var"][...], state["norm"]["var"][...])
    np.testing.assert_array_equal(doubled["norm"]["scale"][...], 2 * state["norm"]["scale"][...] + 1)
    zeros = parameters.zeros_like(state)
    assert all(leaf.dtype != state["dropout"]["rngs"]["key"][...].dtype for leaf in jax.tree.leaves(zeros))
    (kernel,), _ = parameters.weights(state, lambda path, leaf: leaf.ndim == 2 if hasattr(leaf, "ndim") else False)
    assert kernel.shape == (2, 3)


def test_what_cannot_be_told_apart_is_refused_unless_where_says_it(model):
    pure = nnx.to_pure_dict(nnx.state(model))
    with pytest.raises(
        ValueError, match=r"params\['norm'\] hold mean and var of one shape, .*say which leaves move by"
    ):
        parameters.weights(pure)
    assert len(parameters.weights(pure, lambda path, leaf: path[-1].key not in ("mean", "var"))[0]) == 4
    own = nnx.State({"scale": Temperature(jnp.ones(2)), "w": nnx.Param(jnp.ones(3))})
    with pytest.raises(ValueError, match="variable of type Temperature"):
        parameters.weights(own)
    assert len(parameters.weights(own, lambda path, leaf: True)[0]) == 2
    assert len(parameters.weights({"mean": np.ones(2, np.float32), "w": np.ones(2, np.float32)})[0]) == 2


def test_narrow_weights_are_widened_and_others_stay():
    leaves = (jnp.bfloat16(1.5), jnp.float16(2.5), jnp.float32(3.5))
    widened = parameters.widened(leaves)
    assert [leaf.dtype for leaf in widened] == [jnp.float32] * 3
    assert [float(leaf) for leaf in widened] == [1.5, 2.5, 3.5]
