"""PyTorch's strongest form of a function: compiled, and its launches replayed as one CUDA graph."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from experiments.benchmark.pytorch.tensors import Tensor

__all__ = ["BFLOAT16", "Captured", "captured", "products_in", "release_memory", "strongest"]

BFLOAT16 = torch.bfloat16


@contextlib.contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let products and convolutions of float32 run in ``"float32"`` or in ``"tf32"`` within this block."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


class Captured:
    """A function of tensors of fixed shapes whose launches were recorded once; a call replays them.

    A call copies its arguments to where the recorded launches read; its result is overwritten by the next call.
    """

    def __init__(self, fn: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
        self.arguments = tuple(argument.clone() for argument in arguments)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                fn(*self.arguments)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # Other threads may compile for the same device meanwhile: what they do is not recorded.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.result = fn(*self.arguments)

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Return the result for these arguments."""
        for place, argument in zip(self.arguments, arguments, strict=True):
            place.copy_(argument)
        self.graph.replay()
        return self.result


def release_memory() -> None:
    """Give back what no tensor holds any more."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def captured(fn: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """Return ``fn`` as a CUDA graph where there is a CUDA device, and as it is where there is none."""
    return Captured(fn, arguments) if torch.cuda.is_available() else fn


def strongest(fn: Callable[..., Tensor], arguments: tuple[Tensor, ...], notes: list[str]) -> Callable[..., Tensor]:
    """Return the fastest form of ``fn`` that works: compiled and captured, or with less of that.

    Args:
        fn: A function of tensors.
        arguments: Tensors of the shapes and dtypes that it will get.
        notes: What the form is, and what failed on the way to it, is appended here.
    """
    # Without an accelerator only what Dynamo makes of the function is tried: Inductor would take a minute of a CPU.
    backend = "inductor" if torch.cuda.is_available() else "eager"
    try:
        torch.compiler.reset()
        form = torch.compile(fn, dynamic=False, backend=backend)
        form(*arguments)
        notes.append(f"compiled by {backend}")
    except Exception as error:
        form = fn
        notes.append(f"not compiled: {type(error).__name__}: {str(error)[:200]}")
    try:
        form = captured(form, arguments)
        notes.append("CUDA graph" if isinstance(form, Captured) else "no CUDA graph")
    except Exception as error:
        notes.append(f"no CUDA graph: {type(error).__name__}: {str(error)[:200]}")
        torch.cuda.synchronize()
    return form
