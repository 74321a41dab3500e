"""The roles that the library is built from, and the one legend of shapes.

Shapes are written in brackets, in docstrings only: ``tokens [b t *s]``.

====  ==========================================================================
b     examples (the batch)
t     tokens of an example: bits, ids, patches, embeddings
*s    shape of one token: ``()`` for bits and ids, ``(d,)`` for patches and embeddings
k     outputs of a model: logits, class probabilities
h w c height, width and channels of an image
m     models with stacked parameters
l     layers
====  ==========================================================================

``mask [t]`` says which tokens are real: padding changes nothing. ``sites [t]`` says which of them are perturbed and
counted. ``params`` are all the variables of a model; functions here are in evaluation mode, hence deterministic.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

__all__ = [
    "Apply",
    "Array",
    "Change",
    "Internals",
    "Key",
    "Loss",
    "Perturbation",
    "PyTree",
    "Scale",
    "Substitute",
    "SubstituteAt",
    "TrainApply",
    "Where",
]

Array = jax.Array | np.ndarray
"""An array on a device or on the host."""

Key = jax.Array
"""A typed random key, as made by ``jax.random.key``."""

PyTree = Any
"""A nest of tuples, lists, dicts and registered classes with arrays for leaves."""

Where = Callable[[tuple[Any, ...], Array], bool]
"""Chooses leaves of a pytree: ``where(path, leaf)``, with the path of ``jax.tree_util``."""


Axes = Any
"""Axes of matplotlib, which is imported when something is drawn."""

Figure = Any
"""A figure of matplotlib."""


class Apply(Protocol):
    """A model in evaluation mode, over a batch.

    Example:
        >>> def apply(params, tokens, mask=None):
        ...     return tokens.sum(1) @ params  # [b t d] to [b k]
        >>> apply(np.ones((2, 3)), np.ones((4, 5, 2))).shape
        (4, 3)
    """

    def __call__(self, params: PyTree, tokens: Array, mask: Array | None = None, /) -> PyTree:
        """Map ``tokens [b t *s]`` and ``mask [b t]`` to outputs ``[b *k]`` (a pytree of them is allowed)."""
        ...


class Substitute(Protocol):
    """The primitive: the outputs of one example, and of all its copies that differ from it in one token.

    Example:
        >>> def substitute(params, tokens, alternatives, mask=None):
        ...     return tokens.sum(), tokens.sum() - tokens + alternatives
        >>> clean, changed = substitute(None, np.array([1, 2]), np.array([5, 5]))
        >>> int(clean), changed.tolist()
        (3, [7, 6])
    """

    def __call__(
        self, params: PyTree, tokens: Array, alternatives: Array, mask: Array | None = None, /
    ) -> tuple[PyTree, PyTree]:
        """Map ``tokens [t *s]`` and ``alternatives [t *s]`` to ``(clean [*k], changed [t *k])``."""
        ...


class SubstituteAt(Protocol):
    """The primitive that can also evaluate a few tokens only, at less cost, for sampling of sites.

    A fifth positional parameter distinguishes it from ``Substitute``.

    Example:
        >>> def substitute(params, tokens, alternatives, mask=None, sites=None):
        ...     changed = tokens.sum() - tokens + alternatives
        ...     return tokens.sum(), changed if sites is None else changed[sites]
        >>> substitute(None, np.array([1, 2]), np.array([5, 5]), None, np.array([1]))[1].tolist()
        [6]
    """

    def __call__(
        self,
        params: PyTree,
        tokens: Array,
        alternatives: Array,
        mask: Array | None = None,
        sites: Array | None = None,
        /,
    ) -> tuple[PyTree, PyTree]:
        """Map tokens, alternatives and the numbers ``sites [n]`` of tokens to ``(clean [*k], changed [n *k])``.

        Without sites it is ``Substitute``; with them ``changed`` has the rows ``sites`` of the whole.
        """
        ...


class Perturbation(Protocol):
    """A sampler of changed tokens or changed weights.

    Example:
        >>> def flip(key, draw, x):
        ...     return 1 - x
        >>> flip(jax.random.key(0), 0, np.array([0, 1])).tolist()
        [1, 0]
    """

    def __call__(self, key: Key, draw: Array, x: PyTree, /) -> PyTree:
        """Return the alternative of ``x`` for draw number ``draw``: same structure, shapes and dtypes as ``x``.

        ``key`` is that of the example (for weights, that of the estimate). The sampler itself folds in ``draw``, so
        that samplers whose draws depend on each other, such as antithetic pairs, have the same form; these have an
        attribute ``dependent_draws``, the number of successive draws that form an independent unit.
        """
        ...


class Scale(Protocol):
    """How large weights are, for perturbations relative to it.

    Example:
        >>> def absolute(weights):
        ...     return jax.tree.map(np.ones_like, weights)
        >>> absolute({"w": np.array([2.0, 3.0])})["w"].tolist()
        [1.0, 1.0]
    """

    def __call__(self, weights: PyTree, /) -> PyTree:
        """Return multipliers of at least 0: same structure, shapes and dtypes as ``weights``."""
        ...


class Change(Protocol):
    """What is recorded of an output and of the output after the perturbation.

    Booleans are events: their mean is a rate, with an interval for rates. Floats are averaged as they are.

    Example:
        >>> def change(clean, changed):
        ...     return np.abs(changed - clean).max()
        >>> float(change(np.array([1.0, 2.0]), np.array([1.0, 5.0])))
        3.0
    """

    def __call__(self, clean: PyTree, changed: PyTree, /) -> Array:
        """Map two outputs ``[*k]`` of one example to a scalar."""
        ...


class Loss(Protocol):
    """A loss per example, in nats where it is a likelihood.

    Example:
        >>> def loss(params, batch):
        ...     inputs, targets = batch
        ...     return (inputs @ params - targets) ** 2
        >>> loss(np.ones(2), (np.eye(2), np.array([1.0, 3.0]))).tolist()
        [0.0, 4.0]
    """

    def __call__(self, params: PyTree, batch: PyTree, /) -> Array:
        """Map a batch with leading axis ``b`` to losses ``[b]``."""
        ...


class Internals(NamedTuple):
    """The intermediate values of a recognizer of strings ``[b n]``; ``t = n + 1`` with the end of string.

    Attributes:
        logits: ``[b]``.
        states: Activations ``[b l+1 t d]``: the embeddings, then those after each layer.
        normalizers: ``1 / sqrt(variance + epsilon)`` of every layer normalization ``[b r t]``, in the order in which
            they are applied; infinite where both terms are zero.

    Example:
        >>> Internals(np.zeros(2), np.zeros((2, 3, 5, 4)), np.ones((2, 1, 5))).states.shape
        (2, 3, 5, 4)
    """

    logits: Array
    states: Array
    normalizers: Array


class TrainApply(Protocol):
    """A model in training mode.

    Example:
        >>> def train_apply(variables, tokens, key):
        ...     return tokens @ variables["w"], variables
        >>> train_apply({"w": np.ones((2, 3))}, np.ones((4, 2)), jax.random.key(0))[0].shape
        (4, 3)
    """

    def __call__(self, variables: PyTree, tokens: Array, key: Key, /) -> tuple[Array, PyTree]:
        """Map ``tokens [b t *s]`` to logits ``[b k]``, and to the variables with updated statistics."""
        ...
