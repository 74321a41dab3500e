"""Products with curvature matrices against matrices that are known, or written out by other means.

The file is long because its tests share models and compiled programs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import flatten_util

from jaxsens import curvature
from jaxsens.execution import Execution
from jaxsens.sharpness import classification

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
    return flatten_util.ravel_pytree(params)


def test_linear_regression_has_the_second_moments_of_the_inputs(devices):
    """``H = G = (X' X / n) kron I``."""
    targets = RNG.normal(size=(COUNT, CLASSES)).astype(np.float32)
    expected = np.kron(X.T @ X / COUNT, np.eye(CLASSES))
    batch = (X, targets)
    one = {"execution": Execution(devices=devices[:1])}
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
    one = {"execution": Execution(devices=devices[:1])}
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
    fails("direction must be a pytree like params", hessian, direction=direction[:1])
    fails("no real floating-point leaf to move", hessian, params={"a": np.int32(1)})
    nowhere = curvature.hessian_product(mlp_loss, where=lambda path, leaf: False)
    fails("no real floating-point leaf to move", nowhere)


def test_a_product_that_is_not_finite_stops_the_run(devices):
    def loss(params, batch):
        return batch * jnp.sqrt(params["w"])

    with pytest.raises(FloatingPointError, match="not finite, although all losses are"):
        curvature.hessian_product(loss, execution=Execution(devices=devices[:1]))(
            {"w": np.float32(0)}, np.ones(3, np.float32), (1.0,)
        )


def selected(params, batch):
    """A cross-entropy that is NaN for a label out of range, where its derivative is 0."""
    inputs, labels = batch
    here = labels[:, None] == jnp.arange(CLASSES)[None]
    logits = mlp(params, inputs)
    loss = jax.nn.logsumexp(logits, 1) - jnp.sum(jnp.where(here, logits, 0), 1)
    return jnp.where(here.any(1), loss, jnp.nan)


@pytest.mark.parametrize("number", [1, 3])
def test_an_example_with_a_loss_that_is_not_finite_is_named(devices, number):
    """Its derivatives are 0: a product alone would take it for a flat example."""
    labels = np.where(np.arange(COUNT) == 7, -100, LABELS)
    execution = Execution(chunk=2, devices=devices[:number])
    with pytest.raises(FloatingPointError, match=r"not finite for example 7 \(1 such of 11\)"):
        curvature.hessian_product(selected, execution=execution)(MLP, (X, labels), direction_for(MLP))
    (flat,) = jax.grad(lambda w: selected(MLP | {"a": w}, (X[7:8], labels[7:8])).sum())(MLP["a"])[:1]
    assert np.all(flat == 0)


def test_an_output_or_convex_loss_that_is_not_finite_is_named(devices):
    execution = Execution(devices=devices[:1])
    nan_target = curvature.ggn_product(mlp, curvature.of_convex(squared_error), execution=execution)
    targets = np.zeros((COUNT, CLASSES), np.float32)
    targets[4] = np.nan
    with pytest.raises(FloatingPointError, match="not finite for example 4"):
        nan_target(MLP, (X, targets), direction_for(MLP))
    inputs = X.copy()
    inputs[9, 0] = np.inf
    with pytest.raises(FloatingPointError, match="not finite for example 9"):
        curvature.ggn_product(linear, execution=execution)(WEIGHTS, (inputs, LABELS), direction_for(WEIGHTS))


LOSS = classification.CrossEntropy(mlp)
ONE = Execution(devices=jax.devices()[:1])
BUILD = {
    "hessian": lambda **options: curvature.hessian_product(LOSS, execution=ONE, **options),
    "ggn": lambda **options: curvature.ggn_product(mlp, execution=ONE, **options),
    "fisher": lambda **options: curvature.fisher_product(LOSS, execution=ONE, **options),
}


@pytest.mark.parametrize("name", BUILD)
def test_labels_that_are_no_classes_are_refused(name):
    product = BUILD[name]()
    for labels, message in (
        (np.where(np.arange(COUNT) == 3, -1, LABELS), r"classes from 0 to 3, got -1 at \[3\] \(1 such of 11\)"),
        (np.arange(COUNT) % CLASSES + 1, "got 4 at .* subtract 1"),
        (np.full(COUNT, -100), r"got -100 at \[0\] \(11 such"),
        (LABELS.astype(np.float32), r"must be integers.*float32.*astype\(int\)"),
        (np.eye(CLASSES, dtype=np.float32)[LABELS], r"argmax\(-1\)"),
        (np.eye(CLASSES, dtype=np.int32)[LABELS], r"argmax\(-1\)"),
        (LABELS == 1, "bool"),
        (LABELS + 2**32, "batch must fit int32"),
        (np.ma.masked_array(LABELS, LABELS == 2), "batch must not be a masked array"),
    ):
        with pytest.raises(ValueError, match=message):
            product(MLP, (X, labels), direction_for(MLP))


@pytest.mark.parametrize("name", BUILD)
def test_ignored_examples_are_left_out_of_the_mean(name):
    """The matrix is that of the examples with a label, in all three products."""
    kept = np.arange(COUNT) % 3 != 1
    labels = np.where(kept, LABELS, -100)
    ignoring_loss = classification.CrossEntropy(mlp, ignore_index=-100)
    ignoring = {
        "hessian": lambda: curvature.hessian_product(ignoring_loss, execution=ONE),
        "ggn": lambda: curvature.ggn_product(mlp, ignore_index=-100, execution=ONE),
        "fisher": lambda: curvature.fisher_product(ignoring_loss, execution=ONE),
    }[name]()
    direction = direction_for(MLP)
    expected = BUILD[name]()(MLP, (X[kept], LABELS[kept]), direction)
    for leaf, other in zip(ignoring(MLP, (X, labels), direction), expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="all 11 examples have the ignored label"):
        ignoring(MLP, (X, np.full(COUNT, -100)), direction)


def tokenwise(params, x):
    """Logits ``[b t k]`` of tokens ``[b t d]``; not finite for a token of NaN."""
    return jnp.einsum("btd,dk->btk", x, params["w"])


TOKENS = RNG.normal(size=(4, 3, INPUTS)).astype(np.float32)
TOKEN_LABELS = RNG.integers(0, CLASSES, (4, 3))
COUNTED = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
MARKED = np.where(COUNTED, TOKEN_LABELS, -1)


@pytest.mark.parametrize("name", ["hessian", "ggn"])
def test_tokens_that_do_not_count_are_as_if_they_were_not_there(name):
    """Tokens that are classified alone: the matrix is that of the tokens that count, as examples of their own."""

    def build(apply, index=None):
        if name == "hessian":
            return curvature.hessian_product(classification.CrossEntropy(apply, index), execution=ONE)
        return curvature.ggn_product(apply, ignore_index=index, execution=ONE)

    direction = direction_for(WEIGHTS)
    alone = build(linear)(WEIGHTS, (TOKENS[COUNTED], TOKEN_LABELS[COUNTED]), direction)
    plain, ignoring = build(tokenwise), build(tokenwise, -1)
    masked = np.where(COUNTED, TOKEN_LABELS, 99), COUNTED
    for product, batch in (
        (ignoring, (TOKENS, MARKED)),
        (plain, (TOKENS, *masked)),
        (ignoring, (TOKENS, np.where(COUNTED[:, :1], MARKED, TOKEN_LABELS), COUNTED)),
    ):
        np.testing.assert_allclose(product(WEIGHTS, batch, direction)[0], alone[0], rtol=1e-5, atol=1e-6)
    every = build(linear)(WEIGHTS, (TOKENS.reshape(12, -1), TOKEN_LABELS.ravel()), direction)
    np.testing.assert_allclose(plain(WEIGHTS, (TOKENS, TOKEN_LABELS), direction)[0], every[0], rtol=1e-5, atol=1e-6)
    for wrong, message in (
        ((TOKENS, MARKED), r"got -1 at \[1, 0\]"),
        (
            (TOKENS, TOKEN_LABELS, COUNTED[:, :2]),
            r"mask must be booleans of shape \(4, 3\), one for each.*got bool",
        ),
        ((TOKENS, TOKEN_LABELS, COUNTED.astype(int)), r"mask must be booleans .*got int32"),
        ((TOKENS, TOKEN_LABELS, np.zeros((4, 3), bool)), "or none in the mask"),
    ):
        with pytest.raises(ValueError, match=message):
            plain(WEIGHTS, wrong, direction)


def test_a_ggn_of_tokens_needs_a_mask_only():
    product, direction = curvature.ggn_product(tokenwise, execution=ONE), direction_for(WEIGHTS)
    expected = product(WEIGHTS, (TOKENS, TOKEN_LABELS, COUNTED), direction)
    np.testing.assert_array_equal(product(WEIGHTS, (TOKENS, None, COUNTED), direction)[0], expected[0])
    with pytest.raises(ValueError, match="ignore_index belongs to softmax_cross_entropy"):
        curvature.ggn_product(tokenwise, curvature.of_convex(squared_error), ignore_index=-1)
    with pytest.raises(ValueError, match="a mask is for the default curvature"):
        curvature.ggn_product(linear, curvature.of_convex(squared_error))(WEIGHTS, (X, X, X), direction)


def test_a_ggn_needs_no_labels():
    product, direction = BUILD["ggn"](), direction_for(MLP)
    for leaf, other in zip(product(MLP, (X, None), direction), product(MLP, (X, LABELS), direction), strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_traced_data_is_refused():
    product = curvature.hessian_product(mlp_loss)
    with pytest.raises(ValueError, match=r"traced by jit.*outside of them"):
        jax.jit(lambda x: product(MLP, (x, LABELS), direction_for(MLP)))(X)
    with pytest.raises(ValueError, match="params must be arrays with values"):
        jax.jit(lambda params: product(params, (X, LABELS), direction_for(MLP)))(MLP)


def test_a_loss_that_depends_on_the_batch_is_refused():
    """Statistics of the batch would give another matrix for every chunk."""

    def loss(params, batch):
        hidden = batch @ params["w"]
        return jnp.sum((hidden - hidden.mean(0, keepdims=True)) ** 2, 1)

    with pytest.raises(ValueError, match="another example is beside it"):
        curvature.hessian_product(loss, execution=ONE)(WEIGHTS, X, direction_for(WEIGHTS))
    curvature.hessian_product(loss, execution=ONE.replace(check=False))(WEIGHTS, X, direction_for(WEIGHTS))
