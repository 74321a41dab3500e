"""Second derivatives along lines, beside second differences."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.curvature import directional

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 4, 4)).astype(np.float32) / 2


def everything(leaves):
    """Matrix products, calls, loops, branches, sorting, gathering, complex numbers, custom rules."""
    a, b = leaves
    h = jax.jit(jax.nn.gelu)(a @ A)
    h, sums = jax.lax.scan(lambda c, x: (jnp.tanh(c @ a) * x, jnp.sum(c)), h, jnp.arange(1.0, 3.0))
    h = h + jax.checkpoint(lambda q: jnp.sin(q @ a) @ b)(h)[:, None]
    h = jnp.where(h > 0, h**2, jnp.exp(h))
    branch = jax.lax.cond(sums[0] > 0, lambda q: jnp.sum(q**3), lambda q: jnp.sum(jnp.sin(q)), a)
    spectrum = jnp.sum(jnp.abs(jnp.fft.rfft(h @ a)) ** 2)
    return jnp.sort(h.ravel())[3] * spectrum + jax.nn.logsumexp(h) * branch + h.ravel()[jnp.argmax(h)]


def test_it_is_the_second_difference(float64):
    at, direction = (A.astype(float), A[0].astype(float)), (B.astype(float), B[0].astype(float))
    width = 1e-4

    @jax.jit
    def both(at, direction):
        before, here, after = jax.lax.map(
            lambda t: everything(tuple(a + t * d for a, d in zip(at, direction, strict=True))),
            width * jnp.arange(-1.0, 2.0),
        )
        return directional.along_lines(everything, at)(direction), (before - 2 * here + after) / width**2

    found, expected = both(at, direction)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(expected) > 0.1


def test_only_curved_steps_take_a_second_derivative():
    values, steps, _ = directional._recorded(lambda leaves: jnp.sum(jnp.tanh(A @ leaves[0]) @ leaves[1]), (A, B))
    curved = [directional._is_curved(step, values) for step in steps]
    assert curved == [False, True, True, False]  # A w, tanh, the product of two that move, the sum


def test_what_is_straight_or_stands_still_has_none():
    for fn in (lambda leaves: jnp.sum(leaves[0]) - leaves[1][0, 0], lambda leaves: jnp.ones(())):
        assert directional.along_lines(fn, (A, B))((B, A)) == 0
