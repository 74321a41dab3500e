"""SAM and ASAM take the steps that their formulas say."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsens import scales, training
from jaxsens.training import sam

KEY = jax.random.key(0)
HESSIAN = np.float32([[2, 1, 0], [1, 3, 0], [0, 0, 0]])
PARAMS = {"w": np.float32([1, -2]), "b": np.float32(3)}


def gradient(params):
    vector = HESSIAN @ jnp.concatenate([params["w"], params["b"][None]])
    return {"w": vector[:2], "b": vector[2]}


@pytest.mark.parametrize("scale", [scales.absolute, scales.by_element])
def test_one_step_on_a_quadratic_is_the_formulas(scale):
    """``w - rate H (w + radius s^2 H w / |s H w|)``."""
    rule = training.sharpness_aware(optax.sgd(0.1), 0.5, scale)
    updates, _ = rule.update(gradient(PARAMS), rule.init(PARAMS), PARAMS, gradient_of=gradient)
    w = np.float64([1, -2, 3])
    s = np.ones(3) if scale is scales.absolute else np.abs(w)
    slope = HESSIAN @ w
    expected = -0.1 * HESSIAN @ (w + 0.5 * s**2 * slope / np.linalg.norm(s * slope))
    np.testing.assert_allclose(np.append(updates["w"], updates["b"]), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [scales.absolute, scales.by_element])
def test_no_gradient_gives_no_step_and_no_nan(scale):
    nothing = jax.tree.map(np.zeros_like, PARAMS)
    for params in (PARAMS, nothing):
        chex.assert_trees_all_equal(sam.worst_step(params, nothing, 0.5, scale), nothing)
    tiny = jax.tree.map(lambda g: np.float32(1e-30) * g, gradient(PARAMS))
    step = sam.worst_step(PARAMS, tiny, 0.5)
    np.testing.assert_allclose(np.sqrt(sum(np.sum(leaf**2) for leaf in step.values())), 0.5, rtol=1e-5)


@pytest.mark.parametrize(("weights", "slope"), [(1.0, 1e-40), (1e-20, 1e-25)])
def test_the_step_does_not_vanish_with_the_gradient(weights, slope):
    step = sam.worst_step(np.float32([weights, -weights]), np.float32([slope, 2 * slope]), 0.05, scales.by_element)
    np.testing.assert_allclose(step, 0.05 * weights * np.array([1, 2]) / 5**0.5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("largest", [1e-3, 1e-5, 1e-6])
def test_small_gradients_in_narrow_types_give_the_step_of_wide_ones(dtype, largest):
    gradient = jnp.array([0.5 * largest, largest], dtype)
    step = jax.jit(sam.worst_step)(jnp.ones(2, dtype), gradient, 0.05)
    assert step.dtype == dtype
    exact = np.asarray(gradient, np.float64)
    expected = 0.05 * exact / np.linalg.norm(exact)
    np.testing.assert_allclose(np.asarray(step, np.float64), expected, rtol=2 * float(jnp.finfo(dtype).eps))
    asam = sam.worst_step(jnp.full(2, 2, dtype), gradient, 0.05, scales.by_element)
    np.testing.assert_allclose(np.asarray(asam, np.float64), 2 * expected, rtol=4 * float(jnp.finfo(dtype).eps))


def regression(variables, tokens, key):
    """Softmax regression that counts in how many forwards of training its statistics were seen."""
    w = variables["params"]["w"]
    counted = {
        "params": variables["params"],
        "batch_stats": {"w": w, "forwards": variables["batch_stats"]["forwards"] + 1},
    }
    return tokens.reshape(len(tokens), -1) @ w, counted


RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 2)).astype(np.float32)
VARIABLES = {"params": {"w": W}, "batch_stats": {"w": np.zeros_like(W), "forwards": np.float32(0)}}
TOKENS = RNG.normal(size=(40, 3, 2)).astype(np.float32)
LABELS = (TOKENS.sum((1, 2)) > 0).astype(np.int32)


def test_training_takes_the_steps_of_the_optax_transformation():
    """The loop's optimizer with the objective steps as optax's with the transformation."""
    rule = training.sharpness_aware(optax.sgd(0.1, momentum=0.5), 0.3)

    @jax.jit
    def by_hand(params, state, index):
        def loss(params):
            logits = jnp.asarray(TOKENS).reshape(40, -1)[index] @ params["w"]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)[index]).mean()

        slope = jax.grad(loss)(params)
        worst = jax.tree.map(jnp.add, params, sam.worst_step(params, slope, 0.3))
        updates, state = rule.update(slope, state, params, gradient_of=jax.grad(loss))
        return optax.apply_updates(params, updates), state, loss(worst)

    params, losses = VARIABLES["params"], []
    state = rule.init(params)
    order = jax.random.permutation(jax.random.fold_in(KEY, 0), 40).reshape(2, 20)
    for index in order:
        start = params
        params, state, loss = by_hand(params, state, index)
        losses.append(loss)

    config = training.Config(1, batch=20, learning_rate=0.1, optimizer=training.Optimizer("sgd", momentum=0.5))
    objective = training.SharpnessAware(radius=0.3)
    trained, found = training.fit(KEY, regression, VARIABLES, TOKENS, LABELS, config, objective=objective)
    np.testing.assert_allclose(trained["params"]["w"], params["w"], rtol=1e-5)
    np.testing.assert_allclose(found, [np.mean(losses)], rtol=1e-5)
    # Statistics are those at the weights themselves, one update for each step.
    np.testing.assert_allclose(trained["batch_stats"]["w"], start["w"], rtol=1e-5)
    assert trained["batch_stats"]["forwards"] == 2


def test_a_radius_of_zero_gives_the_objective():
    @jax.jit
    def both(variables):
        objectives = training.CrossEntropy(), training.SharpnessAware(radius=0.0)
        return [objective(regression, variables, TOKENS, LABELS, KEY) for objective in objectives]

    plain, still = both(VARIABLES)
    chex.assert_trees_all_equal(still, plain)


def test_bad_arguments_are_named():
    for radius in (-0.1, np.nan):
        for build in (lambda r: training.SharpnessAware(radius=r), lambda r: training.sharpness_aware(optax.sgd(1), r)):
            with pytest.raises(ValueError, match="radius must be a finite number of at least 0"):
                build(radius)
    rule = training.sharpness_aware(optax.sgd(0.1), 0.5)
    with pytest.raises(ValueError, match="params must be given to update"):
        rule.update(gradient(PARAMS), rule.init(PARAMS), gradient_of=gradient)
