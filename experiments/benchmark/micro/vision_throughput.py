"""Check token sensitivity on the devices of this machine, then measure its throughput at several chunks.

    python -m experiments.benchmark.micro.vision_throughput [--out FILE.json] [--seconds 5] [--models vit,cnn]
        [--chunks 64,512,4096]

The check comes first: every backend and number of devices must give the same bits, and float32 must agree with float64
(on the CPU) to rounding; otherwise it stops. Then, for images of CIFAR's size and each model, precision and chunk, it
measures model forwards per second (median and range of interleaved repeats), their floating-point operations, compile
time, and their rate over that of a large matrix product in the same run. Writes all fields as JSON and prints a short
table.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsens import changes, models, perturb, substitution
from jaxsens.execution import Execution, backends, memory
from jaxsens.execution.execution import BACKENDS
from jaxsens.sensitivity import token
from jaxsens.typing import Apply, PyTree

SHAPE, PATCH, TOKENS = (32, 32, 3), 4, 64
VARIANTS = {"vit": "paper_cifar10", "convmixer": "paper", "cnn": "paper", "mlp": "paper"}


def build(name: str, dtype: str) -> tuple[Apply, PyTree]:
    """Return the model and its parameters."""
    module = models.build(name, VARIANTS[name], image_shape=SHAPE, classes=10, patch=PATCH, dtype=dtype)
    return models.evaluation(module), models.init(module, jax.random.key(0))


def images(count: int) -> np.ndarray:
    """Return random tokens; zeros would run faster than data."""
    return np.random.default_rng(0).normal(size=(count, TOKENS, PATCH**2 * 3)).astype(np.float32)


def changes_of(apply: Apply, params: PyTree, tokens: np.ndarray, execution: Execution) -> np.ndarray:
    """Return the change of the logits under noise on each token ``[b 1 t]``."""
    measure = token.token_sensitivity(
        substitution.one_at_a_time(apply),
        perturb.gaussian(1.0),
        change=changes.absolute_change,
        execution=execution,
    )
    return measure(jax.random.key(1), params, tokens).changes


def check(names: list[str]) -> None:
    """Stop unless results are equal on all devices and backends, and correct to rounding."""
    tokens = images(5)
    for name in names:
        apply, params = build(name, "float32")
        reference = changes_of(apply, params, tokens, Execution(chunk=65))
        for backend in BACKENDS:
            for count in {1, jax.local_device_count()}:
                execution = Execution(chunk=65, backend=backend, devices=jax.local_devices()[:count])
                if not np.array_equal(changes_of(apply, params, tokens, execution), reference):
                    sys.exit(f"WRONG: {name} differs on {count} devices with {backend}")
        alternatives = [
            np.asarray(perturb.gaussian(1.0)(jax.random.fold_in(jax.random.key(1), i), 0, x))
            for i, x in enumerate(tokens)
        ]
        params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            exact, _ = build(name, "float64")
            for i, x in enumerate(tokens):
                x, alternative = (np.asarray(a, np.float64) for a in (x, alternatives[i]))
                clean, changed = substitution.one_at_a_time(exact)(params, x, alternative)
                truth = np.abs(np.asarray(changed - clean[None])).sum(-1)
                error = float(np.abs(reference[i, 0] - truth).max() / np.abs(clean).sum())
                if not error < 1e-3:
                    sys.exit(f"WRONG: {name} is off by {error:.1e} of the logits for image {i}")
        print(f"{name}: same bits on all devices and backends; error against float64 {error:.1e} of the logits")


def ceiling(dtype: str, precision: str, seconds: float) -> float:
    """Return FLOP/s of a large matrix product."""
    size = 8192 if jax.default_backend() != "cpu" else 2048
    with jax.default_matmul_precision(precision):
        product = jax.jit(lambda a, b: a @ b)
        a, b = jax.random.normal(jax.random.key(0), (2, size, size), dtype)
        product(a, b).block_until_ready()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            product(a, b).block_until_ready()
            count += 1
        return 2 * size**3 * count / (time.perf_counter() - start)


def throughput(
    name: str,
    dtype: str,
    precision: str,
    model: tuple[Apply, PyTree],
    chunks: list[int | None],
    top: float,
    flop: float,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return, and print, a row for each chunk: ``top`` is the rate of a product, ``flop`` the work of a forward."""
    (apply, params), cases, rows = model, {}, []
    for chunk in chunks:
        measure = token.token_sensitivity(
            substitution.one_at_a_time(apply),
            perturb.gaussian(1.0),
            execution=Execution(chunk=chunk, precision=precision),
        )
        start = time.perf_counter()
        used = measure(jax.random.key(0), params, images(2)).chunk
        trial = images(max(2, 2 * used // (TOKENS + 1)) * jax.local_device_count())
        measure(jax.random.key(0), params, trial)
        warm = time.perf_counter() - start
        start = time.perf_counter()
        measure(jax.random.key(0), params, trial)
        rate = len(trial) / (time.perf_counter() - start)
        count = max(len(trial), int(rate * options.seconds / options.repeats))
        cases[chunk] = (measure, used, images(count), warm)
    speeds = {chunk: [] for chunk in cases}
    for _ in range(options.repeats):  # interleaved, so that a drift of the machine affects all
        for chunk, (measure, _, tokens, _) in cases.items():
            start = time.perf_counter()
            measure(jax.random.key(0), params, tokens)
            speeds[chunk].append(len(tokens) * (TOKENS + 1) / (time.perf_counter() - start))
    for chunk, rates in speeds.items():
        median = statistics.median(rates)
        rows.append(
            {
                "model": name, "dtype": dtype, "precision": precision, "chunk": cases[chunk][1],
                "fitted": chunk is None, "forwards_per_second": median, "lowest": min(rates),
                "highest": max(rates), "flop_per_forward": flop, "flop_per_second": flop * median,
                "fraction_of_product": flop * median / top, "first_calls_seconds": cases[chunk][3],
            }
        )  # fmt: skip
        print(
            f"{name:10} {dtype:9} chunk {cases[chunk][1]:6}{'*' if chunk is None else ' '} {median:12,.0f} "
            f"forwards/s [{min(rates):,.0f}, {max(rates):,.0f}]  {flop * median / top:6.1%} of a product",
            flush=True,
        )
    return rows


def main() -> None:
    """Check, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("vision_throughput.json"))
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds for each measurement")
    parser.add_argument("--models", default="vit,convmixer,cnn,mlp")
    parser.add_argument(
        "--chunks",
        default="65,650,4160,16640,none",
        help="model forwards computed together; none: from the memory budget",
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    names = options.models.split(",")
    chunks = [None if text == "none" else int(text) for text in options.chunks.split(",")]
    check(names)
    rows = []
    for dtype, precision in (("float32", "highest"), ("bfloat16", "default")):
        top = ceiling(dtype, precision, options.seconds)
        for name in names:
            apply, params = build(name, dtype)
            cost = jax.jit(apply).lower(params, images(1)).compile().cost_analysis()
            flop = float((cost[0] if isinstance(cost, list) else cost).get("flops", float("nan")))
            rows += throughput(name, dtype, precision, (apply, params), chunks, top, flop, options)
    device = backends.describe_devices() | {"jax": jax.__version__, "budget_bytes": memory.budget()}
    options.out.write_text(json.dumps({"device": device, "rows": rows}, indent=1) + "\n")
    print(f"* from the memory budget. {device} -> {options.out}")


if __name__ == "__main__":
    main()
