"""Products with a Monte Carlo estimate of the Fisher matrix: gradients at labels drawn from the model's predictions."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsens import labels
from jaxsens.changes import at_least_float32
from jaxsens.curvature.operator import Leaves, Product
from jaxsens.execution import batches, checks
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.typing import Array, PyTree, Where

__all__ = ["monte_carlo_fisher_product"]


def monte_carlo_fisher_product(
    apply: Callable[[PyTree, PyTree], Array],
    *,
    draws: int = 1,
    seed: int = 0,
    ignore_index: int | None = None,
    where: Where | None = None,
    execution: Execution = DEFAULT,
) -> Product:
    """Build ``v -> F v`` with ``F = mean_x mean_s g_s g_s'``, ``g_s`` the gradient at labels drawn from the model.

    ``g_s = d(-log softmax(apply(params, x))[y_s]) / d params`` with ``y_s`` drawn from ``softmax(apply(params, x))``.
    Its expectation over the draws is the Fisher matrix, which for logits is the generalized Gauss-Newton matrix: for
    every use that allows it, ``ggn_product`` is exact at the same cost. This one has the rank of the gradients, as
    methods with sampled labels have it. (Martens, New Insights and Perspectives on the Natural Gradient Method, 2020,
    s.5; for the difference from ``fisher_product``, Kunstner et al., Limitations of the Empirical Fisher
    Approximation, 2019.)

    For logits ``[b *t k]`` labels of tokens are drawn independently, and ``g_s`` is the sum over the ``n_x`` tokens of
    an example that count. The mean is then ``sum_x mean_s g_s g_s' / sum_x n_x``, whose expectation is the matrix of
    ``ggn_product``, a mean over all labels that count.

    Each of several processes computes whole products; the work is not shared among them.

    Args:
        apply: ``apply(params, inputs)`` -> logits ``[b *t k]`` of at least two classes, deterministic. The batch is
            ``(inputs, targets)``, as for ``ggn_product``: targets are labels, of which only matters which count, or
            ``None``; ``(inputs, targets, mask)`` has a boolean for each.
        draws: The number of labels drawn for each.
        seed: Decides the labels, with the number of the example in the batch: neither the chunk nor the devices change
            them. Examples without a label that counts have no number. The first labels of many draws are those of few.
        ignore_index: A label that does not count.
        where: ``where(path, leaf)`` chooses among the floating-point leaves; by default all.
        execution: How to run; its ``chunk`` counts examples. See ``Product``.

    Returns:
        ``product(params, (inputs, targets), v)`` -> ``F v``, in the squared units of the loss, nats, over those of the
        parameters; ``v`` and ``F v`` are tuples of arrays, one for each chosen leaf.

    Raises:
        ValueError: If ``draws`` is no integer of at least 1, ``seed`` none from 0 to 2^32 - 1, or ``ignore_index`` no
            integer; when called, if outputs are not logits, if labels are no classes, the mask is not boolean, or
            batch, parameters and ``v`` do not fit each other.
        FloatingPointError: When called, if a logit or the result is not finite.

    Example:
        >>> product = monte_carlo_fisher_product(lambda w, x: x * w[None])  # two logits, both p = 1/2: g = (1, -1) / 2
        >>> batch = jnp.ones((1, 2)), None
        >>> product(jnp.zeros(2), batch, (jnp.array([1.0, 0.0]),))
        (Array([ 0.25, -0.25], dtype=float32),)
    """
    require_execution(execution)
    checks.require_functions(apply=apply, where=where)
    labels.require_ignore_index(ignore_index)
    draws, seed = checks.require_count("draws", draws), checks.require_count("seed", seed, 0)
    if seed >= 2**32:
        raise ValueError(f"seed must be below 2^32, got {seed}")
    return Product(_SampledFisher(apply, draws, seed, ignore_index), where, execution)


class _Drawn(NamedTuple):
    """Examples, the weights of their labels ``[b *t]``, and the levels that decide these ``[b draws *t]``."""

    inputs: PyTree
    weights: Array
    levels: Array


@dataclass(frozen=True)
class _SampledFisher:
    apply: Callable[[PyTree, PyTree], Array]
    draws: int
    seed: int
    ignore_index: int | None

    def logits(self, params: PyTree, batch: PyTree) -> Array:
        return self.apply(params, batch[0])

    @property
    def program(self) -> "_SampledFisher":
        """The matrix once labels are drawn: those of all seeds share compiled code."""
        return replace(self, seed=0, ignore_index=None)

    def forward(self, params: PyTree, examples: PyTree) -> Array:
        outputs = self.apply(params, examples[0])
        return jnp.where((examples.weights > 0)[..., None], outputs, 0) if isinstance(examples, _Drawn) else outputs

    def check_batch(self, params: PyTree, batch: PyTree) -> _Drawn:
        """Return the examples with what decides their labels."""
        if not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
            raise ValueError(f"batch must be a pair (inputs, targets), got a {type(batch).__name__}")
        batches.require_fit(self.apply, params, batches.example_spec(batch[0]))
        logits = jax.eval_shape(self.apply, params, batch[0])
        if getattr(logits, "ndim", 0) < 2 or logits.shape[-1] < 2:
            raise ValueError(f"apply must give logits [b *t k] of k >= 2 classes, got {logits}")
        checked = labels.that_count(batch, logits.shape, ignore_index=self.ignore_index, name="targets")
        count = batches.count_of(checked[0])
        weights = checked.weights if isinstance(checked, labels.Weighted) else np.ones(count, np.float32)
        levels = np.asarray(_levels(np.uint32(self.seed), self.draws, count, logits.shape[1:-1]))
        return _Drawn(checked[0], weights, levels)

    def product(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Leaves]:
        forward, slopes, pull = self._gradients(restore, at, examples)
        backward = jax.linear_transpose(forward, at)
        return lambda direction: backward(pull(self._weighed(weights, slopes(forward(direction)))))[0]

    def form(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree, weights: Array
    ) -> Callable[[Leaves], Array]:
        forward, slopes, _ = self._gradients(restore, at, examples)

        def form(direction: Leaves) -> Array:
            along = slopes(forward(direction))
            return jnp.sum(self._weighed(weights, along) * along)

        return form

    def _weighed(self, weights: Array, slopes: Array) -> Array:
        return weights.astype(slopes.dtype)[None] * slopes / self.draws

    def _gradients(
        self, restore: Callable[[Leaves], PyTree], at: Leaves, examples: PyTree
    ) -> tuple[Callable[[Leaves], Array], Callable[[Array], Array], Callable[[Array], Array]]:
        """Return how logits change, the slopes ``[draws b]`` of the losses along such a change, and its transpose.

        The gradient in the logits of a label y is ``sqrt(weight) (p - e_y)``: expected squares are then ``weight
        (diag(p) - p p')``.
        """
        inputs, of_labels, levels = examples
        logits, forward = jax.linearize(lambda leaves: self.apply(restore(leaves), inputs), at)
        counted = (of_labels > 0)[..., None]
        wide = at_least_float32(jnp.where(counted, logits, 0))
        root = jnp.sqrt(of_labels).astype(wide.dtype)[..., None]
        probabilities = jax.nn.softmax(wide)
        sampled = self.sampled(levels, probabilities)
        labels_of = tuple(range(1, wide.ndim))

        def gradient(label: Array) -> Array:
            return root * (probabilities - jax.nn.one_hot(label, wide.shape[-1], dtype=wide.dtype))

        def slopes(change: Array) -> Array:
            change = jnp.where(counted, change, 0).astype(wide.dtype)
            return jax.lax.map(lambda label: jnp.sum(gradient(label) * change, labels_of), sampled)

        def pull(along: Array) -> Array:
            def add(total: Array, draw: tuple[Array, Array]) -> tuple[Array, None]:
                label, slope = draw
                return total + slope.reshape(-1, *[1] * len(labels_of)) * gradient(label), None

            return jax.lax.scan(add, jnp.zeros_like(wide), (sampled, along))[0].astype(logits.dtype)

        return forward, slopes, pull

    def sampled(self, levels: Array, probabilities: Array) -> Array:
        """Return labels ``[draws b *t]`` of levels ``[b draws *t]``, by the inverse of the cumulative distribution."""
        below = jnp.cumsum(probabilities, -1)

        def of_draw(level: Array) -> Array:
            # Relative to the last sum, which is 1 up to rounding, so that there is always a class.
            return jnp.sum(below <= (level.astype(below.dtype) * below[..., -1])[..., None], -1)

        return jax.lax.map(of_draw, jnp.moveaxis(levels, 1, 0))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _levels(seed: Array, draws: int, count: int, shape: tuple[int, ...]) -> Array:
    """Return numbers uniform in [0, 1), ``[b draws *t]``, by seed, example, draw and token."""
    key = jax.random.key(seed, impl="threefry2x32")

    def of_draw(example: Array, draw: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, example), draw), shape)

    by_draw = jax.vmap(of_draw, (None, 0))
    return jax.vmap(by_draw, (0, None))(jnp.arange(count, dtype=jnp.uint32), jnp.arange(draws, dtype=jnp.uint32))
