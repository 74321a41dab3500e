"""A string and its neighbours, which differ from it in one bit: their logits, their decisions, and what follows."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.boolean import decisions as recognition
from jaxsens.execution import memory
from jaxsens.typing import Array, PyTree, Substitute, SubstituteAt

__all__ = ["Decisions", "Logits", "check_finite", "check_fit", "default_chunk", "exhaustive", "flips"]


@dataclass(frozen=True)
class Logits:
    """The logits ``[n+1]`` of a string and of its neighbours, its own first; equal ones share compiled code.

    With ``sites [j]``, those of the neighbours that differ from it there, ``[j+1]``.
    """

    substitute: Substitute | SubstituteAt
    precision: str

    def __call__(self, bits: Array, params: PyTree, sites: Array | None = None) -> Array:
        """Evaluate a string ``bits [n]``."""
        few = () if sites is None else (sites,)
        with jax.default_matmul_precision(self.precision):
            clean, changed = self.substitute(params, bits, 1 - bits, None, *few)
        shapes = [getattr(logits, "shape", type(logits)) for logits in (clean, changed)]
        count = len(bits if sites is None else sites)
        if shapes not in ([(), (count,)], [(1,), (count, 1)]):
            raise ValueError(
                f"the model must give one logit a string, [] or [1], got {shapes[0]} and, changed, {shapes[1]}"
            )
        if not jnp.issubdtype(clean.dtype, jnp.floating):
            raise ValueError(f"the model must give floating logits, got {clean.dtype}")
        return jnp.concatenate([clean.reshape(1), changed.reshape(-1)])


@dataclass(frozen=True)
class Decisions:
    """The decisions about a string and its neighbours ``[n+1]``, and which of their logits are not finite."""

    logits: Logits

    def __call__(self, bits: Array, params: PyTree, margin: Array) -> tuple[Array, Array]:
        """Decide about a string ``bits [n]``."""
        logits = self.logits(bits, params)
        return recognition.decide(logits, margin), ~jnp.isfinite(logits)


def flips(decisions: np.ndarray) -> np.ndarray:
    """Return which bits turn acceptance into rejection or back ``[b n]``, from decisions ``[b n+1]``."""
    defined = decisions != recognition.UNDEFINED
    return (decisions[:, 1:] != decisions[:, :1]) & defined[:, 1:] & defined[:, :1]


def exhaustive(strings: np.ndarray) -> bool:
    """Return whether the strings ``[b n]`` are all 2^n, each once."""
    count, length = strings.shape
    return count == 2**length and len(np.unique(np.packbits(strings, axis=1), axis=0)) == count


def default_chunk(logits: Logits, length: int, params: PyTree) -> int:
    """Return the forwards that fit the budget, from the memory of one string's substitution."""
    return memory.chunk_of(logits, jax.ShapeDtypeStruct((length,), np.int32), params) * (length + 1)


def check_fit(logits: Logits, length: int, params: PyTree) -> np.dtype:
    """Return the type of the logits; raise if the model cannot take the strings."""
    try:
        return jax.eval_shape(logits, jax.ShapeDtypeStruct((length,), np.int32), params).dtype
    except Exception as error:
        raise ValueError(f"strings of {length} bits, params and substitute do not fit together: {error}") from error


def check_finite(nonfinite: np.ndarray, index: np.ndarray, where: str = "") -> None:
    """Raise if a logit is not finite: ``nonfinite [b n+1]``, the string's own first, for strings number ``index``."""
    found = np.argwhere(nonfinite)
    if len(found):
        string, row = found[0].tolist()
        what = f"with bit {row - 1} flipped" if row else "as it is"
        raise FloatingPointError(
            f"the model's logit is not finite{where} for string {index[string]} {what} ({len(found)} such logits in "
            "all); look at the parameters"
        )
