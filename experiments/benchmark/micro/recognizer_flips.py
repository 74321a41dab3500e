"""Check the shared-layer substitution of recognizers on this machine, then compare its speed with plain evaluation.

    python -m experiments.benchmark.micro.recognizer_flips [--out FILE.json] [--seconds 20]
        [--sizes 2x4x32x4,4x4x32x4] [--rows 4,8] [--chunks 101]

The check comes first: in float64 both must agree to 1e-9 of the logits, and the float32 error of the shared evaluation
must be at most twice that of the plain one (geometric mean over eight models); otherwise it stops. Then, for each size
(layers x heads x head size x multiplier, strings of 100 bits, Xavier normal weights), it measures strings per second
through ``sensitivity_profile``: the plain and the shared evaluation in interleaved repeats, each at its best of the
given blocks (``--rows``; none for all 101 substitutions together) and chunks, and their ratio beside that of their
operations. Writes all fields as JSON and prints a short table.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxsens import boolean, models, substitution
from jaxsens.execution import Execution, backends
from jaxsens.models import recognizers
from jaxsens.models.recognizers import initialization
from jaxsens.typing import PyTree, Substitute

LENGTH = 100
FACTORIES = {
    "plain": lambda config, rows: substitution.one_at_a_time(recognizers.evaluation(config), rows),
    "shared": models.substitution.recognizer,
}


def strings(count: int) -> np.ndarray:
    """Return random strings."""
    return np.asarray(boolean.strings.uniform(jax.random.key(1), count, LENGTH))


def logits(substitute: Substitute, variables: PyTree, string: np.ndarray) -> np.ndarray:
    """Return all logits of a string, the unchanged one last, in float64; ``substitute`` is compiled."""
    with jax.default_matmul_precision("highest"):
        clean, changed = substitute(variables, string, 1 - string)
    return np.append(np.asarray(changed, np.float64), np.float64(clean))


def check() -> None:
    """Stop unless both evaluations agree."""
    configs = {b: recognizers.Config(block=b, depth=3, heads=4, head_size=16, multiplier=2) for b in recognizers.BLOCKS}
    compiled = {b: {name: jax.jit(make(c, 4)) for name, make in FACTORIES.items()} for b, c in configs.items()}
    for block, scheme in itertools.product(recognizers.BLOCKS, list(initialization.SCHEMES)[:4]):
        config = configs[block]
        errors = {name: [] for name in FACTORIES}
        for seed in range(8):
            variables = recognizers.init(config, jax.random.key(seed), scheme)
            (string,) = np.asarray(boolean.strings.uniform(jax.random.key(seed), 1, LENGTH))
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
            with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
                exact = {name: logits(fn, wide, string) for name, fn in compiled[block].items()}
            scale = np.abs(exact["plain"]).max()
            if not np.abs(exact["plain"] - exact["shared"]).max() < 1e-9 * scale:
                sys.exit(f"WRONG: {block}, {scheme}: the two differ in float64")
            for name, fn in compiled[block].items():
                error = logits(fn, variables, string) - exact["plain"]
                errors[name].append(np.sqrt(np.mean(error**2)) / scale)
        plain, shared = (float(np.exp(np.mean(np.log(np.add(errors[name], 1e-9))))) for name in ("plain", "shared"))
        if not shared < 2 * plain:
            sys.exit(f"WRONG: {block}, {scheme}: float32 errors {shared:.1e} shared, {plain:.1e} plain")
        print(f"{block} block, {scheme}: equal in float64; float32 errors {shared:.1e} shared, {plain:.1e} plain")


def speed(measure: Callable, variables: PyTree, count: int) -> float:
    """Return strings per second over ``count`` strings."""
    chosen = strings(count)
    start = time.perf_counter()
    measure(jax.random.key(0), variables, chosen)
    return count / (time.perf_counter() - start)


def best(measures: dict[tuple, Callable], variables: PyTree, seconds: float) -> tuple[tuple, int]:
    """Return the fastest block and chunk, and the number of strings that take ``seconds`` with it."""
    speeds = {}
    for how, measure in measures.items():
        trial = max(2, 2 * (how[1] or 1) // (LENGTH + 1)) * jax.local_device_count()
        speed(measure, variables, trial)  # compiles
        first = speed(measure, variables, trial)
        speeds[how] = speed(measure, variables, max(trial, int(first * seconds / 4)))
    fastest = max(speeds, key=speeds.get)
    return fastest, max(2, int(speeds[fastest] * seconds))


def main() -> None:
    """Check, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("recognizer_flips.json"))
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds for each evaluation and size")
    parser.add_argument("--sizes", default="2x4x32x4,4x4x32x4,6x4x32x4,2x8x64x4,4x1x16x2")
    parser.add_argument("--rows", default="4,8,16", help="substitutions in a block; none for all")
    parser.add_argument("--chunks", default="101", help="model forwards computed together; none: fit the memory")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    blocks, chunks = (
        [None if word == "none" else int(word) for word in text.split(",")] for text in (options.rows, options.chunks)
    )
    check()
    table = []
    for size in options.sizes.split(","):
        depth, heads, head_size, multiplier = map(int, size.split("x"))
        config = recognizers.Config(depth=depth, heads=heads, head_size=head_size, multiplier=multiplier)
        variables = recognizers.init(config, jax.random.key(0), "xavier_normal")
        chosen = {}
        for name, make in FACTORIES.items():
            measures = {
                (rows, chunk): boolean.sensitivity_profile(make(config, rows), execution=Execution(chunk=chunk))
                for rows, chunk in itertools.product(blocks, chunks)
            }
            how, count = best(measures, variables, options.seconds / options.repeats)
            chosen[name] = (how, measures[how], count)
        speeds = {name: [] for name in chosen}
        for _ in range(options.repeats):  # interleaved, so that a drift of the machine affects both
            for name, (_, measure, count) in chosen.items():
                speeds[name].append(speed(measure, variables, count))
        plain, shared = models.substitution.recognizer_operations(config, depth, LENGTH)
        ratios = [b / a for a, b in zip(speeds["plain"], speeds["shared"], strict=True)]
        row = {
            "size": size, "operations_plain": plain, "operations_shared": shared, "operations_ratio": plain / shared,
            "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
        }  # fmt: skip
        for name, (how, _, count) in chosen.items():
            row |= {f"{name}_rows": how[0], f"{name}_chunk": how[1], f"{name}_strings": count}
            row |= {f"{name}_strings_per_second": statistics.median(speeds[name])}
        table.append(row)
        print(
            f"{size:10} plain {row['plain_strings_per_second']:8.2f} strings/s (blocks of {row['plain_rows']}), shared "
            f"{row['shared_strings_per_second']:8.2f} ({row['shared_rows']}): {row['ratio']:.2f}x "
            f"[{row['lowest']:.2f}, {row['highest']:.2f}], operations {plain / shared:.2f}x",
            flush=True,
        )
    device = backends.describe_devices() | {"jax": jax.__version__}
    options.out.write_text(json.dumps({"device": device, "rows": table}, indent=1) + "\n")
    print(f"{device} -> {options.out}")


if __name__ == "__main__":
    main()
