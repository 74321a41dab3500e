"""Check exact analysis of truth tables on this machine, time it, and compare it with boofun where that is installed.

    python -m experiments.benchmark.micro.truth_tables [--out FILE.json] [--n 20] [--large 26] [--boofun 20]
        [--repeats 15] [--seed 0]

Times of the sensitivity profile and of the Walsh spectrum of a random function of n variables: the first call, which
compiles, separately; median and range of the others, with the result ready on the device. Then each function at the
large n in a new process, with the peak memory of that process on the host. boofun's profile and spectrum are timed
once, at its n (0: not at all; at 20 they take minutes), and the numbers are compared. Writes all fields as JSON and
prints a short table.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsens.boolean import truth_tables
from jaxsens.execution import backends

ROOT = Path(__file__).resolve().parents[3]
MODULE = "experiments.benchmark.micro.truth_tables"
FUNCTIONS = {"profile": truth_tables.profile, "walsh": truth_tables.walsh}


def random_table(n: int, seed: int) -> np.ndarray:
    """Return the table of a random function of n variables."""
    return np.random.default_rng(seed).integers(0, 2, 2**n, dtype=np.uint8).view(bool)


def seconds(fn: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(fn(*args))
    return time.perf_counter() - start, result


def measure(name: str, n: int, seed: int, repeats: int) -> dict[str, Any]:
    """Time one function at one n, and check its result."""
    table = jax.device_put(random_table(n, seed))
    first, result = seconds(FUNCTIONS[name], table)
    check(name, np.asarray(result), n)
    del result
    times = [seconds(FUNCTIONS[name], table)[0] for _ in range(repeats)]
    return {
        "function": name, "n": n, "first_call_seconds": first, "seconds": statistics.median(times),
        "lowest": min(times), "highest": max(times),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }  # fmt: skip


def check(name: str, result: np.ndarray, n: int) -> None:
    """Stop unless the counts sum to the number of strings, or the squares to 1."""
    total = result.sum(dtype=np.int64) - 2**n if name == "profile" else np.vdot(result, result) - 1
    if not abs(total) < 1e-3:
        sys.exit(f"WRONG: {name} at n = {n} is off by {total} in its sum")


def in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one function at the large n with nothing else in memory."""
    command = [sys.executable, "-m", MODULE, "--only", name, "--large", str(options.large), "--seed", str(options.seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} at n = {options.large} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def boofun_seconds(n: int, seed: int) -> dict[str, float] | None:
    """Time boofun's profile and spectrum once, if it is installed, and compare the numbers with ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without Numba it warns
        try:
            import boofun
            from boofun.analysis import sensitivity
        except ImportError:
            return None
        table = random_table(n, seed)
        f = boofun.create(table)
        theirs = {"profile": seconds(sensitivity.sensitivity_profile, f), "walsh": seconds(f.fourier)}
    counts = np.bincount(theirs["profile"][1], minlength=n + 1)
    if not np.array_equal(counts, truth_tables.profile(table)) or not np.allclose(
        theirs["walsh"][1], truth_tables.walsh(table)
    ):
        sys.exit(f"WRONG: boofun has another profile or spectrum at n = {n}")
    return {name: time for name, (time, _) in theirs.items()}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("truth_tables.json"))
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--large", type=int, default=26)
    parser.add_argument("--boofun", type=int, default=20, help="variables for boofun, 0 to leave it out")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FUNCTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.large, options.seed, repeats=3)))
        return
    rows = [in_own_process(name, options) for name in FUNCTIONS]
    sizes = sorted({options.n, options.boofun} - {0})
    rows += [measure(name, n, options.seed, options.repeats) for name in FUNCTIONS for n in sizes]
    for row in rows:
        print(
            f"{row['function']:8} n = {row['n']:2} {row['seconds'] * 1e3:10.2f} ms [{row['lowest'] * 1e3:.2f}, "
            f"{row['highest'] * 1e3:.2f}]  first call {row['first_call_seconds']:.2f} s  peak of the process "
            f"{row['peak_bytes'] / 2**20:,.0f} MiB",
            flush=True,
        )
    theirs = boofun_seconds(options.boofun, options.seed) if options.boofun else None
    ratios = {}
    for name, time_taken in (theirs or {}).items():
        ours = next(row["seconds"] for row in rows if (row["function"], row["n"]) == (name, options.boofun))
        ratios[name] = time_taken / ours
        print(f"{name:8} n = {options.boofun:2} boofun {time_taken:.2f} s: speedup {ratios[name]:,.0f}")
    device = backends.describe_devices() | {"jax": jax.__version__, "host": platform.machine()}
    report = {"device": device, "seed": options.seed, "rows": rows, "boofun_seconds": theirs, "ratios": ratios}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{device} -> {options.out}" + ("" if theirs else "; boofun was not measured"))


if __name__ == "__main__":
    main()
