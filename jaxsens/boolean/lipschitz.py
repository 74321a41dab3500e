"""How the logit of a recognizer depends on its weights, and a bound on the functions in a bounded space of weights.

Numbers of sections, definitions and equations are those of Kövér et al., Understanding the Parameter Space Geometry of
Transformers Encoding Boolean Functions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import parameters, perturb
from jaxsens.boolean.strings import require_bits
from jaxsens.execution import checks, memory, parallel
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.execution.independence import require_independent
from jaxsens.execution.keys import require_key
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, draw
from jaxsens.results.words import times
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.statistics.estimated import Estimated
from jaxsens.typing import Array, Axes, Figure, Key, Perturbation, PyTree, Where

__all__ = ["LipschitzQuotients", "box_diameter", "diameter", "lipschitz_quotients", "log_count_bound"]


@partial(jax.tree_util.register_dataclass, data_fields=["values", "distances"], meta_fields=["chunk"])
@dataclass(frozen=True, repr=False)
class LipschitzQuotients(Estimated):
    """Changes of a recognizer's logit relative to the distance that its weights moved.

    Attributes:
        values: ``|T(theta + xi, x) - T(theta, x)| / ||xi||_2`` ``[draws b]``.
        distances: Distance that the weights moved, ``||xi||_2`` ``[draws]``. Unlike logits, the last bit of this sum
            may differ between one device and several.
        chunk: Number of model forwards to evaluate at once.

    Example:
        >>> result = LipschitzQuotients(np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([0.1, 0.2]), chunk=2)
        >>> result.mean, result.maximum
        (2.5, 4.0)
    """

    values: np.ndarray
    distances: np.ndarray
    chunk: int

    @cached_property
    def estimate(self) -> Estimate:
        """Mean quotient over the strings; the units are draws."""
        return estimate.from_values(self.values.mean(1), unit="draws")

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw how the quotients of all draws and strings are distributed.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        return draw("histogram", ax, self.values.ravel(), quantity="change of the logit / distance")

    def _describe(self) -> Description:
        draws, strings = self.values.shape

        def table() -> dict[str, np.ndarray]:
            columns = {"quotient": self.values, "distance": self.distances}
            return tidy({"draw": None, "string": None}, columns)

        facts = {"largest": self.maximum}
        return Description(times(draws=draws, strings=strings), self.mean, self.interval(), facts=facts, table=table)

    @property
    def maximum(self) -> float:
        """The largest quotient: a lower bound of ``C_Lip`` in Lem. 3.1."""
        return float(self.values.max())


def lipschitz_quotients(
    apply: Callable[[PyTree, Array], Array],
    perturbation: Perturbation,
    *,
    draws: int,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> Callable[[Key, PyTree, Array], LipschitzQuotients]:
    """Measure ``|T(theta + xi, x) - T(theta, x)| / ||xi||_2``, each a lower bound of ``C_Lip`` in Lem. 3.1.

    The weights that move are those of ``parameters.weights``, and all strings see the same draw. The norm is that of
    the difference as rounded.

    Args:
        apply: ``apply(params, strings [b n])`` -> logits ``[b]``.
        perturbation: Sampler of weight noise, such as ``perturb.gaussian(variance=1e-4)``.
        draws: The number of perturbed models.
        where: ``where(path, leaf)`` narrows the leaves; the paper's theta leaves out embeddings and positions (s.2.4).
        execution: How to run; its ``chunk`` counts model forwards, strings times draws.

    Returns:
        ``measure(key, params, strings [b n])`` -> ``LipschitzQuotients``.

    Raises:
        ValueError: If ``draws`` is smaller than 1; when called, if the strings are not bits or do not fit the model, if
            no leaf is chosen, the logit of a string depends on the others, or a draw does not move the weights.
        FloatingPointError: When called, if a logit is not finite; the message names the first one.

    Example:
        >>> measure = lipschitz_quotients(lambda w, x: x @ w, perturb.gaussian(1.0), draws=3)
        >>> quotients = measure(jax.random.key(0), np.zeros(1, np.float32), [[0], [1]])     # |x xi| / |xi| = x
        >>> quotients.values.tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    """
    require_execution(execution)
    checks.require_functions(apply=apply, perturbation=perturbation, where=where)
    draws = checks.require_count("draws", draws)
    sampler = perturb.as_pytree(perturbation)

    def measure(key: Key, params: PyTree, strings: Array) -> LipschitzQuotients:
        require_key(key)
        strings = require_bits(strings)
        spec = jax.ShapeDtypeStruct((1, strings.shape[1]), strings.dtype)
        _check_logits(apply, params, spec)
        require_independent(apply, params, strings, execution=execution)
        forwards = execution.chunk or memory.chunk_of(apply, params, spec, execution=execution)
        rows = min(forwards, len(strings))
        blocks = -(-len(strings) // rows)
        index = np.minimum(np.arange(blocks * rows), len(strings) - 1).reshape(blocks, rows)
        weights, _ = parameters.weights(params, where)
        # The weights of every draw take memory, too.
        size = sum(jnp.size(leaf) * jnp.result_type(leaf).itemsize for leaf in weights)
        at_once = max(1, min(forwards // rows, memory.budget(execution) // max(size, 1)))
        fn = parallel.bind(_moved_logits, apply, where)
        models = np.arange(draws + 1, dtype=np.uint32)
        shared = (key, params, sampler, strings[index])
        logits, distances = parallel.map_items(fn, models, *shared, execution=execution.replace(chunk=at_once))
        logits = logits.reshape(draws + 1, -1)[:, : len(strings)].astype(np.float64)
        if len(bad := np.argwhere(~np.isfinite(logits))):
            model, string = bad[0]
            which = f"the model perturbed by draw {model - 1}" if model else "the unperturbed model"
            raise FloatingPointError(f"the logit of {which} is {logits[model, string]} for string {string}")
        distances = distances[1:].astype(np.float64)
        if len(bad := np.flatnonzero(~(np.isfinite(distances) & (distances > 0)))):
            raise ValueError(
                f"perturbation moves the weights by {distances[bad[0]]} in draw {bad[0]}, but the distance must be "
                "finite and positive: choose another variance"
            )
        return LipschitzQuotients(np.abs(logits[1:] - logits[0]) / distances[:, None], distances, forwards)

    return measure


def diameter(stacked: PyTree, where: Where | None = None) -> float:
    """Return ``max ||theta_1 - theta_2||_2`` over pairs of models (Eq. 26 for a finite set), in float64.

    Args:
        stacked: Parameters with a leading axis ``[m ...]``. The leaves that count are those of
            ``parameters.weights``.
        where: ``where(path, leaf)`` narrows them further.

    Raises:
        ValueError: If no leaf counts, or leaves disagree on ``m``, or one holds a number that is not finite.

    Example:
        >>> diameter({"w": np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])})
        5.0
    """
    try:
        leaves, _ = parameters.weights(stacked, where)
    except ValueError as error:
        raise ValueError(f"stacked: {error}") from error
    counts = {np.shape(leaf)[:1] for leaf in leaves}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(f"stacked must be arrays with one leading axis m of at least 1, got {sorted(counts)}")
    ((models,),) = counts
    squared = np.zeros((models, models))
    for leaf in leaves:
        vectors = np.asarray(leaf, np.float64).reshape(models, -1)
        if len(bad := np.argwhere(~np.isfinite(vectors))):
            model, number = bad[0]
            raise ValueError(f"stacked must hold finite numbers, got {vectors[model, number]} for model {model}")
        for i in range(models - 1):
            squared[i, i + 1 :] += ((vectors[i + 1 :] - vectors[i]) ** 2).sum(1)
    return float(np.sqrt(squared.max()))


def box_diameter(half_width: float, parameters: int) -> float:
    """Return ``2 a sqrt(M)``, the diameter (Eq. 26) of the parameter space ``[-a, a]^M``.

    Args:
        half_width: ``a``, at least 0.
        parameters: ``M``, the number of scalar parameters.

    Raises:
        ValueError: If ``half_width`` is negative or not finite, or ``parameters`` no integer of at least 1.

    Example:
        >>> box_diameter(1.5, 4)
        6.0
    """
    half_width = checks.require_finite("half_width", half_width)
    parameters = checks.require_count("parameters", parameters)
    return float(2 * half_width * np.sqrt(parameters))


def log_count_bound(lipschitz: float, diameter: float, margin: float, parameters: int) -> float:
    """Return ``M ln(1 + C_Lip diam / margin)``, an upper bound of the log number of recognized functions (Prop. 3.5).

    The bound holds for every length of the strings. It is a logarithm, in nats, because the number itself overflows;
    for comparison, the log number of all Boolean functions is ``2^n ln 2``. A quotient measured by
    ``lipschitz_quotients`` is only a lower bound of ``C_Lip``: with it the result is no upper bound.

    Args:
        lipschitz: ``C_Lip`` of Lem. 3.1, in units of the logit over those of the weights.
        diameter: Diameter of the parameter space, Eq. 26, in units of the weights.
        margin: The margin of recognition, in units of the logit (Eq. 15); positive.
        parameters: ``M``, the number of scalar parameters.

    Raises:
        ValueError: If an argument is negative or not finite, the margin is 0, or ``parameters`` no integer of at least
            1.

    Example:
        >>> round(log_count_bound(lipschitz=2.0, diameter=3.0, margin=0.5, parameters=4), 3)
        10.26
    """
    lipschitz, diameter = checks.require_finite("lipschitz", lipschitz), checks.require_finite("diameter", diameter)
    margin = checks.require_finite("margin", margin, above=True)
    parameters = checks.require_count("parameters", parameters)
    return float(parameters * np.log1p(lipschitz * diameter / margin))


def _moved_logits(
    apply: Callable[[PyTree, Array], Array],
    where: Where | None,
    model: Array,
    key: Key,
    params: PyTree,
    perturbation: Perturbation,
    blocks: Array,
) -> tuple[Array, Array]:
    """Return the logits ``[blocks rows]`` of model 0, the unperturbed one, or of draw i - 1, and its distance."""
    leaves, put_back = parameters.weights(params, where)
    noisy = perturbation(key, jnp.maximum(model, 1) - 1, leaves)
    moved = [jnp.where(model == 0, old, new) for old, new in zip(leaves, noisy, strict=True)]
    squared = [jnp.sum((new - old) ** 2) for old, new in zip(leaves, moved, strict=True)]
    return jax.lax.map(partial(apply, put_back(moved)), blocks), jnp.sqrt(sum(squared))


def _check_logits(apply: Callable[[PyTree, Array], Array], params: PyTree, one: jax.ShapeDtypeStruct) -> None:
    """Raise unless the recognizer gives one logit for each string."""
    two = jax.ShapeDtypeStruct((2, *one.shape[1:]), one.dtype)
    try:
        logits = jax.eval_shape(apply, params, two)
    except Exception as error:
        raise ValueError(f"strings of {one.shape[1]} bits and params do not fit the recognizer: {error}") from error
    if getattr(logits, "shape", None) != (2,):
        raise ValueError(f"apply must give logits [b], one for each string, got {logits} for two strings")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
