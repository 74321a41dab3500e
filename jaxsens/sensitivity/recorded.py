"""From what the devices recorded of every example to the result of a model, or to an error that says where."""

import numpy as np

from jaxsens.sensitivity.results import Sensitivity

__all__ = ["sensitivity_of"]


def sensitivity_of(
    recorded: np.ndarray,
    nonfinite: np.ndarray,
    drawn_sites: np.ndarray | None,
    sites: np.ndarray,
    index: np.ndarray,
    forwards: int,
    prefix: str,
    rate: bool | None = None,
) -> Sensitivity:
    """Return the result of one model.

    Args:
        recorded: The changes ``[b draws n]``, at all t tokens (or groups) or at the drawn ones.
        nonfinite: Whether the clean and the changed outputs are not finite ``[b draws 1 + n]``.
        drawn_sites: The numbers of the drawn tokens or groups ``[b n]``, or None.
        sites: Which tokens or groups may be perturbed ``[b t]``.
        index: Numbers of the examples ``[b]``, for messages.
        forwards: Model forwards to evaluate at once, for the record.
        prefix: Start of messages.
        rate: Whether changes are shares of events; by default whether they are booleans.

    Raises:
        FloatingPointError: If an output or a change at a site is not finite; the message says where the first one is.

    Example:
        >>> sites, index = np.array([[True, False]]), np.array([0])
        >>> result = sensitivity_of(np.array([[[0.5, 2.0]]]), np.zeros((1, 1, 3), bool), None, sites, index, 3, "")
        >>> result.values.tolist()
        [[0.5, nan]]
    """
    length = sites.shape[1]
    if drawn_sites is not None:
        recorded = _at(drawn_sites, recorded, length)
        nonfinite = np.concatenate([nonfinite[..., :1], _at(drawn_sites, nonfinite[..., 1:], length)], -1)
        sites = sites & _at(drawn_sites, np.ones_like(drawn_sites, bool), length)
    _check_finite(nonfinite, sites, index, prefix)
    _check_changes(recorded, sites, index, prefix)
    recorded = np.where(sites[:, None], recorded, np.zeros((), recorded.dtype))
    return Sensitivity(recorded, sites, recorded.dtype == bool if rate is None else rate, forwards)


def _at(chosen: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Put ``values [b ... n]`` at the positions ``chosen [b n]`` of ``length``, and zeros at all others."""
    whole = np.zeros((*values.shape[:-1], length), values.dtype)
    positions = chosen.reshape(len(chosen), *(1,) * (values.ndim - 2), -1)
    np.put_along_axis(whole, np.broadcast_to(positions, values.shape), values, -1)
    return whole


def _check_finite(nonfinite: np.ndarray, sites: np.ndarray, index: np.ndarray, prefix: str) -> None:
    """Raise if an output that counts is not finite: ``nonfinite [b draws 1 + t]``, the clean output first."""
    counted = np.concatenate([np.ones((len(sites), 1), bool), sites], 1)
    bad = np.argwhere(nonfinite & counted[:, None])
    if len(bad):
        example, draw, row = bad[0].tolist()
        what = f"with token {row - 1} replaced in draw {draw}" if row else "as it is"
        raise FloatingPointError(
            f"{prefix}the model's output is not finite for example {index[example]} {what} ({len(bad)} such outputs in "
            "all); look at the parameters, or at the size of the perturbation"
        )


def _check_changes(recorded: np.ndarray, sites: np.ndarray, index: np.ndarray, prefix: str) -> None:
    bad = np.argwhere(~np.isfinite(recorded) & sites[:, None])
    if len(bad):
        example, draw, token = bad[0].tolist()
        raise FloatingPointError(
            f"{prefix}the change is {recorded[example, draw, token]} for example {index[example]}, draw {draw}, "
            f"token {token} ({len(bad)} such changes in all), though the outputs are finite; look at the change "
            "function"
        )
