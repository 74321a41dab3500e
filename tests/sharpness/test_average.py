"""Average-case sharpness against closed forms and plain loops, and what it refuses.

The file is long because its tests share models and compiled programs.
"""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import changes, perturb, scales
from jaxsens.execution import Execution, parallel
from jaxsens.sharpness import average
from jaxsens.sharpness.classification import NormalizedLogits

KEY = jax.random.key(0)


def step(key, draw, weights):
    """Weights moved without random numbers, which take most of the time of compiling."""
    return jax.tree.map(lambda a: a + 1.0 + draw, weights)


def quadratic(params, batch):
    """The loss ``(w - x)' H (w - x) / 2``, where H depends on the example."""
    offset = params["w"][None] - batch["x"]
    return 0.5 * jnp.einsum("bi,bij,bj->b", offset, batch["h"], offset)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(11, 4, 4))
    hessians = np.einsum("bij,bkj->bik", root, root)
    batch = {"x": rng.normal(size=(11, 4)), "h": hessians}
    return {"w": rng.normal(size=4).astype(np.float32)}, jax.tree.map(np.float32, batch), np.trace(hessians.mean(0))


def test_a_quadratic_loss_rises_by_half_the_variance_times_the_trace(problem):
    params, batch, trace = problem
    measure = average.average_sharpness(quadratic, perturb.gaussian(0.04), draws=20_000)
    result = measure(KEY, params, batch)
    low, high = result.interval(0.999)
    assert low <= 0.02 * trace <= high
    assert result.sem < 0.06 * 0.02 * trace
    assert result.count == 20_000


def linear(params, x):
    return x @ params["w"]


def test_a_linear_model_moves_as_the_folded_normal_law_says():
    """``E |x . xi| = sigma |x| sqrt(2 / pi)`` for each logit, and they are summed."""
    x = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    params = {"w": np.zeros((5, 3), np.float32)}
    result = average.output_sharpness(linear, perturb.gaussian(0.25), draws=8000)(KEY, params, x)
    truth = 3 * 0.5 * np.sqrt(2 / np.pi) * np.linalg.norm(x, axis=1).mean()
    np.testing.assert_allclose(result.mean, truth, rtol=0.01)


def test_predictions_of_a_linear_score_change_as_the_normal_law_says():
    """``P[sign change] = Phi(-|w . x| / (sigma |x|))``."""
    from scipy import stats

    x = np.random.default_rng(2).normal(size=(40, 5)).astype(np.float32)
    params = {"w": np.ones(5, np.float32)}
    result = average.prediction_sharpness(linear, perturb.gaussian(1.0), draws=4000)(KEY, params, x)
    truth = stats.norm.cdf(-np.abs(x.sum(1)) / np.linalg.norm(x, axis=1)).mean()
    assert result.rate
    low, high = result.interval(0.999)
    assert low <= truth <= high
    assert high - low < 0.02


def test_without_noise_nothing_changes():
    """To the bit, although products of this size are rounded in another way for several models at once."""
    rng = np.random.default_rng(7)
    x, params = rng.normal(size=(30, 64)).astype(np.float32), {"w": rng.normal(size=(64, 10)).astype(np.float32)}
    for chunk in (None, 7):
        result = average.output_sharpness(linear, perturb.gaussian(0.0), draws=3, execution=Execution(chunk=chunk))(
            KEY, params, x
        )
        np.testing.assert_array_equal(result.values, 0)


def test_chunks_alter_results_by_rounding_only(problem):
    params, batch, _ = problem
    results = [
        average.average_sharpness(quadratic, perturb.gaussian(1.0), draws=5, execution=Execution(chunk=c))(
            KEY, params, batch
        ).values
        for c in (None, 1, 4)
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-5)


def test_the_first_draws_of_many_are_the_draws_of_few(problem):
    params, batch, _ = problem
    few, many = (
        average.average_sharpness(quadratic, perturb.gaussian(1.0), draws=n)(KEY, params, batch).values for n in (4, 8)
    )
    np.testing.assert_allclose(many[:4], few, rtol=1e-5)
    assert len(np.unique(many)) == 8


def test_equal_bits_on_any_devices_and_backend(devices):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(5, 64)).astype(np.float32)
    params = {"first": rng.normal(size=(64, 16)).astype(np.float32), "second": np.ones((16, 5), np.float32)}

    def network(params, x):
        return jnp.tanh(x @ params["first"]) @ params["second"]

    def run(**where):
        execution = Execution(chunk=3, **where)
        return average.output_sharpness(network, perturb.gaussian(1e-3), draws=7, execution=execution)(KEY, params, x)

    reference = run(devices=devices[:1]).values
    for backend, number in (("pmap", 3), ("shard_map", 8)):
        np.testing.assert_array_equal(run(backend=backend, devices=devices[:number]).values, reference)


def test_only_floating_parameters_move():
    """Batch statistics, integers and leaves outside ``where`` stay as they are."""
    variables = {
        "params": {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32), "steps": np.int32(3)},
        "batch_stats": {"mean": np.ones(2, np.float32)},
    }

    def probe(variables, x):
        leaves = [variables["params"]["a"], variables["params"]["b"], variables["batch_stats"]["mean"]]
        rows = jnp.stack([*leaves, jnp.full(2, variables["params"]["steps"], jnp.float32)])
        return jnp.broadcast_to(rows, (len(x), 4, 2))

    def change(clean, changed):
        return [jnp.abs(a - b).sum() for a, b in zip(clean, changed, strict=True)]

    def moved(variables, **options):
        measure = average.weight_changes(probe, step, change=change, draws=2, **options)
        return [result.mean > 0 for result in measure(KEY, variables, np.zeros(3, np.float32))]

    for params in (variables, flax.core.freeze(variables)):
        assert moved(params) == [True, True, False, False]
    assert moved(variables, where=lambda path, leaf: path[-1].key == "b") == [False, True, False, False]
    with pytest.raises(ValueError, match="no real floating-point leaf to move"):
        moved(variables, where=lambda path, leaf: False)


def test_bad_arguments_are_named(problem):
    params, batch, _ = problem
    sampler = perturb.gaussian(1.0)
    for options, match in (({"draws": 0}, "draws"), ({"draws": -1}, "draws")):
        with pytest.raises(ValueError, match=f"{match} must be an integer of at least 1"):
            average.average_sharpness(quadratic, sampler, **options)
    for chunk in (None, 4):
        measure = average.average_sharpness(quadratic, sampler, draws=2, execution=Execution(chunk=chunk))
        with pytest.raises(ValueError, match="do not fit the model"):
            measure(KEY, {"w": np.zeros(3, np.float32)}, batch)
        scalar = average.average_sharpness(
            lambda p, b: quadratic(p, b).mean(), sampler, draws=2, execution=Execution(chunk=chunk)
        )
        with pytest.raises(ValueError, match="one result for each example"):
            scalar(KEY, params, batch)
    with pytest.raises(ValueError, match="leading axis b of at least 1"):
        measure(KEY, params, jax.tree.map(lambda a: a[:0], batch))
    with pytest.raises(ValueError, match=r"one number for an example"):
        average.average_sharpness(linear, sampler, draws=2)(
            KEY, {"w": np.zeros((4, 2), np.float32)}, np.zeros((3, 4), np.float32)
        )


def test_noise_on_narrow_weights_is_not_rounded_away(problem):
    """The rise is that of float32 weights of the same values, from the same draws."""
    params, batch, _ = problem
    narrow = {"w": jnp.asarray(params["w"], jnp.bfloat16)}
    wide = jax.tree.map(jnp.float32, narrow)
    measure = average.average_sharpness(quadratic, perturb.gaussian(1e-4**2), draws=20)
    result = measure(KEY, narrow, batch)
    np.testing.assert_array_equal(result.values, measure(KEY, wide, batch).values)
    assert (result.values != 0).all()


def test_rises_of_integer_losses_do_not_wrap():
    """The error, 0 or 1 in uint8, falls by one half: half of the signs are wrong, and noise decides them anew."""
    x, labels = np.ones((64, 1), np.float32), np.ones(64, np.uint8)

    def error(params, batch):
        inputs, labels = batch
        return (labels != (inputs[:, 0] * params > 0)).astype(jnp.uint8)

    result = average.average_sharpness(error, perturb.gaussian(1e6), draws=2000)(KEY, np.float32(-1), (x, labels))
    np.testing.assert_allclose(result.mean, -0.5, atol=0.05)


def test_probabilities_for_logits_are_warned_of_and_one_class_is_refused():
    x, labels = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), np.arange(6, dtype=np.int32) % 3
    params = {"w": np.ones((4, 3), np.float32)}
    with pytest.warns(UserWarning, match="return the values before the softmax"):
        average.classifier_sharpness(lambda p, x: jax.nn.softmax(linear(p, x)), step, draws=2)(KEY, params, (x, labels))
    with pytest.raises(ValueError, match="at least two classes, got k = 1"):
        average.classifier_sharpness(linear, perturb.gaussian(0.1), draws=2)(
            KEY, {"w": np.ones((4, 1), np.float32)}, (x, 0 * labels)
        )


def test_input_that_would_silently_change_the_numbers_is_refused(problem):
    params, batch, _ = problem
    measure = average.average_sharpness(quadratic, step, draws=np.int64(2))
    assert measure(KEY, params, batch).count == 2
    with pytest.raises(ValueError, match="threefry2x32, got rbg"):
        measure(jax.random.key(0, impl="rbg"), params, batch)
    with pytest.raises(ValueError, match="batch must not be a masked array"):
        measure(KEY, params, batch | {"x": np.ma.masked_array(batch["x"], batch["x"] > 1)})
    with pytest.raises(ValueError, match="it compiles itself"):
        jax.jit(lambda batch: measure(KEY, params, batch).mean)(batch)
    with pytest.raises(ValueError, match="another example is beside it"):
        average.output_sharpness(lambda p, x: linear(p, x) - linear(p, x).mean(), perturb.gaussian(1.0), draws=2)(
            KEY, {"w": np.ones((4, 2), np.float32)}, batch["x"]
        )
    labels = np.arange(11) % 3 + 2**32
    with pytest.raises(ValueError, match="batch must fit int32"):
        average.classifier_sharpness(linear, perturb.gaussian(1.0), draws=2)(
            KEY, {"w": np.ones((4, 3), np.float32)}, (batch["x"], labels)
        )


def test_non_finite_outputs_stop_the_run_and_are_located():
    def root(params, x):
        return jnp.sqrt(x * params["w"])

    params, x = {"w": np.float32(1)}, np.ones((5, 1), np.float32)
    with pytest.raises(FloatingPointError, match=r"perturbed by draw \d is not finite for example 0"):
        average.output_sharpness(root, lambda key, draw, w: jax.tree.map(jnp.negative, w), draws=2)(KEY, params, x)
    x[3] = -1
    with pytest.raises(FloatingPointError, match="unperturbed model is not finite for example 3"):
        average.output_sharpness(root, step, draws=2, execution=Execution(chunk=2))(KEY, params, x)


def test_draws_at_once_leave_room_for_their_weights(monkeypatch):
    """Ten draws of 400 bytes fit a budget of 4,000, however many forwards do."""
    from jaxsens.execution import memory

    seen = []
    original = parallel.map_items
    monkeypatch.setattr(memory, "BYTES", 4000)
    monkeypatch.setattr(parallel, "map_items", lambda *a, **k: seen.append(k["execution"].chunk) or original(*a, **k))
    x = np.ones((1, 50), np.float32)
    average.output_sharpness(linear, step, draws=30)(KEY, {"w": np.ones((50, 2), np.float32)}, x)
    assert seen[-1] == 10


def test_products_run_at_full_precision():
    seen = []

    def spy(params, x):
        seen.append(jax.config.jax_default_matmul_precision)
        return linear(params, x)

    average.output_sharpness(spy, step, draws=2, execution=Execution(chunk=2))(
        KEY, {"w": np.ones((5, 2), np.float32)}, np.ones((4, 5), np.float32)
    )
    assert seen[-1] == "highest"  # calls before the last one may only ask for shapes


def test_other_changes_are_accepted():
    x = np.eye(3, dtype=np.float32)
    measure = average.weight_changes(linear, perturb.gaussian(4.0), change=changes.squared_change, draws=4000)
    np.testing.assert_allclose(measure(KEY, {"w": np.zeros((3, 2), np.float32)}, x).mean, 8, rtol=0.05)


def test_several_changes_come_from_one_pass():
    x, params = np.eye(3, dtype=np.float32), {"w": np.array([[1, 2], [2, 1], [1, 1]], np.float32)}

    def sampler(key, draw, weights):
        return jax.tree.map(lambda w: w[::-1] * (1.0 + draw), weights)

    def both(clean, changed):
        return {
            "output": changes.absolute_change(clean, changed),
            "prediction": changes.prediction_change(clean, changed),
        }

    results = average.weight_changes(linear, sampler, change=both, draws=10)(KEY, params, x)
    for name, alone in (("output", average.output_sharpness), ("prediction", average.prediction_sharpness)):
        expected = alone(linear, sampler, draws=10)(KEY, params, x)
        np.testing.assert_allclose(results[name].values, expected.values, rtol=1e-6)
        assert results[name].rate == expected.rate


def classify(params, x):
    return x @ params["w"] + params["b"][None]


@pytest.fixture
def classification():
    rng = np.random.default_rng(3)
    params = {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    return params, (rng.normal(size=(7, 4)), np.arange(7) % 3)


def test_four_sharpnesses_of_a_classifier_are_those_of_its_moved_copies(classification, float64):
    """By hand for some draws; and for small noise the loss rises by half the variance times the trace of its Hessian.

    For softmax regression ``trace H = mean (|x|^2 + 1) (1 - |p|^2)``; an antithetic pair, the unit, has no gradient
    term.
    """
    params, (x, labels) = classification
    clean = classify(params, x)

    def by_hand(draw):
        b, w = sampler(KEY, draw, (params["b"], params["w"]))
        changed = np.asarray(classify({"w": w, "b": b}, x))
        losses = [np.log(np.exp(o).sum(1)) - o[np.arange(7), labels] for o in (clean, changed)]
        wrong = [o.argmax(1) != labels for o in (clean, changed)]
        return {
            "loss": np.mean(losses[1] - losses[0]),
            "error": wrong[1].mean() - wrong[0].mean(),
            "output": np.abs(changed - clean).sum(1).mean(),
            "prediction": np.mean(changed.argmax(1) != clean.argmax(1)),
        }

    sampler = perturb.antithetic(perturb.gaussian(1.0))
    measure = average.classifier_sharpness(classify, sampler, draws=1000)
    found = measure(KEY, params, (x, labels))
    draws = [by_hand(draw) for draw in range(6)]
    for name, result in found.items():
        values = np.array([draw[name] for draw in draws]).reshape(3, 2).mean(1)
        np.testing.assert_allclose(result.values[:3], values, rtol=1e-9, atol=1e-12)
        assert result.count == 500
        assert result.rate == (name == "prediction")
    assert found["error"].mean != 0

    with pytest.raises(ValueError, match="labels must be integers"):
        measure(KEY, params, (x, labels.astype(float)))
    with pytest.raises(ValueError, match=r"labels must be classes from 0 to 2, got 3 at \[2\]"):
        measure(KEY, params, (x, labels + 1))
    with pytest.raises(
        ValueError, match="draws must be a multiple of 2, the number of draws that depend on each other, got 5"
    ):
        average.classifier_sharpness(classify, sampler, draws=5)

    small = perturb.antithetic(perturb.gaussian(1e-6))
    result = average.classifier_sharpness(classify, small, draws=1000)(KEY, params, (x, labels))["loss"]
    probabilities = np.exp(clean) / np.exp(clean).sum(1, keepdims=True)
    trace = np.mean(((x**2).sum(1) + 1) * (1 - (probabilities**2).sum(1)))
    low, high = result.interval(0.999)
    assert low <= 1e-6 / 2 * trace <= high
    assert result.sem < 0.05 * result.mean


def test_many_models_are_measured_like_each_single_one(classification):
    x = classification[1][0].astype(np.float32)
    stacked = {
        "w": np.random.default_rng(8).normal(size=(3, 4, 3)).astype(np.float32),
        "b": np.zeros((3, 3), np.float32),
    }
    sampler = perturb.relative(perturb.gaussian(0.1), scales.by_leaf)
    # Only a member's own leaves have a rank of 2.
    options = {"draws": 2, "execution": Execution(chunk=3), "where": lambda path, leaf: leaf.ndim == 2}
    measure = average.output_sharpness(classify, sampler, **options)
    together = measure.over_models(KEY, stacked, x)
    assert len(together) == 3
    for model, found in enumerate(together):
        alone = measure(KEY, jax.tree.map(lambda a, i=model: a[i], stacked), x)
        np.testing.assert_allclose(found.values, alone.values, rtol=1e-5)
    assert len({float(found.mean) for found in together}) == 3
    with pytest.raises(ValueError, match="stacked must be params with one leading axis m"):
        measure.over_models(KEY, {"w": np.zeros((2, 4, 3)), "b": np.zeros((3, 3))}, x)
    stacked["w"][2, 0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="params 2: the output of the unperturbed model is not finite"):
        measure.over_models(KEY, stacked, x)


class Regularized(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x, train=False):
        x = flax.linen.Dense(8)(x)
        x = flax.linen.BatchNorm(use_running_average=not train)(x)
        return flax.linen.Dense(2)(flax.linen.Dropout(0.5, deterministic=not train)(x))


def test_models_with_dropout_and_batch_statistics_are_evaluated_deterministically():
    """A copy whose perturbed weights do not matter has the outputs of the model itself, whatever its batch."""
    x = np.random.default_rng(4).normal(3, 2, size=(6, 4)).astype(np.float32)
    variables = jax.jit(Regularized().init)(KEY, x)
    variables = {**variables, "params": {"model": variables["params"], "probe": np.ones(3, np.float32)}}

    def apply(variables, x):
        logits = Regularized().apply({**variables, "params": variables["params"]["model"]}, x)
        return {"logits": logits, "probe": jnp.tile(variables["params"]["probe"], (len(x), 1))}

    def change(clean, changed):
        return {name: changes.absolute_change(clean[name], changed[name]) for name in clean}

    options = {"draws": 2, "execution": Execution(chunk=2), "where": lambda path, leaf: path[1].key == "probe"}
    found = average.weight_changes(apply, step, change=change, **options)(KEY, variables, x)
    assert found["probe"].mean > 0.1
    assert found["logits"].mean < 1e-5


def test_normalized_logits_do_not_depend_on_the_size_of_the_function():
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(9, 4)).astype(np.float32), np.arange(9, dtype=np.int32) % 3
    params = {"w": rng.normal(size=(4, 3)).astype(np.float32)}

    def apply(params, x):
        return x @ params["w"]

    normalized = NormalizedLogits(apply)
    logits = normalized(params, x)
    np.testing.assert_allclose(np.std(logits, 1), 1, rtol=1e-5)
    np.testing.assert_array_equal(logits.argmax(1), apply(params, x).argmax(1))
    large = {"w": 100 * params["w"]}
    np.testing.assert_allclose(normalized(large, x), logits, rtol=1e-4)
    assert np.all(normalized({"w": 0 * params["w"]}, x) == 0), "logits that are all equal stay, finite"
    noise = perturb.relative(perturb.gaussian(0.01), scales.by_leaf)
    small, big = (
        average.classifier_sharpness(normalized, noise, draws=3)(KEY, p, (x, labels))["loss"] for p in (params, large)
    )
    np.testing.assert_allclose(small.values, big.values, atol=1e-5)
    assert abs(small.mean) > 1e-4


@pytest.mark.slow
def test_intervals_cover_the_truth(capsys):
    """200 repeats with fresh inputs and draws: average sharpness of a quadratic."""
    measure = average.average_sharpness(quadratic, perturb.gaussian(0.09), draws=20)
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(30, 4, 4))
        batch = {"x": rng.normal(size=(30, 4)), "h": np.einsum("bij,bkj->bik", root, root)}
        params = {"w": rng.normal(size=4).astype(np.float32)}
        low, high = measure(jax.random.key(seed), params, jax.tree.map(np.float32, batch)).interval(0.95)
        hits += low <= 0.045 * np.trace(batch["h"].mean(0)) <= high
    with capsys.disabled():
        print(f"\naverage sharpness: {hits / 2:.1f} % of 200 intervals at 95 % cover it")
    assert 0.905 <= hits / 200 <= 0.985
