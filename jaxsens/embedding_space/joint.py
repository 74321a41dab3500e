"""Two or more tokens replaced at once: is their joint shift the sum of the single ones?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space import states as encoding
from jaxsens.embedding_space.norms import NORMS, of_all, require_norms
from jaxsens.execution import parallel
from jaxsens.execution.execution import DEFAULT, Execution
from jaxsens.sensitivity import sites
from jaxsens.statistics import estimate
from jaxsens.typing import Apply, Array, PyTree

__all__ = ["JointShifts", "joint_shifts"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["joint", "added", "interaction"],
    meta_fields=["norms", "layers", "chunk"],
)
@dataclass(frozen=True)
class JointShifts:
    """Shifts of the whole sequence when a group of tokens is replaced, for every sequence, group, layer and norm.

    With ``D_S = h(x with S replaced) - h(x)``, over all real tokens:

    Attributes:
        joint: ``||D_S||`` ``[b g l n]``.
        added: ``||sum_i D_{i}||``, what the tokens of the group do one by one, added up.
        interaction: ``||D_S - sum_i D_{i}||``; 0 where shifts are additive.
        norms: Names of the norms.
        layers: Numbers of the states.
        chunk: Model forwards evaluated at once, for the record.
    """

    joint: np.ndarray
    added: np.ndarray
    interaction: np.ndarray
    norms: tuple[str, ...]
    layers: tuple[int, ...]
    chunk: int

    def estimate(self, norm: str = "l2") -> estimate.Estimate:
        """Estimate ``interaction / joint`` by layer ``[l]``: the mean over groups, then over sequences, the units.

        0 says that shifts are additive, 1 that what is not additive is as large as the joint shift itself. A group
        whose joint shift is 0 counts as 0 if there is no interaction either.

        Raises:
            ValueError: If the norm was not measured.
            FloatingPointError: If the single shifts cancel in a joint shift of 0.
        """
        if norm not in self.norms:
            raise ValueError(f"norm must be one of those measured, {', '.join(self.norms)}, got {norm!r}")
        joint, interaction = (a[..., self.norms.index(norm)].astype(np.float64) for a in (self.joint, self.interaction))
        with np.errstate(divide="ignore"):
            ratio = np.divide(interaction, joint, out=np.zeros_like(joint), where=interaction > 0)
        return estimate.from_values(ratio.mean(1))


def joint_shifts(
    encode: Apply,
    *,
    norms: Sequence[str] = tuple(NORMS),
    layers: encoding.Layers = "all",
    execution: Execution = DEFAULT,
) -> Callable[..., JointShifts]:
    """Measure whether the shifts of several tokens replaced at once are those of each, added up.

    Args:
        encode: As for ``embedding_shifts``.
        norms: As for ``embedding_shifts``.
        layers: As for ``embedding_shifts``.
        execution: How to run; its ``chunk`` counts model forwards, ``m + 2`` for a group; at least one group is.

    Returns:
        ``measure(params, tokens [b t *s], alternatives [b t *s], places [b g m], mask=None)`` -> ``JointShifts``.
        ``places`` are the positions replaced at once, g groups of up to m, unused ones -1.

    Raises:
        ValueError: If norms are unknown; when called, if arguments do not fit each other or the
            model, or a place is no real token, is in its group twice, or has no neighbour.
        FloatingPointError: When called, if a state is not finite.
    """
    norms = require_norms(norms)

    def measure(
        params: PyTree, tokens: Array, alternatives: Array, places: Array, mask: Array | None = None
    ) -> JointShifts:
        tokens, mask, real = sites.checked(tokens, mask, None)
        places = _checked_places(places, real)
        replaced = (places[..., None] == np.arange(tokens.shape[1])).any((1, 2))
        alternatives = encoding.checked_alternatives(tokens, alternatives, replaced)
        wanted = encoding.chosen_layers(encode, layers, params, tokens, mask)
        forwards = execution.chunk or encoding.default_chunk(encode, params, tokens, mask)
        count, groups, size = places.shape
        sequence = np.repeat(np.arange(count), groups)
        found = parallel.map_items(
            _OfGroup(encoding.Encoding(encode, wanted), norms),
            (*jax.tree.map(lambda a: a[sequence], (tokens, alternatives, mask)), places.reshape(-1, size)),
            params,
            execution=execution.replace(chunk=max(1, forwards // (size + 2))),
        )
        values = [part.reshape(count, groups, *part.shape[1:]) for part in found]
        encoding.require_finite(values, np.ones((count, groups), bool))
        return JointShifts(*values, norms, wanted, forwards)

    return measure


@dataclass(frozen=True)
class _OfGroup:
    """The shifts of one group; equal ones share compiled code."""

    encode: encoding.Encoding
    norms: tuple[str, ...]

    def __call__(self, item: PyTree, params: PyTree) -> tuple[Array, ...]:
        """Return joint and added shifts and their interaction, each ``[l n]``."""
        tokens, alternatives, mask, places = item
        single = places[:, None] == jnp.arange(len(tokens))[None]
        which = jnp.concatenate([jnp.zeros_like(single[:1]), single.any(0)[None], single])
        states = self.encode(params, tokens, alternatives, mask, which)
        shifts = states[:, 1:] - states[:, :1]
        joint, added = shifts[:, 0], shifts[:, 1:].sum(1)
        _, real = encoding.real_states(tokens, mask, states)
        return tuple(of_all(x, real, self.norms) for x in (joint, added, joint - added))


def _checked_places(places: Array, real: np.ndarray) -> np.ndarray:
    places = np.asarray(places)
    count, length = real.shape
    if places.dtype.kind not in "iu" or places.ndim != 3 or len(places) != count or 0 in places.shape:
        raise ValueError(f"places must be integers [b g m] with b = {count}, got {places.dtype} {places.shape}")
    for sequence, group in np.ndindex(places.shape[:2]):
        used = places[sequence, group][places[sequence, group] != -1]
        known = used.size and used.min() >= 0 and used.max() < length and real[sequence, used].all()
        if not known or len(set(used.tolist())) != len(used):
            raise ValueError(
                f"places[{sequence}, {group}] must be different positions of real tokens, or -1 where unused, "
                f"got {places[sequence, group].tolist()}"
            )
    return places.astype(np.int32)
