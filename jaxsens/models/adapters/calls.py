"""How adapters call a model: its mode by the names of arguments, its mask, and what makes functions equal."""

import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.models.common import require
from jaxsens.typing import Array, PyTree

__all__ = ["NO_MASK", "Call", "Constants", "require_kind"]

_MODES = {
    "train": False, "training": False, "is_training": False,
    "deterministic": True, "use_running_average": True, "inference": True,
}  # fmt: skip
"""Arguments that choose between training and evaluation, and their values in evaluation."""

NO_MASK = "takes no mask: leave mask out, or write apply(params, tokens, mask) yourself, if padding matters"
"""What an error says of a model without masks."""

_ADAPTERS = {"flax.nnx": "from_nnx", "flax.linen": "from_linen", "equinox": "from_equinox"}


@dataclass(frozen=True)
class Call:
    """How a method of a model is called.

    Example:
        >>> class Model:
        ...     def __call__(self, tokens, *, train=False):
        ...         return tokens
        >>> Call.of(Model(), "__call__", {"train": False}, "from_nnx").method
        '__call__'
    """

    name: str
    method: str
    arguments: tuple[tuple[str, Hashable], ...]
    takes_mask: bool

    @classmethod
    def of(cls, model: Any, method: str, arguments: dict[str, Any], adapter: str, skipped: int = 1) -> "Call":
        """Read the signature of a method, less the arguments at its start that ``apply`` gives.

        Raises:
            ValueError: If there is no such method, or an argument has no value.
        """
        function = getattr(model, method, None) if isinstance(method, str) else None
        require(callable(function), "method", method, f"the name of a method of {type(model).__name__}")
        name = f"{type(model).__name__}.{method}"
        parameters = dict(list(inspect.signature(function).parameters.items())[skipped:])
        for argument, value in arguments.items():
            try:
                hash(value)
            except TypeError:
                require(False, argument, value, "hashable, since it becomes a part of a function; bind arrays yourself")
        for argument, value in _MODES.items():
            # An attribute of the same name decides where there is one.
            if argument in parameters and getattr(model, argument, None) is None:
                arguments.setdefault(argument, value)
        kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        takes_mask = "mask" in parameters and "mask" not in arguments
        for argument, parameter in parameters.items():
            given = argument in arguments or (argument == "mask" and takes_mask) or parameter.kind in kinds
            if not given and parameter.default is inspect.Parameter.empty:
                raise ValueError(
                    f"{name} needs the argument {argument}: give its value in evaluation mode, "
                    f"{adapter}(..., {argument}=...)"
                )
        return cls(name, method, tuple(sorted(arguments.items())), takes_mask)

    def keywords(self, mask: Array | None) -> dict[str, Any]:
        """Return the keyword arguments of a call, or raise ValueError for a mask that the model does not take."""
        if mask is not None and not self.takes_mask:
            raise ValueError(f"{self.name} {NO_MASK}")
        return dict(self.arguments) | ({"mask": mask} if self.takes_mask else {})


class Constants:
    """Arrays and objects that belong to a function: equal by their contents, so that equal functions are equal.

    Example:
        >>> Constants({"w": np.ones(2)}) == Constants({"w": np.ones(2)})
        True
    """

    def __init__(self, tree: PyTree) -> None:
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        self._contents = structure, tuple(map(_content, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constants) and self._contents == other._contents

    def __hash__(self) -> int:
        return hash(self._contents)

    def __repr__(self) -> str:
        return "..."


def require_kind(argument: str, model: Any, kind: type, name: str) -> None:
    """Raise ValueError, which names the adapter for a model of another kind, unless the model is of this kind.

    Example:
        >>> require_kind("model", 3, str, "a text")
        Traceback (most recent call last):
        ValueError: model is of type int, but must be a text
    """
    if isinstance(model, kind):
        return
    if isinstance(model, type):
        raise ValueError(f"{argument} is the class {model.__name__}, but must be {name}: make one of the class first")
    modules = [base.__module__ for base in type(model).__mro__]
    others = [adapter for start, adapter in _ADAPTERS.items() if any(m.startswith(start) for m in modules)]
    remedy = f": use {others[0]} for this one" if others else ""
    raise ValueError(f"{argument} is of type {type(model).__name__}, but must be {name}{remedy}")


def _content(leaf: Any) -> Hashable:
    """Return what two equal leaves have in common: type, shape and values of an array, else the object itself."""
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return leaf if isinstance(leaf, Hashable) else id(leaf)
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()
