"""Several tokens replaced at once: the difference between their joint shift and the sum of the single shifts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens.embedding_space import states
from jaxsens.embedding_space.norms import NORMS, of_all, require_norms
from jaxsens.execution import checks, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.sensitivity import sites
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Apply, Array, Axes, Figure, PyTree

__all__ = ["JointShifts", "joint_shifts"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["joint", "added", "interaction"],
    meta_fields=["norms", "layers", "chunk"],
)
@dataclass(frozen=True, repr=False)
class JointShifts(Result):
    """Shifts of the whole sequence when a group of tokens is replaced, for every sequence, group, layer and norm.

    With ``D_S = h(x with S replaced) - h(x)``, over all real tokens:

    Attributes:
        joint: ``||D_S||`` ``[b g l n]``, in units of the states.
        added: ``||sum_i D_{i}||`` ``[b g l n]``, of the sum of the shifts of the group's single tokens.
        interaction: ``||D_S - sum_i D_{i}||`` ``[b g l n]``; 0 where shifts are additive.
        norms: Names of the norms.
        layers: Indices of the states.
        chunk: Number of model forwards evaluated at once.

    Example:
        >>> one = np.ones((2, 1, 1, 1))
        >>> result = JointShifts(2 * one, 2 * one, 0.5 * one, norms=("l2",), layers=(1,), chunk=1)
        >>> result.estimate("l2").mean.tolist()
        [0.25]
    """

    joint: np.ndarray
    added: np.ndarray
    interaction: np.ndarray
    norms: tuple[str, ...]
    layers: tuple[int, ...]
    chunk: int

    def estimate(self, norm: str = "l2") -> Estimate:
        """Estimate ``interaction / joint`` by layer ``[l]``: the mean over groups, then over sequences, the units.

        It is 0 where shifts are additive, and 1 where the interaction is as large as the joint shift. A group with
        neither joint shift nor interaction counts as 0.

        Raises:
            ValueError: If the norm was not measured.
            FloatingPointError: If the single shifts cancel in a joint shift of 0.
        """
        if norm not in self.norms:
            raise ValueError(f"norm must be one of those measured, {', '.join(self.norms)}, got {norm!r}")
        joint, interaction = (a[..., self.norms.index(norm)].astype(np.float64) for a in (self.joint, self.interaction))
        with np.errstate(divide="ignore"):
            ratio = np.divide(interaction, joint, out=np.zeros_like(joint), where=interaction > 0)
        return estimate.from_values(ratio.mean(1), unit="sequences")

    def interval(self, level: float = 0.95, norm: str = "l2") -> tuple[np.ndarray, np.ndarray]:
        """Return the confidence interval of ``interaction / joint`` by layer, each end ``[l]``; see ``estimate``."""
        return self.estimate(norm).interval(level)

    def plot(self, ax: Axes | None = None, norm: str = "l2") -> Figure:
        """Draw ``interaction / joint`` against the layer, with its 95 % interval.

        Raises:
            ValueError: If the norm was not measured.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        shown, quantity = self.estimate(norm), f"interaction / joint shift ({norm})"
        lines = self.layers, shown.mean, *shown.interval()
        return draw("line_with_band", ax, *lines, across="layer", quantity=quantity)

    def _describe(self) -> Description:
        sequences, groups, layers, _ = self.joint.shape
        norm = "l2" if "l2" in self.norms else self.norms[0]  # that of ``estimate()``, where it was measured
        shown = self.estimate(norm)
        counts = f"interaction / joint {norm} shift by layer; "
        counts += times(sequences=sequences, groups=groups, layers=layers)

        def table() -> dict[str, np.ndarray]:
            axes = {"sequence": None, "group": None, "layer": self.layers, "norm": self.norms}
            return tidy(axes, {"joint": self.joint, "added": self.added, "interaction": self.interaction})

        return Description(counts, shown.mean, shown.interval(), facts={"norms": ", ".join(self.norms)}, table=table)


def joint_shifts(
    encode: Apply,
    *,
    norms: Sequence[str] = tuple(NORMS),
    layers: states.Layers = "all",
    execution: Execution = DEFAULT,
) -> Callable[..., JointShifts]:
    """Measure how far the shift of several tokens replaced at once is from the sum of their single shifts.

    Args:
        encode: ``encode(params, tokens [b t *s], mask [b t]) -> states [l+1 b t d]``, such as
            ``models.text.encoder.hidden_states(module)``; states of added tokens (a class token's) come first.
        norms: Names out of ``l1``, ``l2`` and ``linf``.
        layers: Indices of the states to measure, negative ones from the end; ``"all"`` for all.
        execution: How to run; its ``chunk`` counts model forwards, ``m + 2`` for a group, with at least one group at
            once.

    Returns:
        ``measure(params, tokens [b t *s], alternatives [b t *s], places [b g m], mask=None)`` -> ``JointShifts``.
        ``places`` are the positions replaced at once, g groups of up to m, unused ones -1.

    Raises:
        ValueError: If norms are unknown; when called, if arguments do not fit each other or the model, states depend on
            the other sequences of a batch, or a place is no real token, is in its group twice, or has no neighbor.
        FloatingPointError: When called, if a state is not finite.

    Example:
        >>> measure = joint_shifts(lambda params, tokens: params[tokens][None])      # embeddings: additive
        >>> table, tokens = np.eye(3, dtype=np.float32), np.array([[0, 1]], np.int32)
        >>> measure(table, tokens, tokens + 1, np.array([[[0, 1]]])).estimate().mean
        array([0.])
    """
    require_execution(execution)
    checks.require_functions(encode=encode)
    norms = require_norms(norms)

    def measure(
        params: PyTree, tokens: Array, alternatives: Array, places: Array, mask: Array | None = None
    ) -> JointShifts:
        tokens, mask, real = sites.checked(tokens, mask, None)
        places = _checked_places(places, real)
        replaced = (places[..., None] == np.arange(tokens.shape[1])).any((1, 2))
        alternatives = states.checked_alternatives(tokens, alternatives, replaced)
        indices = states.chosen_layers(encode, layers, params, tokens, mask)
        states.require_independent_states(encode, params, tokens, mask, execution)
        forwards = execution.chunk or states.default_chunk(encode, params, tokens, mask, execution)
        count, groups, size = places.shape
        sequence = np.repeat(np.arange(count), groups)
        parts = parallel.map_items(
            parallel.bind(_group_shifts, states.Encoding(encode, indices), norms),
            (*jax.tree.map(lambda a: a[sequence], (tokens, alternatives, mask)), places.reshape(-1, size)),
            params,
            execution=execution.replace(chunk=max(1, forwards // (size + 2))),
        )
        values = [part.reshape(count, groups, *part.shape[1:]) for part in parts]
        states.require_finite(values, np.ones((count, groups), bool))
        return JointShifts(*values, norms, indices, forwards)

    return measure


def _group_shifts(encoding: states.Encoding, norms: tuple[str, ...], item: PyTree, params: PyTree) -> tuple[Array, ...]:
    """Return joint and added shifts of one group and their interaction, each ``[l n]``."""
    tokens, alternatives, mask, places = item
    single = places[:, None] == jnp.arange(len(tokens))[None]
    which = jnp.concatenate([jnp.zeros_like(single[:1]), single.any(0)[None], single])
    values = encoding(params, tokens, alternatives, mask, which)
    shifts = values[:, 1:] - values[:, :1]
    joint, added = shifts[:, 0], shifts[:, 1:].sum(1)
    _, real = states.real_states(tokens, mask, values)
    return tuple(of_all(x, real, norms) for x in (joint, added, joint - added))


def _checked_places(places: Array, real: np.ndarray) -> np.ndarray:
    places = checks.host_values(places, "places", narrow=True)
    count, length = real.shape
    if places.dtype.kind not in "iu" or places.ndim != 3 or len(places) != count or 0 in places.shape:
        raise ValueError(f"places must be integers [b g m] with b = {count}, got {places.dtype} {places.shape}")
    for sequence, group in np.ndindex(places.shape[:2]):
        used = places[sequence, group][places[sequence, group] != -1]
        are_real = used.size and used.min() >= 0 and used.max() < length and real[sequence, used].all()
        if not are_real or len(set(used.tolist())) != len(used):
            raise ValueError(
                f"places[{sequence}, {group}] must be different positions of real tokens, or -1 where unused, "
                f"got {places[sequence, group].tolist()}"
            )
    return places.astype(np.int32)
