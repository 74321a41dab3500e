"""A model that mixes its examples is refused; rounding, NaN and a single example are not taken for that."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.execution import Execution, require_independent

X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
COUNTER = itertools.count()


def linear(w, x):
    return {"logits": x @ w, "size": jnp.linalg.norm(x, axis=1)}


def batch_normalized(w, x):
    h = x @ w
    return (h - h.mean(0, keepdims=True)) / (h.std(0, keepdims=True) + 1e-3)


def slightly_batch_dependent(w, x):
    return x @ w + 1e-3 * x.sum()


def dropout(w, x):
    return (x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape)) @ w


def random(w, x):
    noise = jax.pure_callback(lambda: np.float32(next(COUNTER)), jax.ShapeDtypeStruct((), np.float32))
    return x @ w + noise


BAD = {
    batch_normalized: "another example is beside it",
    slightly_batch_dependent: "another example is beside it",
    dropout: "another place in the batch",
    random: "another",
}


@pytest.mark.parametrize("model", BAD)
def test_models_that_do_not_evaluate_examples_by_themselves_are_refused(model):
    with pytest.raises(ValueError, match=f"{BAD[model]}.*Execution\\(check=False\\)"):
        require_independent(model, W, X)
    require_independent(model, W, X, execution=Execution(check=False))


def test_others_pass_and_are_evaluated_once():
    traced = []

    def counted(w, x):
        traced.append(len(x))
        return linear(w, x)

    for batch in (X, X[:3], X[::-1]):
        require_independent(counted, W, batch)
    assert traced == [2]
    require_independent(linear, W, X[:1])
    require_independent(lambda w, x: jnp.where(x[:, :1] == X[0, 0], jnp.nan, x - x.mean()), W, X)  # named by measures


def test_outputs_that_are_not_one_for_each_example_are_named():
    with pytest.raises(ValueError, match=r"outputs \[b \*k\], one for each example, got \(1, \d\) for two"):
        require_independent(lambda w, x: x[:1] @ W, W, X)
