"""Curvature in the inputs: blocks beside ``jax.hessian`` in float64, and beside closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import curvature
from jaxsens.curvature import inputs
from jaxsens.execution import Execution
from jaxsens.sharpness import classification

KEY = jax.random.key(0)
COUNT, TOKENS, WIDTH, CLASSES = 3, 2, 2, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, TOKENS, WIDTH))
LABELS = RNG.integers(0, CLASSES, COUNT)
PARAMS = {"a": RNG.normal(size=(TOKENS * WIDTH, 4)), "b": RNG.normal(size=(4, CLASSES))}
LINEAR = {"w": RNG.normal(size=(TOKENS * WIDTH, CLASSES)).astype(np.float32)}
SIZE = X.size
EYE = np.eye(SIZE).reshape(SIZE, *X.shape)


def mlp(params, x):
    return jnp.tanh(x.reshape(len(x), -1) @ params["a"]) @ params["b"]


def linear(params, x):
    return x.reshape(len(x), -1) @ params["w"]


@functools.partial(jax.jit, static_argnums=0)
def columns(product, params, parts):
    multiply, like = product.on_vectors(params, parts)
    return jax.lax.map(multiply, jnp.eye(like.size, dtype=like.dtype))


def written_out(product, params, batch):
    problem = product.prepare(params, batch)
    return np.asarray(columns(problem.product, problem.params, problem.parts))


def in_blocks(blocks):
    """The block-diagonal matrix of blocks ``[b n n]``."""
    size = blocks.shape[1]
    return np.einsum("bij,bc->bicj", blocks, np.eye(len(blocks))).reshape(len(blocks) * size, -1)


ONE = Execution(devices=jax.devices()[:1], chunk=2)
LOSS = classification.CrossEntropy(mlp)


def test_blocks_are_those_of_jax_hessian(float64):
    def loss(vector, label):
        return LOSS(PARAMS, (vector.reshape(1, TOKENS, WIDTH), label[None]))[0]

    expected = in_blocks(
        np.asarray(jax.vmap(jax.hessian(loss))(jnp.asarray(X).reshape(COUNT, -1), jnp.asarray(LABELS)))
    )
    product = curvature.of_inputs(curvature.hessian_product(LOSS, execution=ONE))
    np.testing.assert_allclose(written_out(product, PARAMS, (X, LABELS)), expected, rtol=1e-12, atol=1e-14)
    direction = RNG.normal(size=X.shape)
    found = product(PARAMS, (X, LABELS), direction)
    np.testing.assert_allclose(np.ravel(found), expected @ direction.ravel(), rtol=1e-12, atol=1e-14)
    assert found.shape == X.shape


def test_gauss_newton_blocks_of_a_linear_classifier_and_what_is_estimated_of_them():
    """``W (diag(p) - p p') W'``, for the Hessian and the Gauss-Newton matrix."""
    x = X.astype(np.float32)
    p = np.asarray(jax.nn.softmax(linear(LINEAR, x)), np.float64)
    blocks = np.stack([LINEAR["w"] @ (np.diag(q) - np.outer(q, q)) @ LINEAR["w"].T for q in p])
    expected = in_blocks(blocks)
    ggn = curvature.of_inputs(curvature.ggn_product(linear, execution=ONE))
    np.testing.assert_allclose(written_out(ggn, LINEAR, (x, LABELS)), expected, atol=1e-5)
    found = curvature.diagonal(ggn, probes=SIZE)(KEY, LINEAR, (x, None))
    np.testing.assert_allclose(found.mean.ravel(), np.diag(expected), atol=1e-5)
    assert found.mean.shape == X.shape
    top = curvature.top_eigenpairs(ggn, 2)(KEY, LINEAR, (x, None))
    np.testing.assert_allclose(top.values, np.linalg.eigvalsh(expected)[::-1][:2], rtol=1e-4)
    assert top.vectors.shape == (2, *X.shape)
    inside = np.sum(np.asarray(top.vectors[0]) ** 2, (1, 2))
    np.testing.assert_allclose(inside.max(), 1, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.eigvalsh(blocks[inside.argmax()])[-1], top.values[0], rtol=1e-4)
    trace = curvature.xtrace(ggn, probes=6)(KEY, LINEAR, (x, None))
    np.testing.assert_allclose(trace.mean, np.trace(expected), rtol=1e-5)
    for number in (0, 2):  # one example: its own block
        one = curvature.xtrace(ggn, probes=6)(KEY, LINEAR, (x[number : number + 1], None))
        np.testing.assert_allclose(one.mean, np.trace(blocks[number]), rtol=1e-5)


def test_other_matrices_and_a_part_of_the_inputs():
    """Empirical Fisher blocks ``g g'``; a mask is fixed, and ``where`` chooses."""

    def losses(params, batch):
        pair, scale = batch
        return jnp.where(pair["keep"], pair["x"] @ params, 0) * scale + jnp.sum(pair["y"], 1)

    pair = {"keep": np.array([True, False, True]), "x": np.ones((3, 2), np.float32), "y": np.ones((3, 1), np.float32)}
    params, scale = np.array([1.0, 3.0], np.float32), np.array([1.0, 1.0, 2.0], np.float32)
    fisher = curvature.fisher_product(losses, execution=ONE)
    gradients = np.array([[1, 3], [0, 0], [2, 6]])
    chosen = curvature.of_inputs(fisher, where=lambda path, leaf: path[-1].key == "x")
    expected = in_blocks(np.einsum("bi,bj->bij", gradients, gradients))
    np.testing.assert_allclose(written_out(chosen, params, (pair, scale)), expected, rtol=1e-6)
    found = curvature.diagonal(chosen, probes=9)(KEY, params, (pair, scale))
    assert found.leaves == ("['x']",)
    np.testing.assert_allclose(found.mean["x"], gradients**2, rtol=1e-6)
    assert not found.mean["y"].any()
    np.testing.assert_allclose(
        curvature.trace(curvature.of_inputs(fisher), probes=1)(KEY, params, (pair, scale)).count, 1
    )


def test_an_examples_block_does_not_depend_on_the_others():
    """Of tokens with a label each: the loss of an example is the mean over its own labels that count."""
    embeddings, labels = X.astype(np.float32), RNG.integers(0, CLASSES, (COUNT, TOKENS))
    mask = np.array([[True, True], [True, False], [True, True]])
    apply = lambda params, x: jnp.einsum("btd,dk->btk", x, params["w"][:WIDTH])  # noqa: E731
    for build in (
        curvature.hessian_product(classification.CrossEntropy(apply), execution=ONE),
        curvature.monte_carlo_fisher_product(apply, draws=2, execution=ONE),
    ):
        product = curvature.of_inputs(build)
        every = product(LINEAR, (embeddings, labels, mask), np.ones_like(embeddings))
        two = product(LINEAR, (embeddings[:2], labels[:2], mask[:2]), np.ones_like(embeddings[:2]))
        np.testing.assert_allclose(every[:2], two, rtol=1e-5, atol=1e-6)
        assert np.abs(every[1, 0]).max() > 1e-3
        assert not np.asarray(every[1, 1]).any()


def test_chunks_and_devices_alter_results_by_rounding_only(devices):
    def product(number, chunk):
        build = curvature.hessian_product(LOSS, execution=Execution(devices=devices[:number], chunk=chunk))
        return np.asarray(curvature.of_inputs(build)(PARAMS, (X, LABELS), np.ones_like(X)))

    two = product(2, 2)
    np.testing.assert_array_equal(two, product(3, 2))
    np.testing.assert_allclose(two, product(1, 3), rtol=1e-4, atol=1e-6)


def test_bad_arguments_are_named():
    plain = curvature.hessian_product(LOSS, execution=ONE)
    product = curvature.of_inputs(plain)
    for wrong in (product, curvature.hessian_product(LOSS, where=lambda path, leaf: True)):
        with pytest.raises(ValueError, match="product must be one in the parameters, without where"):
            curvature.of_inputs(wrong)
    with pytest.raises(ValueError, match=r"must be floating-point numbers, got \['int32'\]: for token ids"):
        product(PARAMS, (np.ones((2, 4), int), LABELS[:2]), np.ones((2, 4)))
    ignoring = curvature.of_inputs(curvature.ggn_product(mlp, ignore_index=-1, execution=ONE))
    with pytest.raises(ValueError, match="1 of 3 examples without a label that counts"):
        ignoring(PARAMS, (X, np.array([0, -1, 1])), X)
    with pytest.raises(ValueError, match="direction must be a pytree like the inputs"):
        product(PARAMS, (X, LABELS), X[:2])
    assert inputs._inputs_of(X) is X
