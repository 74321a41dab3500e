"""The result of ``fit``: a trained model and its losses."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from jaxsens.results.result import Description, Result, draw
from jaxsens.results.words import times
from jaxsens.typing import Array, Axes, Figure, PyTree

__all__ = ["Fitted"]


@partial(jax.tree_util.register_dataclass, data_fields=["variables", "losses"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class Fitted(Result):
    """A trained model; ``variables, losses = fit(...)`` takes it apart.

    Attributes:
        variables: ``{"params": ...}`` after the last epoch.
        losses: The mean training loss of every epoch ``[epochs]``, in nats where the objective is.

    Example:
        >>> Fitted({"params": {"w": np.zeros(2)}}, np.array([0.7, 0.5]))
        Fitted(loss 0.7 to 0.5; 2 epochs)
    """

    variables: PyTree
    losses: np.ndarray

    _by_shape = ("variables",)

    def __iter__(self) -> Iterator[PyTree | Array]:
        return iter((self.variables, self.losses))

    def __getitem__(self, number: int) -> PyTree | Array:
        return (self.variables, self.losses)[number]

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the training loss against the epoch.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        epochs = np.arange(1, len(self.losses) + 1)
        return draw("lines", ax, epochs, np.asarray(self.losses)[None], across="epoch", quantity="training loss")

    def _describe(self) -> Description:
        losses = np.asarray(self.losses)
        table = {"epoch": np.arange(1, len(losses) + 1), "loss": losses}
        shown = f"loss {losses[0]:.3g} to {losses[-1]:.3g}" if len(losses) else "not trained"
        return Description(times(epochs=len(losses)), words=shown, table=lambda: table)
