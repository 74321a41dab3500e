"""Answers: of every family against float64 on the CPU, of both backends, of a repeated run, of every precision."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as OutOfTime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.accelerator import smoothness, truth
from experiments.benchmark.accelerator.families import Family, families
from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.ways import norm_of_difference
from jaxsens import changes
from jaxsens.execution import Execution
from jaxsens.sensitivity import token

__all__ = ["PRECISIONS", "check", "check_products"]

TOLERANCE = 1e-3
"""Of float32: far above its rounding, and below what TF32 makes of differences of outputs."""

PRECISIONS = {
    "float32": ("highest", 2e-5),
    "tf32x3": ("TF32_TF32_F32_X3", 1e-4),
    "bf16x6": ("BF16_BF16_F32_X6", 1e-4),
    "tf32": ("TF32_TF32_F32", 5e-3),
    "bf16": ("BF16_BF16_F32", 5e-2),
}
"""What JAX calls a precision of products, and how far a product may be off float64, relative to its norm."""


def check(record: Record, seed: int, threads: int, only: tuple[str, ...] = ()) -> None:
    """Check every family and every other measure, or only some, in threads; all results go into the record."""
    jobs: list[tuple[str, Callable[[], Any]]] = [
        (name, lambda make=make: _of_family(make())) for name, make in families(seed)
    ]
    jobs += smoothness.checks(seed)
    jobs = [(name, job) for name, job in jobs if not only or name in only]
    pool = ThreadPoolExecutor(threads)
    futures = {pool.submit(job): name for name, job in jobs}
    try:
        for future in as_completed(futures, timeout=record.left):
            name = futures.pop(future)
            try:
                rows = list(future.result())
            except Exception as error:
                record.failed(f"answer of {name}", error)
                continue
            _judge(record, name, rows)
    except OutOfTime:
        for name in futures.values():
            record.skip(f"answer of {name}", "no time left")
    pool.shutdown(wait=False, cancel_futures=True)


def _judge(record: Record, name: str, rows: list[dict[str, Any]]) -> None:
    worst = max((row["error"] for row in rows if "error" in row), default=0.0)
    record.say(f"answer of {name}: error {worst:.1e}, {len(rows)} checks")
    for row in rows:
        record.add("answers", {"of": name, **row})
        what = f"{name}, {row['what']}"
        if not row.get("error", 0.0) <= row.get("tolerance", 0.0):
            record.wrong(what, f"error {row['error']:.2e}, tolerance {row['tolerance']:.0e}")
        if not row.get("same_bits", True):
            record.wrong(what, "bits differ")


def _of_family(family: Family) -> Iterator[dict[str, Any]]:
    exact = _in_float64(family)
    key = jax.random.key(0)
    for name, substitute in family.substitutes.items():
        measured = {}
        for backend in ("pmap", "shard_map"):
            measure = token.token_sensitivity(
                substitute, family.perturbation, change=changes.absolute_change, execution=Execution(backend=backend)
            )
            measured[backend] = measure(key, family.variables, family.tokens, family.mask).changes[:, 0]
        again = measure(key, family.variables, family.tokens, family.mask).changes[:, 0]
        first, second = measured.values()
        yield {"what": f"{name}, float64 on the CPU", "error": norm_of_difference(exact, first), "tolerance": TOLERANCE}
        yield {"what": f"{name}, pmap and shard_map", "same_bits": np.array_equal(first, second)}
        yield {"what": f"{name}, run twice", "same_bits": np.array_equal(second, again)}


def _in_float64(family: Family) -> np.ndarray:
    """Return the changes ``[b t]`` in float64, from the plain substitution on the CPU."""
    with truth.on_cpu_in_float64():

        @jax.jit
        def of_all(variables: Any, tokens: Any, mask: Any) -> Any:
            def of_one(x: Any, seen: Any) -> Any:
                clean, changed = family.exact(variables, x, family.perturbation(None, None, x), seen)
                return jax.vmap(changes.absolute_change, (None, 0))(clean, changed)

            return jax.vmap(of_one)(tokens, mask)

        recorded = np.asarray(of_all(*truth.widened((family.variables, family.tokens, family.mask))))
    return recorded if family.mask is None else np.where(family.mask, recorded, 0)


def check_products(record: Record, seed: int) -> set[str]:
    """Check products of matrices, batches of them and a convolution in every precision; return those that work."""
    works = set()
    for (precision, (name, tolerance)), (what, call, arguments) in itertools.product(
        PRECISIONS.items(), _products(seed)
    ):
        try:
            with jax.default_matmul_precision(name):
                product = np.asarray(jax.jit(lambda *a, call=call: call(*a))(*arguments))
        except Exception as error:
            record.failed(f"{what} in {precision}", error)
            continue
        with truth.on_cpu_in_float64():
            exact = np.asarray(jax.jit(call)(*truth.widened(arguments)))
        error = norm_of_difference(exact, product)
        record.add("products", {"what": what, "precision": precision, "error": error, "tolerance": tolerance})
        if error <= tolerance:
            works.add((what, precision))
        else:
            record.wrong(f"{what} in {precision}", f"error {error:.2e}, tolerance {tolerance:.0e}")
    for precision in PRECISIONS:
        errors = [row["error"] for row in record.results["products"] if row["precision"] == precision]
        record.say(f"products in {precision:8}: errors " + (", ".join(f"{e:.1e}" for e in errors) or "none computed"))
    kinds = [what for what, *_ in _products(seed)]
    return {precision for precision in PRECISIONS if all((what, precision) in works for what in kinds[:2])}


def _products(seed: int) -> list[tuple[str, Callable[..., jax.Array], tuple[np.ndarray, ...]]]:
    draws = np.random.default_rng([seed, 4])

    def normal(*shape: int) -> np.ndarray:
        return draws.normal(size=shape).astype(np.float32)

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return [
        ("a product", jnp.matmul, (normal(512, 768), normal(768, 1024))),
        ("a batch of products", jnp.matmul, (normal(48, 65, 64), normal(48, 64, 65))),
        ("a convolution", convolve, (normal(8, 16, 16, 64), normal(3, 3, 64, 64))),
    ]
