"""Keys are typed, single, and of a generator that draws the same under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.execution import require_key

KEY = jax.random.key(0)


def test_a_threefry_key_is_accepted():
    assert require_key(KEY) is KEY
    jax.jit(lambda key: require_key(key, traced=True))(KEY)


@pytest.mark.parametrize(
    ("key", "match"),
    [
        (0, r"got 0: pass jax\.random\.key\(seed\)"),
        (None, "got None"),
        (jax.random.PRNGKey(0), r"uint32\[2\]: pass jax\.random\.wrap_key_data\(key\)"),
        (np.zeros(2, np.uint32), "wrap_key_data"),
        (jnp.zeros(3), r"float32\[3\]: pass jax\.random\.key"),
        (jax.random.split(KEY), r"shape \(2,\): pass one of them"),
        (jax.random.key(0, impl="rbg"), 'got rbg, .*impl="threefry2x32"'),
        (jax.random.key(0, impl="unsafe_rbg"), "got unsafe_rbg"),
    ],
)
def test_others_are_named_with_the_remedy(key, match):
    with pytest.raises(ValueError, match=match):
        require_key(key)


def test_traced_keys_are_refused_where_a_value_is_needed():
    with pytest.raises(ValueError, match="outside of them; it compiles itself"):
        jax.jit(require_key)(KEY)
