"""Operations and traffic are counted as often as a program does them."""

import jax
import jax.numpy as jnp
import pytest

from jaxsens.execution import flops


def test_work_is_counted_through_loops_and_convolutions():
    a, b = jnp.zeros((3, 4)), jnp.zeros((4, 5))
    once = flops.count(jnp.matmul, a, b)
    assert once.operations == 2 * 3 * 4 * 5
    assert once.bytes == 4 * (3 * 4 + 4 * 5 + 3 * 5)
    looped = flops.count(lambda a, b: jax.lax.map(lambda row: row @ b, jnp.stack([a] * 7)), a, b)
    assert looped == (7 * once.operations, 7 * once.bytes)
    image, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 6))

    def convolve(x, k, groups):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=dimensions, feature_group_count=groups
        )

    assert flops.count(lambda x, k: convolve(x, k, 1), image, kernel).operations == 2 * (2 * 8 * 8 * 6) * (3 * 3 * 3)
    assert flops.count(lambda x, k: convolve(x, k, 3), image, kernel[:, :, :1]).operations == 2 * (2 * 8 * 8 * 6) * (
        3 * 3
    )


def test_work_in_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="a loop whose length is data"):
        flops.count(lambda n, a: jax.lax.fori_loop(0, n, lambda i, x: x @ a, a), jnp.int32(3), jnp.zeros((2, 2)))
