"""The precision of matrix products and convolutions: what each platform offers, and the error that it makes.

A GPU has units for products of numbers with few bits. An algorithm such as ``"TF32_TF32_F32_X3"`` splits each factor
into parts of 11 bits and adds three products of parts, so that the error is nearly that of float32 at up to three times
its rate.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxsens.execution import batches, checks
from jaxsens.execution.execution import DEFAULT, Execution, require_execution
from jaxsens.typing import PyTree

__all__ = ["ALGORITHMS", "precision_errors", "require_precision"]

_NARROW = ("F16_F16_F32", "BF16_BF16_F32", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6")

ALGORITHMS = {
    "cpu": ("F32_F32_F32", "F64_F64_F64", "BF16_BF16_F32", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6"),
    "gpu": (*_NARROW, "BF16_BF16_F32_X9", "TF32_TF32_F32", "TF32_TF32_F32_X3", "F32_F32_F32", "F64_F64_F64"),
    "tpu": ("BF16_BF16_F32", "BF16_BF16_F32_X3", "BF16_BF16_F32_X6"),
}
"""The algorithms of products that XLA compiles for factors in float32; the other precisions work on all platforms.

Found by compiling a product and a convolution for each platform with JAX 0.10. ``_X3``, ``_X6`` and ``_X9`` are the
numbers of products that one becomes. A CPU computes in float32 under all of its names but that of float64.
"""


def require_precision(execution: Execution) -> None:
    """Raise ValueError if the precision is an algorithm that the platform of the devices does not have.

    Example:
        >>> require_precision(Execution(precision="TF32_TF32_F32_X3"))
        Traceback (most recent call last):
        ValueError: precision must be an algorithm of the platform cpu, which has F32_F32_F32, F64_F64_F64, ...
    """
    precision, platform = execution.precision, execution.platform
    algorithms = ALGORITHMS.get(platform)
    if (
        isinstance(precision, str)
        and "_" in precision
        and precision.isupper()
        and algorithms is not None
        and precision not in algorithms
    ):
        raise ValueError(
            f"precision must be an algorithm of the platform {platform}, which has {', '.join(algorithms)}, or a "
            f"precision of every platform, such as 'highest', got {precision!r}"
        )


def precision_errors(
    apply: Callable[[PyTree, PyTree], PyTree],
    params: PyTree,
    batch: PyTree,
    precisions: Sequence[str] | None = None,
    *,
    execution: Execution = DEFAULT,
) -> dict[str, float]:
    """Measure how far the outputs of a model are from those in ``execution.precision``, for each of several precisions.

    ``error = |y - y*| / |y* - mean y*|`` over all outputs of all examples, where y* are the outputs in
    ``execution.precision`` and the mean is that over examples: what all examples have in common is no signal. A change
    of outputs that a measure records is smaller than the outputs, and its relative error larger by that ratio.

    Args:
        apply: ``apply(params, batch)`` -> outputs ``[b *k]``.
        params: Its parameters.
        batch: Examples with a leading axis b of at least 2; a few dozen are enough.
        precisions: The precisions to compare; by default ``"default"``, ``"high"``, and all of ``ALGORITHMS`` that the
            platform has but float64, and on a CPU but other names of float32.
        execution: The first of its devices evaluates; its ``precision`` is the reference.

    Returns:
        The error of each precision, infinite where outputs are not finite.

    Raises:
        ValueError: If there are fewer than two examples, outputs are not finite in the reference or are the same for
            all examples, the batch does not fit the model, or the platform does not have a precision.

    Example:
        >>> w, x = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
        >>> precision_errors(lambda w, x: x @ w, w, x, ["highest"])
        {'highest': 0.0}
    """
    require_execution(execution)
    checks.require_functions(apply=apply)
    params, batch = checks.device_arrays(params, "params"), checks.host_arrays(batch, "batch")
    if batches.count_of(batch) < 2:
        raise ValueError("batch must have at least two examples, whose outputs can differ, got 1")
    batches.require_fit(apply, params, batches.example_spec(batch))
    if precisions is None:
        names = [name for name in ALGORITHMS[execution.platform] if name[:3] != "F64"]
        if execution.platform == "cpu":  # its other names are float32, too
            names = [name for name in names if name[:3] == "F32"]
        precisions = ["default", "high", *names]

    def outputs(precision: str) -> np.ndarray:
        chosen = execution.replace(precision=precision)
        require_precision(chosen)
        device = execution.devices[0] if execution.devices else None
        with jax.default_device(device), jax.default_matmul_precision(chosen.precision):
            # A new function, since a program is kept for its function and not for the precision that it was made in.
            results = jax.jit(lambda params, batch: apply(params, batch))(params, batch)
        rows = [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in jax.tree.leaves(results)]
        return np.concatenate(rows, 1)

    exact = outputs(execution.precision)
    spread = np.linalg.norm(exact - exact.mean(0))
    if not 0 < spread < np.inf:
        raise ValueError(f"outputs must be finite and differ among examples in {execution.precision!r}")
    errors = {}
    for precision in precisions:
        difference = float(np.linalg.norm(outputs(precision) - exact) / spread)
        errors[precision] = difference if np.isfinite(difference) else float("inf")
    return errors
