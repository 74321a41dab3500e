"""Products with curvature matrices against matrices that are known, or written out by other means."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature
from jaxsens.execution import Execution

COUNT, INPUTS, CLASSES = 11, 3, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, INPUTS)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, COUNT)
WEIGHTS = {"w": RNG.normal(size=(INPUTS, CLASSES)).astype(np.float32)}
MLP = {
    "a": RNG.normal(size=(INPUTS, 5)).astype(np.float32) / 2,
    "b": RNG.normal(size=(5, CLASSES)).astype(np.float32) / 2,
}


def linear(params, x):
    return x @ params["w"]


def mlp(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def squared_error(outputs, targets):
    return 0.5 * jnp.sum((outputs - targets) ** 2, -1)


def logistic(params, batch):
    scores = linear(params, batch[0])
    return jax.nn.softplus(scores) - batch[1] * scores


def mlp_loss(params, batch):
    return cross_entropy(mlp(params, batch[0]), batch[1])


@partial(jax.jit, static_argnums=0)
def columns(product, params, parts):
    multiply, like = product.on_vectors(params, parts)
    return jax.lax.map(multiply, jnp.eye(like.size, dtype=like.dtype))


def written_out(product, params, batch):
    """The matrix, column by column."""
    problem = product.prepare(params, batch)
    return np.asarray(columns(problem.product, problem.params, problem.parts)).T


@partial(jax.jit, static_argnums=0)
def forms(product, params, parts, vectors):
    form, _ = product.form_on_vectors(params, parts)
    return jax.lax.map(form, vectors)


def flat(params):
    return jax.flatten_util.ravel_pytree(params)


def test_linear_regression_has_the_second_moments_of_the_inputs(devices):
    """``H = G = (X' X / n) kron I``."""
    targets = RNG.normal(size=(COUNT, CLASSES)).astype(np.float32)
    expected = np.kron(X.T @ X / COUNT, np.eye(CLASSES))
    batch = (X, targets)
    one = {"devices": devices[:1]}
    hessian = curvature.hessian_product(lambda params, batch: squared_error(linear(params, batch[0]), batch[1]), **one)
    np.testing.assert_allclose(written_out(hessian, WEIGHTS, batch), expected, atol=1e-5)
    ggn = curvature.ggn_product(linear, curvature.of_convex(squared_error), **one)
    np.testing.assert_allclose(written_out(ggn, WEIGHTS, batch), expected, atol=1e-5)


def test_logistic_regression_has_its_weighted_second_moments(devices):
    """``H = G = X' diag(p (1 - p)) X / n``."""
    params = {"w": RNG.normal(size=INPUTS).astype(np.float32)}
    batch = (X, (LABELS > 1).astype(np.float32))
    p = 1 / (1 + np.exp(-X @ params["w"]))
    expected = X.T @ ((p * (1 - p))[:, None] * X) / COUNT
    hessian = curvature.hessian_product(logistic, execution=Execution(devices=devices[:1]))
    np.testing.assert_allclose(written_out(hessian, params, batch), expected, atol=1e-5)


def test_softmax_regression_has_a_sum_of_kronecker_products(devices):
    """``H = G = mean_x x x' kron (diag(p) - p p')``; a single product of two matrices where all p are alike."""
    one = {"devices": devices[:1]}
    hessian = curvature.hessian_product(lambda params, batch: cross_entropy(linear(params, batch[0]), batch[1]), **one)
    closed = curvature.ggn_product(linear, **one)
    p = np.asarray(jax.nn.softmax(X @ WEIGHTS["w"]))
    expected = np.mean([np.kron(np.outer(x, x), np.diag(q) - np.outer(q, q)) for x, q in zip(X, p, strict=True)], 0)
    for product in (hessian, closed):
        np.testing.assert_allclose(written_out(product, WEIGHTS, (X, LABELS)), expected, atol=1e-5)
    alike = np.kron(X.T @ X / COUNT, np.eye(CLASSES) / CLASSES - 1 / CLASSES**2)
    zero = jax.tree.map(np.zeros_like, WEIGHTS)
    for product in (hessian, closed):
        np.testing.assert_allclose(written_out(product, zero, (X, LABELS)), alike, atol=1e-5)


def test_the_closed_form_is_the_derivative():
    change = RNG.normal(size=(COUNT, CLASSES)).astype(np.float32)
    logits = X @ WEIGHTS["w"]
    expected = curvature.of_convex(cross_entropy)(logits, LABELS, change)
    np.testing.assert_allclose(curvature.softmax_cross_entropy(logits, LABELS, change), expected, atol=1e-6)


def test_a_network_has_three_different_matrices_and_blocks_of_them(devices):
    vector, restore = flat(MLP)

    jacobian = np.asarray(jax.jit(jax.jacrev(lambda v: mlp(restore(v), X)))(vector), np.float64)
    hessian = jax.jit(jax.hessian(lambda v: mlp_loss(restore(v), (X, LABELS)).mean()))(vector)
    p = np.asarray(jax.nn.softmax(mlp(MLP, X)), np.float64)
    gradients = np.einsum("bk,bki->bi", p - np.eye(CLASSES)[LABELS], jacobian)
    middle = np.stack([np.diag(q) - np.outer(q, q) for q in p])
    expected = {
        "hessian": hessian,
        "ggn": np.einsum("bki,bkl,blj->ij", jacobian, middle, jacobian) / COUNT,
        "fisher": gradients.T @ gradients / COUNT,
    }
    build = {
        "hessian": lambda **options: curvature.hessian_product(mlp_loss, **options),
        "ggn": lambda **options: curvature.ggn_product(mlp, **options),
        "fisher": lambda **options: curvature.fisher_product(mlp_loss, **options),
    }
    for name, make in build.items():
        found = written_out(make(execution=Execution(devices=devices[:1])), MLP, (X, LABELS))
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
        problem = make(execution=Execution(chunk=6, devices=devices[:1])).prepare(MLP, (X, LABELS))
        vectors = RNG.normal(size=(2, vector.size)).astype(np.float32)
        found = forms(problem.product, problem.params, problem.parts, vectors)
        np.testing.assert_allclose(found, [v @ expected[name] @ v for v in vectors], rtol=1e-4)
    assert np.abs(expected["ggn"] - expected["hessian"]).max() > 0.01
    assert np.abs(expected["ggn"] - expected["fisher"]).max() > 0.01
    block = build["ggn"](execution=Execution(devices=devices[:1]), where=lambda path, leaf: path[-1].key == "b")
    found = written_out(block, MLP, (X, LABELS))
    np.testing.assert_allclose(found, expected["ggn"][15:, 15:], atol=1e-5)


def direction_for(params):
    return tuple(RNG.normal(size=leaf.shape).astype(leaf.dtype) for leaf in jax.tree.leaves(params))


def test_micro_batches_and_devices_alter_results_by_rounding_only(devices):
    def loss(params, x):
        return jnp.sum(jnp.tanh(x @ params["w"]), 1)

    direction = direction_for(WEIGHTS)
    x = np.tile(X, (4, 1))  # 44 examples: neither parts nor micro-batches come out even

    def product(number, chunk=2):
        build = curvature.hessian_product(
            loss,
            execution=Execution(chunk=chunk, devices=devices[:number]),
        )
        return np.asarray(build(WEIGHTS, x, direction)[0])

    two = product(2)
    np.testing.assert_array_equal(two, product(8))
    for other in (product(1), product(1, None)):
        np.testing.assert_allclose(two, other, rtol=1e-5, atol=1e-6)


def test_double_precision_is_kept(float64, devices):
    x, labels = X.astype(np.float64), (LABELS > 1).astype(np.float64)
    params = {"w": RNG.normal(size=INPUTS)}
    direction = RNG.normal(size=INPUTS)
    p = 1 / (1 + np.exp(-x @ params["w"]))
    expected = x.T @ (p * (1 - p) * (x @ direction)) / COUNT
    (found,) = curvature.hessian_product(logistic, execution=Execution(devices=devices[:1]))(
        params, (x, labels), (direction,)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_equal_products_compile_once(devices):
    traces = []

    def loss(params, batch):
        traces.append(1)
        return squared_error(linear(params, batch), 0)

    direction = direction_for(WEIGHTS)
    for _ in range(2):
        product = curvature.hessian_product(
            loss,
            execution=Execution(chunk=20, devices=devices[:1]),
        )
        for batch in (X, X + 1):
            before = len(traces)
            product(WEIGHTS, batch, direction)
    assert len(traces) == before + 1  # only the check of shapes


def test_products_run_at_full_precision(devices):
    seen = []

    def loss(params, batch):
        seen.append(jax.config.jax_default_matmul_precision)
        return squared_error(linear(params, batch), 0)

    curvature.hessian_product(
        loss,
        execution=Execution(chunk=20, devices=devices[:1]),
    )(WEIGHTS, X, direction_for(WEIGHTS))
    assert set(seen[1:]) == {"highest"}  # the first call only asks for shapes


def test_a_matrix_of_zeros_is_one_in_micro_batches_too(devices):
    """A loss that is linear in the parameters leaves nothing to keep from product to product."""
    product = curvature.hessian_product(
        lambda params, x: (x @ params["w"])[:, 0],
        execution=Execution(chunk=2, devices=devices[:1]),
    )
    (found,) = product(WEIGHTS, X, direction_for(WEIGHTS))
    np.testing.assert_array_equal(found, np.zeros((INPUTS, CLASSES)))


def test_bad_arguments_are_named(devices):
    direction = direction_for(MLP)
    batch = (X, LABELS)

    def fails(match, product, params=MLP, batch=batch, direction=direction):
        with pytest.raises(ValueError, match=match):
            product(params, batch, direction)

    with pytest.raises(ValueError, match="chunk must be an integer of at least 1"):
        curvature.hessian_product(mlp_loss, execution=Execution(chunk=0))
    fails(r"loss must give one number for each example, \[b\], got shape \(\)",
          curvature.hessian_product(lambda p, b: mlp_loss(p, b).mean()))  # fmt: skip
    fails(r"loss must give one number for each example, \[b\], got shape \(2, 4\)",
          curvature.fisher_product(lambda p, b: mlp(p, b[0])))  # fmt: skip
    fails(r"loss must give one number for each example, \[b\], got shape \(\)",
          curvature.ggn_product(mlp, curvature.of_convex(lambda o, t: squared_error(o, 0).mean())))  # fmt: skip
    fails(r"loss must give one number for each example, \[b\], got shape \(1,\)",
          curvature.hessian_product(lambda p, b: mlp_loss(p, b).mean(keepdims=True)))  # fmt: skip
    fails(
        "logits .* of k >= 2 classes, got shape .2,.; for one logit",
        curvature.ggn_product(lambda p, x: mlp(p, x)[:, 0]),
    )
    fails("one array of outputs", curvature.ggn_product(lambda p, x: mlp(p, x).sum(0)))
    fails("a pair", curvature.ggn_product(mlp), batch=X)
    fails("do not fit", curvature.hessian_product(mlp_loss), batch=(X[:, :2], LABELS))
    hessian = curvature.hessian_product(mlp_loss)
    fails("leading axis b of at least 1", hessian, batch=(X[:0], LABELS[:0]))
    fails("leading axis b of at least 1", hessian, batch=(X, LABELS[:3]))
    fails("direction must be a tuple", hessian, direction=direction[:1])
    fails("no real floating-point leaf to move", hessian, params={"a": np.int32(1)})
    nowhere = curvature.hessian_product(mlp_loss, where=lambda path, leaf: False)
    fails("no real floating-point leaf to move", nowhere)


def test_a_product_that_is_not_finite_stops_the_run(devices):
    def loss(params, batch):
        return batch * jnp.sqrt(params["w"])

    with pytest.raises(FloatingPointError, match="not finite"):
        curvature.hessian_product(loss, execution=Execution(devices=devices[:1]))(
            {"w": np.float32(0)}, np.ones(3, np.float32), (1.0,)
        )
