"""Settings of PyTorch: the device and dtype of tensors, the number of threads, and compilation."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from jaxsens.typing import Array

Tensor = torch.Tensor
Forward = Callable[[Tensor], Tensor]

_floats: contextvars.ContextVar[torch.dtype | None] = contextvars.ContextVar("floats", default=None)


def use(threads: int) -> None:
    """Use this many threads, and the precision of matrix products that float32 has."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")


def device() -> torch.device:
    """Return the accelerator, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensor(array: Array) -> Tensor:
    """Return an array on the device, floats in the dtype of ``floats_in`` where that is used."""
    moved = torch.as_tensor(np.array(array), device=device())
    dtype = _floats.get()
    return moved.to(dtype) if dtype is not None and moved.is_floating_point() else moved


@contextlib.contextmanager
def floats_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Let ``tensor`` give floats in this dtype within this block; None for that of the array."""
    token = _floats.set(dtype)
    try:
        yield
    finally:
        _floats.reset(token)


def inference(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Return ``fn`` without gradients."""

    @functools.wraps(fn)
    def run(*args: Any) -> Array:
        with torch.inference_mode():
            return fn(*args)

    return run


def compiled(forward: Forward) -> Forward:
    """Return ``forward`` compiled for the shapes that it is given."""
    torch.compiler.reset()  # what was compiled for other models counts against a limit, beyond which nothing is
    return torch.compile(forward, dynamic=False)
