"""Worst-case sharpness: closed forms on linear and quadratic losses, its ball, its units, its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from jaxsens import scales
from jaxsens.execution import Execution
from jaxsens.sharpness import apgd, worst_case

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BATCH, SIZE = 6, 5
ROOT = RNG.normal(size=(SIZE, SIZE)) * np.array([2, 1, 1, 0.5, 0.1])
HESSIAN = ROOT.T @ ROOT
VECTOR = RNG.normal(size=SIZE)
SLOPES = RNG.normal(size=(BATCH, SIZE))


def quadratic(w, batch):
    offset = w - batch["center"][0]
    return jnp.broadcast_to(offset @ jnp.asarray(HESSIAN) @ offset / 2, len(batch["center"]))


def largest_rise(gradient, radius):
    """The maximum of ``g . d + d' H d / 2`` over ``|d| <= radius``, from the secular equation."""
    values, vectors = np.linalg.eigh(HESSIAN)
    along = vectors.T @ gradient
    if radius == 0 or not gradient.any():
        return radius**2 / 2 * values[-1]
    bracket = values[-1] + 1e-9, values[-1] + np.linalg.norm(gradient) / radius + 1
    shift = optimize.brentq(lambda s: np.linalg.norm(along / (s - values)) - radius, *bracket)
    step = along / (shift - values)
    return along @ step + step @ (values * step) / 2


def test_the_maximum_of_a_quadratic_is_found_in_l2(float64):
    """At the minimum it is ``radius^2 / 2`` times the largest eigenvalue; elsewhere the secular equation has it."""
    for away, radius in ((0.0, 0.7), (0.5, 0.3), (0.5, 0.0)):
        batch = {"center": np.tile(VECTOR - away, (BATCH, 1))}
        found = worst_case.worst_case_sharpness(quadratic, radius, restarts=2, iterations=60)(KEY, VECTOR, batch)
        gradient = HESSIAN @ np.full(SIZE, away)
        np.testing.assert_allclose(found.mean, largest_rise(gradient, radius), rtol=1e-6)
        step = found.perturbation[0]
        assert np.linalg.norm(step) <= radius * (1 + 1e-12)
        np.testing.assert_allclose(gradient @ step + step @ HESSIAN @ step / 2, found.mean, rtol=1e-9, atol=1e-14)
        step = radius * gradient / (np.linalg.norm(gradient) or 1)
        np.testing.assert_allclose(found.one_step, gradient @ step + step @ HESSIAN @ step / 2, rtol=1e-9)
        assert found.trajectories.shape == (1, 2, 61)
        assert (found.mean == 0) == (radius == 0)
        assert np.isinf(found.sem)


def linear(params, batch):
    return batch["a"] @ params["a"] + batch["b"] @ params["b"]


def test_a_linear_loss_rises_by_the_dual_norm_of_each_groups_slope():
    """``radius || |w| g ||_1`` in adaptive l-infinity, after one step; groups are the units."""
    params = {"a": np.float32(VECTOR[:2]), "b": np.float32(VECTOR[2:])}
    batch = {"a": np.float32(SLOPES[:, :2]), "b": np.float32(SLOPES[:, 2:])}
    options = {"norm": "linf", "scale": scales.by_element, "group": 2, "iterations": 3}
    measure = worst_case.worst_case_sharpness(linear, 0.2, **options)
    found = measure(KEY, params, batch)
    slopes = SLOPES.reshape(3, 2, SIZE).mean(1)
    expected = 0.2 * np.abs(slopes * VECTOR).sum(1)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    np.testing.assert_allclose(found.one_step, expected, rtol=1e-5)
    assert found.trajectories.shape == (3, 1, 4)
    assert found.estimate.count == 3
    moved = np.concatenate([found.perturbation["a"], found.perturbation["b"]], 1)
    np.testing.assert_allclose(moved, 0.2 * np.abs(VECTOR) * np.sign(slopes), rtol=1e-5)

    still = worst_case.worst_case_sharpness(linear, 0.0, **options)(KEY, params, batch)
    assert not still.trajectories.any()
    batch["a"][2] = np.nan
    with pytest.raises(FloatingPointError, match="loss of group 1 is nan at iterate 0 of start 0"):
        measure(KEY, params, batch)


def softened(params, batch):
    return jnp.logaddexp(0, batch["x"] @ params["params"]["w"]) + 0 * params["batch_stats"]["mean"]


STACKED = {
    "params": {"w": RNG.normal(size=(2, 4)).astype(np.float32), "fixed": np.ones((2, 3), np.float32)},
    "batch_stats": {"mean": np.ones(2, np.float32)},
}
ONE = jax.tree.map(lambda a: a[0], STACKED)
X = {"x": RNG.normal(size=(9, 4)).astype(np.float32)}
ONLY_W = {"iterations": 4, "execution": Execution(chunk=2), "where": lambda path, leaf: path[-1].key == "w"}


def test_groups_models_and_micro_batches_equal_the_single_ones():
    """Three groups of two models at once, against each group as all the examples there are, cut into parts."""
    together = worst_case.worst_case_sharpness(softened, 0.5, group=3, **ONLY_W).over_models(KEY, STACKED, X)
    alone = worst_case.worst_case_sharpness(softened, 0.5, **ONLY_W)
    for model, found in enumerate(together):
        params = jax.tree.map(lambda a, i=model: a[i], STACKED)
        for group in range(3):
            expected = alone(KEY, params, {"x": X["x"][3 * group : 3 * group + 3]})
            np.testing.assert_allclose(found.trajectories[group], expected.trajectories[0], rtol=1e-4, atol=1e-6)
        steps = found.perturbation
        assert steps["params"]["w"].shape == (3, 4)
        assert not steps["batch_stats"]["mean"].any()
        assert not steps["params"]["fixed"].any()
        assert found.chunk == 2
    assert len(np.unique([found.values for found in together])) == 6


def test_equal_bits_on_two_devices_and_on_all(devices):
    """Partial sums are added in order. (On one device XLA compiles gradients differently.)"""
    few = {"x": X["x"][:3]}
    first, second = (
        worst_case.worst_case_sharpness(
            softened, 0.5, **ONLY_W | {"execution": Execution(chunk=2, devices=devices[:number])}
        )(KEY, ONE, few)
        for number in (2, 8)
    )
    np.testing.assert_array_equal(first.trajectories, second.trajectories)
    jax.tree.map(np.testing.assert_array_equal, first.perturbation, second.perturbation)


def test_checkpoints_are_those_of_the_paper():
    assert np.flatnonzero(apgd._windows(100)).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert apgd._windows(100)[[22, 41]].tolist() == [22, 19]
    for iterations in range(1, 30):
        assert apgd._windows(iterations).sum() == np.flatnonzero(apgd._windows(iterations)).max()


def test_steps_are_halved_where_the_ascent_stalls():
    """A sharp peak: steps of the first size, twice the radius, would only jump across it."""
    peak = jnp.array([[0.3, -0.2, 0.1, 0.25]])

    def evaluate(points):
        return -jnp.abs(points[0] - peak).sum(1), (-jnp.sign(points[0] - peak),)

    found = apgd.ascend(evaluate, (jnp.ones((1, 4)),), jnp.float32(1), norm="l2", iterations=200)
    np.testing.assert_allclose(found.points[0], peak, atol=0.02)
    np.testing.assert_allclose(found.values.max(), -np.abs(found.points[0] - peak).sum(), rtol=1e-5)


def test_an_ascent_leaves_a_saddle():
    """The gradient is 0 at the center, and the largest of a few steps overshoot: restarts are from other points."""
    curvatures = jnp.asarray([10, 5, 1, 0.1, 0, 0, 0, -1, -2, -5, -50, -100.0])

    def saddle(w, batch):
        return jnp.full(len(batch), jnp.sum(curvatures * w**2) / 2)

    for seed in range(3):
        measure = worst_case.worst_case_sharpness(saddle, 1.0, iterations=100, restarts=5)
        found = measure(jax.random.key(seed), jnp.zeros(12), np.zeros((2, 1), np.float32))
        np.testing.assert_allclose(found.mean, 5, rtol=1e-3)


def test_where_the_loss_only_falls_the_weights_themselves_are_best():
    def peak(w, batch):
        return jnp.full(len(batch), -jnp.sum(w**2))

    found = worst_case.worst_case_sharpness(peak, 1.0, restarts=2)(KEY, jnp.zeros(3), np.zeros((2, 1), np.float32))
    assert found.mean == 0
    assert not found.perturbation.any()


def test_small_gradients_of_narrow_weights_are_followed():
    """A slope of 1e-6, whose reciprocal is beyond float16, and a radius below the rounding of the weights."""

    def slope(w, batch):
        return (1e-6 * w.astype(jnp.float32)).sum() + 0 * batch

    found = worst_case.worst_case_sharpness(slope, 1e-4)(KEY, jnp.ones(3, jnp.float16), np.zeros(4, np.float32))
    np.testing.assert_allclose(found.one_step, 1e-10 * np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(found.perturbation[0], 1e-4 / np.sqrt(3), rtol=1e-3)


BAD = {
    "radius must be a finite number of at least 0, got -1": {"radius": -1.0},
    "radius must be a finite number of at least 0, got inf": {"radius": np.inf},
    r"norm must be one of \('l2', 'linf'\)": {"norm": "l1"},
    "iterations must be an integer of at least 1, got 0": {"iterations": 0},
    "restarts must be an integer of at least 1, got 1.5": {"restarts": 1.5},
    "group must be an integer of at least 1, got 0": {"group": 0},
    "group must divide the number of examples, 9, got 4: leave the last 1 out": {"group": 4},
    "loss must give one number for an example": {"loss": lambda p, b: softened(p, b)[:, None]},
    "one result for each example": {"loss": lambda p, b: softened(p, b).mean()},
    "no real floating-point leaf to move": {"where": lambda path, leaf: False},
    "do not fit the model": {"loss": lambda p, b: b["y"]},
    "iterations must be an integer of at least 1, got True": {"iterations": True},
    "another example is beside it": {"loss": lambda p, b: softened(p, b) - softened(p, b).mean()},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_arguments_are_named(match):
    options = {"loss": softened, "radius": 0.1} | BAD[match]
    with pytest.raises(ValueError, match=match):
        worst_case.worst_case_sharpness(options.pop("loss"), options.pop("radius"), **options)(KEY, ONE, X)


def test_a_random_key_among_the_parameters_stays():
    """A typed key, as of dropout, is no weight: it is neither moved nor in the way of the perturbation."""
    params = {"key": jax.random.key(1), "w": np.ones(3, np.float32)}
    measure = worst_case.worst_case_sharpness(lambda p, x: x @ p["w"], 0.5, iterations=1)
    found = measure(jax.random.key(0), params, np.float32([[0, 3, 4]]))
    assert found.mean == pytest.approx(2.5)
    np.testing.assert_allclose(found.perturbation["w"][0], [0, 0.3, 0.4], atol=1e-6)
