"""Boolean functions as truth tables: sensitivity profile and Walsh spectrum."""

from collections.abc import Callable

import numpy as np
import torch

from experiments.benchmark.pytorch.strongest import strongest
from experiments.benchmark.pytorch.tensors import Tensor, tensor
from jaxsens.typing import Array

__all__ = ["of_table"]


def _profile(table: Tensor) -> Tensor:
    """Return the number of strings of each sensitivity, ``[n + 1]``."""
    n = len(table).bit_length() - 1
    total = torch.zeros_like(table)
    for i in range(n):
        pairs = table.view(-1, 2, 2**i)
        total = (total.view(-1, 2, 2**i) + (pairs[:, :1] ^ pairs[:, 1:])).flatten()
    return torch.stack([(total == k).sum() for k in range(n + 1)])


def _walsh(table: Tensor) -> Tensor:
    """Return the Walsh-Fourier coefficients, ``[2**n]``."""
    sums = 1 - 2 * table.int()
    for i in range(len(table).bit_length() - 1):
        first, second = sums.view(-1, 2, 2**i).unbind(1)
        sums = torch.stack([first + second, first - second], 1).flatten()
    return sums.float() / len(table)


FUNCTIONS = {"profile": _profile, "walsh": _walsh}


def of_table(name: str, table: Array, notes: list[str]) -> Callable[[], np.ndarray]:
    """Return ``run()``: the ``"profile"`` or the ``"walsh"`` spectrum of a table ``[2**n]`` of booleans."""
    inputs = tensor(np.asarray(table, np.uint8))
    with torch.inference_mode():
        form = strongest(FUNCTIONS[name], (inputs,), notes)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return form(inputs).cpu().numpy()

    return run
