"""Precisions: those of another platform are refused, and errors are those of the products."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.execution import Execution, map_items, precision, precision_errors

X = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)


def product(w, x):
    return x @ w


def test_an_algorithm_of_another_platform_is_refused_by_name():
    execution = Execution(precision="TF32_TF32_F32_X3")
    with pytest.raises(ValueError, match=r"precision must be an algorithm of the platform cpu.*'TF32_TF32_F32_X3'"):
        map_items(lambda x, w: x @ w, X, W, execution=execution)
    for platform, names in precision.ALGORITHMS.items():
        for name in names:
            precision.require_precision(SimpleNamespace(platform=platform, precision=name))
    gpu = SimpleNamespace(platform="gpu", precision="TF32_TF32_F32_X3")
    precision.require_precision(gpu)
    for name in ("highest", "default", "bfloat16_3x"):
        precision.require_precision(SimpleNamespace(platform="tpu", precision=name))
    with pytest.raises(ValueError, match="platform tpu"):
        precision.require_precision(SimpleNamespace(platform="tpu", precision=gpu.precision))


def test_the_errors_of_a_model_are_those_of_its_outputs(monkeypatch):
    """On a CPU all products are exact enough: a stand-in rounds to bfloat16 where the precision says so."""

    def rounded(w, x):
        low = jax.config.jax_default_matmul_precision == "bfloat16"
        return product(w, x.astype(jnp.bfloat16).astype(x.dtype) if low else x)

    found = precision_errors(rounded, W, X, ["highest", "bfloat16"])
    exact, low = X.astype(np.float64) @ W, np.asarray(jnp.asarray(X).astype(jnp.bfloat16), np.float64) @ W
    expected = np.linalg.norm(low - exact) / np.linalg.norm(exact - exact.mean(0))
    assert found["highest"] == 0
    np.testing.assert_allclose(found["bfloat16"], expected, rtol=1e-3)


def test_by_default_all_precisions_of_the_platform_are_compared():
    assert set(precision_errors(product, W, X)) == {"default", "high", "F32_F32_F32"}


@pytest.mark.parametrize(
    ("batch", "match"),
    [(X[:1], "at least two examples"), (np.ones_like(X), "differ among examples"), (X[:, :3], "do not fit")],
)
def test_what_says_nothing_is_refused(batch, match):
    with pytest.raises(ValueError, match=match):
        precision_errors(product, W, batch)
