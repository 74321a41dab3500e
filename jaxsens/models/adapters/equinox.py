"""Models in Equinox, which is imported when it is first used."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax

from jaxsens.models.adapters.calls import Call, Constants, require_kind
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["from_equinox"]


def from_equinox(
    model: Any, state: Any = None, *, method: str = "__call__", **arguments: Hashable
) -> tuple[Apply, PyTree]:
    """Return ``(apply, params)`` of a model in Equinox, in inference mode. Needs the package ``equinox``.

    Equinox models take one example; ``apply`` maps them over the batch by ``jax.vmap``. What moves are the inexact
    arrays of the model; ``where`` of the measures leaves some of them out. The model itself is not changed:
    ``equinox.nn.inference_mode`` returns a copy, in which dropout does nothing.

    Args:
        model: An ``equinox.Module`` for one example: ``model(tokens [t *s])``, or ``model(tokens, mask=mask)`` if it
            has an argument ``mask``.
        state: The ``equinox.nn.State`` of a model with batch normalization, which is called as ``model(tokens, state)``
            and returns outputs and a new state; the state does not move.
        method: Name of the method to call.
        **arguments: Further arguments of the method; those that choose a mode are set as in ``from_nnx``.

    Returns:
        ``apply(params, tokens, mask=None)`` and ``params``: the model with None in the place of all that is no inexact
        array, or with a state ``{"params": that, "state": state}``.

    Raises:
        ImportError: If Equinox is not installed.
        ValueError: If the value is no Equinox module, has no such method, or its method has further arguments without a
            value; when ``apply`` is called, if a mask is given and the model takes none.

    Example:
        A model of three classes, of one token with four features::

            model = equinox.nn.MLP(4, 3, width_size=8, depth=1, key=jax.random.key(0))
            apply, params = jaxsens.from_equinox(model)
            apply(params, np.ones((2, 4), np.float32)).shape  # (2, 3)

        >>> import equinox
        >>> model = equinox.nn.Linear(2, 3, key=jax.random.key(0))
        >>> apply, params = from_equinox(model)
        >>> jax.eval_shape(apply, params, np.zeros((5, 2), np.float32)).shape
        (5, 3)
    """
    equinox = _equinox()
    require_kind("model", model, equinox.Module, "a module of Equinox")
    call = Call.of(model, method, arguments, "from_equinox", skipped=1 if state is None else 2)
    params, static = equinox.partition(equinox.nn.inference_mode(model), equinox.is_inexact_array)
    apply = _Equinox(Constants(static), call, state is not None)
    return apply, params if state is None else {"params": params, "state": state}


@dataclass(frozen=True)
class _Equinox:
    static: Constants
    call: Call
    has_state: bool

    def __call__(self, params: PyTree, tokens: Array, mask: Array | None = None, /) -> PyTree:
        arrays, state = (params["params"], (params["state"],)) if self.has_state else (params, ())
        method = getattr(_equinox().combine(arrays, self.static.tree), self.call.method)

        def one(tokens: Array, mask: Array | None) -> PyTree:
            outputs = method(tokens, *state, **self.call.keywords(mask))
            return outputs[0] if self.has_state else outputs

        return jax.vmap(one)(tokens, mask)


def _equinox() -> Any:
    try:
        import equinox
    except ImportError as error:
        raise ImportError("from_equinox needs the package equinox: pip install equinox") from error
    return equinox
