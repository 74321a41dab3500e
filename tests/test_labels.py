"""Labels are classes, or an error names the first that is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature, labels, perturb, sharpness
from jaxsens.execution import Execution
from jaxsens.sharpness import classification

LABELS = np.array([2, 0, 1, 2])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, list])
def test_labels_of_any_integer_type_become_int32(kind):
    given = LABELS.tolist() if kind is list else LABELS.astype(kind)
    found = labels.require_labels(given, 3)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, LABELS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([2, -1, 5], r"classes from 0 to 2, got -1 at \[1\] \(2 such of 3\)"),
        ([1, 2, 3], r"got 3 at \[2\] .*subtract 1"),
        (LABELS + 2**32, "labels must fit int32"),
        (LABELS.astype(float), r"float.*astype\(int\)"),
        (np.eye(3)[LABELS], r"argmax\(-1\)"),
        (np.eye(3, dtype=int)[LABELS], r"argmax\(-1\)"),
        (LABELS > 0, "got bool"),
        (LABELS[:, None], r"\[b\], one for each example, got shape \(4, 1\)"),
        (["a", "b"], "labels must be arrays of numbers"),
        (np.ma.masked_array(LABELS, [0, 1, 0, 0]), "labels must not be a masked array"),
    ],
)
def test_what_is_no_label_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        labels.require_labels(wrong, 3)


def test_one_value_outside_the_classes_may_be_ignored():
    np.testing.assert_array_equal(labels.require_labels([0, 255, 1], 2, ignore_index=255), [0, 255, 1])
    with pytest.raises(ValueError, match=r"got -1 at \[1, 0\]"):
        labels.require_labels([[0, 255], [-1, 1]], 2, shape=(2, 2), ignore_index=255)


def apply(params, x):
    return x @ params


def test_a_cross_entropy_leaves_ignored_examples_out():
    x, params = np.arange(8, dtype=np.float32).reshape(4, 2), np.ones((2, 3), np.float32)
    loss = classification.CrossEntropy(apply, ignore_index=-1)
    inputs, kept = labels.check_batch(loss, params, (x, np.array([2, -1, 1, -1])))
    np.testing.assert_array_equal(inputs, x[[0, 2]])
    np.testing.assert_array_equal(kept, [2, 1])
    for other in (classification.CrossEntropy(apply), classification.ClassifierOutputs(apply)):
        with pytest.raises(ValueError, match=r"got -1 at \[1\]"):
            labels.check_batch(other, params, (x, np.array([2, -1, 1, -1])))
    with pytest.raises(ValueError, match="all 4 examples"):
        labels.check_batch(loss, params, (x, np.full(4, -1)))
    assert labels.check_batch(apply, params, x) is x  # a function without a check of its own


@pytest.mark.parametrize("group", [None, 2])
def test_sharpness_leaves_ignored_examples_out(group):
    """The mean is over the examples with a label, as if the others were not there."""
    rng, key = np.random.default_rng(0), jax.random.key(0)
    x, params = rng.normal(size=(6, 2)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    targets = np.array([2, -1, 1, 0, -1, 0])
    kept = targets != -1
    plain, ignoring = (classification.CrossEntropy(apply, index) for index in (None, -1))
    for build in (
        lambda loss: sharpness.average_sharpness(loss, perturb.gaussian(0.01), draws=3),
        lambda loss: sharpness.worst_case_sharpness(loss, 0.1, iterations=2, group=group),
    ):
        expected = build(plain)(key, params, (x[kept], targets[kept])).mean
        np.testing.assert_allclose(build(ignoring)(key, params, (x, targets)).mean, expected, rtol=1e-5)
        with pytest.raises(ValueError, match=r"got -1 at \[1\]"):
            build(plain)(key, params, (x, targets))
    plane = sharpness.loss_plane(ignoring, [0.0, 1.0])(params, [params], (x, targets))
    assert plane.losses.count == 4


def softmax(w, x):
    return jax.nn.softmax(x @ w)


def with_logits(name, apply, execution=Execution(chunk=4)):  # noqa: B008 (a frozen dataclass)
    """Run a measure whose loss is the cross-entropy of logits."""
    loss, noise = classification.CrossEntropy(apply), perturb.gaussian(0.1)
    key, w = jax.random.key(0), np.eye(3, dtype=np.float32)
    batch = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), LABELS
    return {
        "hessian": lambda: curvature.hessian_product(loss, execution=execution).prepare(w, batch),
        "ggn": lambda: curvature.ggn_product(apply, execution=execution).prepare(w, batch),
        "worst case": lambda: sharpness.worst_case_sharpness(loss, 0.1, iterations=1, execution=execution)(
            key, w, batch
        ),
        "average": lambda: sharpness.average_sharpness(loss, noise, draws=2, execution=execution)(key, w, batch),
    }[name]()


@pytest.mark.parametrize("name", ["hessian", "ggn", "worst case", "average"])
def test_probabilities_where_logits_are_meant_are_warned_of_once(name):
    def apply(w, x):
        return softmax(w, x)

    with pytest.warns(UserWarning, match="return the values before the softmax"):
        with_logits(name, apply)
    with_logits(name, apply)  # warnings are errors
    if name in ("hessian", "ggn"):
        with_logits(name, softmax, Execution(chunk=4, check=False))


@pytest.mark.parametrize("outputs", [[[0.5, 0.6]], [[1.0]], [[-0.5, 1.5]], [[0.5, 0.5], [2.0, -1.0]]])
def test_what_does_not_look_like_probabilities_is_not_warned_of(outputs):
    labels.warn_of_probabilities(np.array(outputs))


def of_tokens(params, x):
    return jnp.einsum("btd,dk->btk", x, params)


def test_losses_of_tokens_are_a_mean_over_the_labels_that_count():
    """In estimators over all of them, in a direct call over those of the example."""
    rng, key = np.random.default_rng(1), jax.random.key(0)
    x, params = rng.normal(size=(3, 4, 2)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    targets = rng.integers(0, 3, (3, 4))
    counted = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
    plain, ignoring = classification.CrossEntropy(of_tokens), classification.CrossEntropy(of_tokens, -1)
    alone = classification.CrossEntropy(apply)
    single = np.asarray(alone(params, (x.reshape(12, 2), targets.ravel()))).reshape(3, 4)
    np.testing.assert_allclose(plain(params, (x, targets)), single.mean(1), rtol=1e-6)
    expected = [single[0, counted[0]].mean(), np.nan, single[2, 1]]
    marked = np.where(counted, targets, -1)
    np.testing.assert_allclose(ignoring(params, (x, marked)), expected, rtol=1e-6)
    np.testing.assert_allclose(plain(params, (x, marked, counted)), expected, rtol=1e-6)
    measure = sharpness.average_sharpness(ignoring, perturb.gaussian(0.01), draws=3)
    found = measure(key, params, (x, marked)).mean
    measure = sharpness.average_sharpness(alone, perturb.gaussian(0.01), draws=3)
    np.testing.assert_allclose(found, measure(key, params, (x[counted], targets[counted])).mean, rtol=1e-5)


def test_what_a_token_that_does_not_count_holds_changes_nothing():
    """Neither its label nor logits that are not finite reach the loss or its gradient."""
    x, params = np.ones((2, 2, 2), np.float32), np.ones((2, 3), np.float32)
    loss = classification.CrossEntropy(lambda params, x: of_tokens(params, x[0]) + x[1])
    shift = np.zeros((2, 2, 3), np.float32)
    shift[1, 0] = np.nan
    labels, mask = np.array([[0, 1], [77, 2]]), np.array([[True, True], [False, True]])
    value, gradient = jax.value_and_grad(lambda p, s: loss(p, ((x, s), labels, mask)).sum())(params, shift)
    clean = jax.value_and_grad(lambda p, s: loss(p, ((x, s), labels, mask)).sum())(params, np.zeros_like(shift))
    np.testing.assert_array_equal(value, clean[0])
    np.testing.assert_array_equal(gradient, clean[1])
    for wrong, message in (
        (((x, shift), labels, mask[:1]), r"mask must be booleans \(2, 2\)"),
        (((x, shift), labels[:1], mask[:1]), r"labels must be integers \[b \*t\]"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(params, wrong)
    with pytest.raises(ValueError, match=r"logits \[b k\], one row for each example"):
        classification.ClassifierOutputs(of_tokens).check_batch(params, (x, np.zeros((2, 2), int)))
