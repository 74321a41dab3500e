"""What is kept of blocks of data from call to call, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.curvature import microbatches

RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(3, 3)).astype(np.float32))
BLOCKS = RNG.normal(size=(5, 2, 3)).astype(np.float32)
X = jnp.asarray(RNG.normal(size=3).astype(np.float32))


def of_block(block):
    hidden = jnp.sin(block)
    return lambda x: {"out": hidden @ (WEIGHTS @ x)}


def expected(blocks):
    return {"out": (np.sin(blocks) @ (WEIGHTS @ X)).sum(0)}


def operations(total):
    return str(jax.make_jaxpr(total)(X))


def test_a_sum_that_is_kept_is_the_sum_and_computes_nothing_twice(monkeypatch):
    for count in (1, 5):
        kept = microbatches.sum_kept_over_blocks(of_block, BLOCKS[:count], X, [WEIGHTS])
        np.testing.assert_allclose(kept(X)["out"], expected(BLOCKS[:count])["out"], rtol=1e-5)
        assert "sin" not in operations(kept)
    held = sorted(np.shape(const) for const in jax.make_jaxpr(kept)(X).consts)
    assert held == [(3, 3), (5, 2, 3)]  # the weights once, not for every block
    monkeypatch.setattr(microbatches, "KEPT", 1)
    anew = microbatches.sum_kept_over_blocks(of_block, BLOCKS, X, [WEIGHTS])
    np.testing.assert_allclose(anew(X)["out"], expected(BLOCKS)["out"], rtol=1e-5)
    assert "sin" in operations(anew)
