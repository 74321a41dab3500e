"""Cases that are timed, the ways to compute each, and the comparison of their answers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from experiments.benchmark.accelerator.machine import Ceilings
from jaxsens.execution import dry_run
from jaxsens.execution.flops import Work

__all__ = [
    "Case",
    "Run",
    "Way",
    "ahead",
    "counted",
    "norm_of_difference",
    "predicted_ms",
    "share_that_differs",
    "standard_errors",
]

Run = Callable[[], np.ndarray]
"""Compute the whole work of a case, with results on the host when it returns."""

RATES = {
    "float32": ("float32", 1), "tf32x3": ("tf32", 3), "bf16x6": ("bf16", 6), "tf32": ("tf32", 1), "bf16": ("bf16", 1),
}  # fmt: skip
"""Which ceiling a precision has, and how many products it makes of one."""


@dataclass(frozen=True)
class Way:
    """One way to compute what a case asks for.

    Attributes:
        name: Name of the way; the first way of a case is the reference for answers.
        by: ``"jaxsens"`` or ``"pytorch"``.
        make: Compiles, and returns what runs. Those of jaxsens are called in threads.
        work: Counts the operations and bytes of a run; None where that means nothing.
        precision: Precision of products: a key of ``RATES``.
        tolerance: How far the answer may be from the reference's.
        notes: Notes of making it: how far PyTorch could compile it.
    """

    name: str
    by: str
    make: Callable[[], Run]
    work: Callable[[], Work] | None
    precision: str = "float32"
    tolerance: float = 1e-3
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """Work that is done in several ways.

    Attributes:
        name: Name of the computation, after the letter of its group.
        unit: Unit of the count, such as model forwards.
        count: Number of these that a run stands for.
        ways: Returns the ways; called when their turn comes, in the main thread.
        differ: How far an answer is from that of the reference: ``differ(reference, answer)``.
    """

    name: str
    unit: str
    count: float
    ways: Callable[[], list[Way]]
    differ: Callable[[np.ndarray, np.ndarray], float]


def ahead(run: Run) -> Callable[[], Run]:
    """Return what compiles the programs of ``run`` without computing anything, and returns it."""

    def make() -> Run:
        with dry_run.compiling_only():
            run()
        return run

    return make


def predicted_ms(work: Work | None, precision: str, ceilings: Ceilings) -> float | None:
    """Return the milliseconds of work at the measured ceilings: the longer of its products and its traffic."""
    rate, products = RATES[precision]
    if work is None or rate not in ceilings or "copy" not in ceilings:
        return None
    return 1e3 * max(products * work.operations / ceilings[rate], work.bytes / ceilings["copy"])


def norm_of_difference(reference: np.ndarray, answer: np.ndarray) -> float:
    """Return ``|answer - reference| / |reference|``, infinite where shapes differ or a number is not finite."""
    if reference.shape != answer.shape or not np.isfinite(answer).all():
        return float("inf")
    exact = reference.astype(np.float64)
    return float(np.linalg.norm(answer - exact) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny))


def share_that_differs(reference: np.ndarray, answer: np.ndarray) -> float:
    """Return the share of decisions that are not those of the reference."""
    return float(np.mean(reference != answer)) if reference.shape == answer.shape else float("inf")


def standard_errors(reference: np.ndarray, answer: np.ndarray) -> float:
    """Return the difference of the means of independent draws, in standard errors of it."""
    if answer is reference:
        return 0.0
    spread = np.sqrt(sum(np.var(a, ddof=1) / len(a) for a in (reference, answer)))
    return float(np.abs(np.mean(reference) - np.mean(answer)) / spread)


def counted(work: Callable[[], Work], times: int) -> Callable[[], Work]:
    """Return a function that counts the work once, ``times`` as much of it."""

    @functools.cache
    def total() -> Work:
        once = work()
        return Work(times * once.operations, times * once.bytes)

    return total
