"""Models in Flax Linen."""

from collections.abc import Hashable
from dataclasses import dataclass

from flax import linen as nn

from jaxsens.models.adapters.calls import Call, require_kind
from jaxsens.models.common import require
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["from_linen"]


def from_linen(
    module: nn.Module, variables: PyTree, *, method: str = "__call__", **arguments: Hashable
) -> tuple[Apply, PyTree]:
    """Return ``(apply, params)`` of a model in Flax Linen, in evaluation mode.

    Of ``variables`` the collection ``params`` moves; others, such as ``batch_stats``, are read and never changed.

    Args:
        module: A module for a batch: ``module(tokens [b t *s])``, or ``module(tokens, mask=mask)`` if it has an
            argument ``mask``.
        variables: What ``module.init`` returned, or what training made of it: ``{"params": ..., ...}``.
        method: Name of the method to call.
        **arguments: Further arguments of the method; those that choose a mode are set as in ``from_nnx``.

    Returns:
        ``apply(params, tokens, mask=None)`` and ``params``, which are the variables.

    Raises:
        ValueError: If the value is no Linen module, has no such method, its method has further arguments without a
            value, or ``variables`` have no collection ``params``; when ``apply`` is called, if a mask is given and the
            model takes none.

    Example:
        >>> from flax import linen
        >>> module, tokens = linen.Dense(3), np.ones((2, 4), np.float32)
        >>> apply, params = from_linen(module, module.init(jax.random.key(0), tokens))
        >>> apply(params, tokens).shape
        (2, 3)
    """
    require_kind("module", module, nn.Module, "a module of Flax Linen")
    try:
        collections = sorted(variables)
    except TypeError:
        collections = []
    require(
        "params" in collections, "variables", f"a {type(variables).__name__} of {collections}",
        'what module.init returns, {"params": ...}',
    )  # fmt: skip
    call = Call.of(module, method, arguments, "from_linen")
    return _Linen(module, call), dict(variables)


@dataclass(frozen=True)
class _Linen:
    module: nn.Module
    call: Call

    def __call__(self, params: PyTree, tokens: Array, mask: Array | None = None, /) -> PyTree:
        return self.module.apply(params, tokens, method=self.call.method, **self.call.keywords(mask))
