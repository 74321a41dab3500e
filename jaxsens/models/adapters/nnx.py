"""Models in Flax NNX."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxsens.models.adapters.calls import Call, Constants, require_kind
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["from_nnx"]


def from_nnx(model: Any, *, method: str = "__call__", **arguments: Hashable) -> tuple[Apply, PyTree]:
    """Return ``(apply, params)`` of a model in Flax NNX, in evaluation mode.

    The model itself is not changed: a copy is set to evaluation mode by ``copy.eval()``, which sets the attributes
    ``deterministic`` and ``use_running_average`` of all its modules. ``params`` is the ``nnx.State`` of its variables;
    what moves are those of type ``nnx.Param``, never batch statistics. Random keys, which evaluation mode does not use,
    and arrays that are no variables belong to ``apply``.

    Args:
        model: An ``nnx.Module`` for a batch: ``model(tokens [b t *s])``, or ``model(tokens, mask=mask)`` if it has an
            argument ``mask``.
        method: Name of the method to call, such as one that returns hidden states ``[l+1 b t d]``.
        **arguments: Further arguments of the method. Those named ``train``, ``training`` or ``is_training`` are False,
            and ``deterministic``, ``use_running_average`` or ``inference`` True, unless given.

    Returns:
        ``apply(params, tokens, mask=None)`` and ``params``. Measures that move weights call it as
        ``apply(params, batch)``, with whatever inputs the model takes.

    Raises:
        ValueError: If the value is no NNX module, has no such method, or its method has further arguments without a
            value; when ``apply`` is called, if a mask is given and the model takes none.

    Example:
        >>> from flax import nnx
        >>> model = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
        >>> apply, params = from_nnx(model)
        >>> apply(params, np.ones((2, 4), np.float32)).shape
        (2, 3)
    """
    from flax import nnx

    require_kind("model", model, nnx.Module, "a module of Flax NNX")
    call = Call.of(model, method, arguments, "from_nnx")
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    graph, random, variables, arrays = nnx.split(copy, nnx.RngState, nnx.Variable, ...)
    return _Nnx(graph, Constants((_zeros(random), arrays)), call), variables


@dataclass(frozen=True)
class _Nnx:
    graph: Any = field(repr=False)
    constants: Constants = field(repr=False)
    call: Call

    def __call__(self, params: PyTree, tokens: Array, mask: Array | None = None, /) -> PyTree:
        from flax import nnx

        # NNX refuses variables that were made outside of the innermost loop or vmap around this call: make new ones.
        states = jax.tree.map(lambda leaf: leaf, (params, *self.constants.tree))
        model = nnx.merge(self.graph, *states)
        return getattr(model, self.call.method)(tokens, **self.call.keywords(mask))


def _zeros(random: PyTree) -> PyTree:
    """Return random states with keys and counts of 0, so that models of different seeds are equal functions."""

    def zero(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros_like(leaf)
        return jax.random.wrap_key_data(jnp.zeros_like(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))

    return jax.tree.map(zero, random)
