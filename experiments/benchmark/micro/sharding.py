"""Measure the cost of sharing work: over virtual devices on one core, and over processes with one core each.

    python -m experiments.benchmark.micro.sharding [--out FILE.json] [--repeats 9] [--seconds 2] [--models vit,mlp]
        [--cores 0,1]

Token sensitivity of small models on images of CIFAR's size (Gaussian noise on each of 64 patches), always with the same
images and chunks:

- 8 virtual devices against 1, on one core: in a process that has 8 and uses 1, and in a process that has only 1. (XLA
  gives a process at least one thread for each of its devices, and splits its operations accordingly, however many are
  used.)
- Two processes (jax.distributed) with one core each against one process with one core; and two independent processes
  with half of the images each, which is the limit of the machine.

Each case is one or two processes that stay alive throughout and take turns, so that other load on the machine affects
all of them. It stops unless all cases with the same work give the same bits. Ratios are taken within each turn; it
reports their median and quartiles, in wall time and in CPU time. CPU time excludes the time in which other programs
have the core; of two processes it is that of the busier one. Writes all fields as JSON and prints a short table.
"""

import argparse
import functools
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxsens.execution import Execution, backends

ROOT = Path(__file__).resolve().parents[3]
MODULE = "experiments.benchmark.micro.sharding"

SHAPE, PATCH, TOKENS, CHUNK = (32, 32, 3), 4, 64, 65
# Chunks in a repeat: a multiple of 8 devices x 2 processes.
SHARES = 16


@functools.cache
def images(count: int) -> np.ndarray:
    """Return random tokens, made once, outside of what is timed."""
    return np.random.default_rng(0).normal(size=(count, TOKENS, PATCH**2 * 3)).astype(np.float32)


def measurement(name: str, used: int) -> Callable[[int], str]:
    """Return a function that measures ``count`` images on ``used`` devices and returns the digest of the results."""
    import jax

    from jaxsens import changes, models, perturb, substitution
    from jaxsens.sensitivity import token

    module = models.build(name, "small", image_shape=SHAPE, classes=10, patch=PATCH)
    variables = models.init(module, jax.random.key(0))
    measure = token.token_sensitivity(
        substitution.one_at_a_time(models.evaluation(module)), perturb.gaussian(1.0), change=changes.absolute_change,
        execution=Execution(chunk=CHUNK, devices=jax.local_devices()[:used]),
    )  # fmt: skip

    def run(count: int) -> str:
        return hashlib.sha256(measure(jax.random.key(1), variables, images(count)).changes.tobytes()).hexdigest()

    return run


def work(used: int) -> None:
    """Answer every ``MODEL COUNT`` on stdin by a line of JSON: the worker process, with ``used`` devices."""
    from jaxsens.execution import processes

    processes.join()
    built: dict[str, Callable[[int], str]] = {}
    for line in sys.stdin:
        name, count = line.split()
        run = built[name] = built.get(name) or measurement(name, used)
        wall, cpu = time.perf_counter(), time.process_time()
        digest = run(int(count))
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "digest": digest}
        print(json.dumps(times | {"device": backends.describe_devices()}), flush=True)


class Case:
    """One way to share the work: one or more processes, each pinned to a core."""

    def __init__(self, *cores: int, devices: int = 1, used: int = 1, independent: bool = False) -> None:
        self.share = len(cores) if independent else 1
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.processes = []
        for number, core in enumerate(cores):
            environment = os.environ | {
                "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            }  # fmt: skip
            if len(cores) > 1 and not independent:
                environment |= {"JAXSENS_PROCESSES": str(len(cores)), "JAXSENS_PROCESS": str(number)}
                environment |= {"JAXSENS_COORDINATOR": address}
            words = ["taskset", "-c", str(core), sys.executable, "-m", MODULE, "--worker", str(used)]
            self.processes.append(
                subprocess.Popen(
                    words, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

    def measure(self, name: str, count: int) -> dict[str, Any]:
        """Return the wall time, the CPU time of the busiest process, and the digest of the results."""
        for process in self.processes:
            process.stdin.write(f"{name} {count // self.share}\n")
            process.stdin.flush()
        answers = []
        for process in self.processes:
            line = process.stdout.readline()
            while line and not line.startswith("{"):  # messages of libraries
                line = process.stdout.readline()
            if not line:
                sys.exit("a worker died")
            answers.append(json.loads(line))
        return answers[0] | {key: max(answer[key] for answer in answers) for key in ("wall", "cpu")}

    def close(self) -> None:
        """End the workers; they leave together."""
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def compare(
    cases: dict[str, Case], pairs: dict[str, tuple[str, str]], name: str, seconds: float, repeats: int
) -> list[dict[str, Any]]:
    """Let the cases take turns, and return a row for each pair: the speedup of the second over the first."""
    for case in cases.values():
        case.measure(name, SHARES)
    took = cases["1 device"].measure(name, SHARES)["cpu"]
    count = SHARES * max(1, round(seconds / took))
    answers: dict[str, list[dict[str, Any]]] = {label: [] for label in cases}
    for case in cases.values():
        case.measure(name, count)
    for turn in range(repeats):
        order = list(cases) if turn % 2 else list(cases)[::-1]
        for label in order:
            answers[label].append(cases[label].measure(name, count))
    rows = []
    for label, (before, after) in pairs.items():
        alike = cases[before].share == cases[after].share
        if alike and len({answer["digest"] for side in (before, after) for answer in answers[side]}) != 1:
            sys.exit(f"WRONG: {name} differs between {before} and {after}")
        row = {"model": name, "images": count, "forwards": count * (TOKENS + 1), "comparison": label}
        for clock in ("wall", "cpu"):
            ratios = [a[clock] / b[clock] for a, b in zip(answers[before], answers[after], strict=True)]
            low, median, high = statistics.quantiles(ratios, n=4)
            row |= {f"{clock}_ratio": median, f"{clock}_low": low, f"{clock}_high": high}
            for side, at in (("before", before), ("after", after)):
                row[f"{clock}_{side}"] = [answer[clock] for answer in answers[at]]
        rows.append(row)
        print(
            f"{name:10} {label:44} {row['wall_ratio']:5.3f} [{row['wall_low']:5.3f}, {row['wall_high']:5.3f}] by wall, "
            f"{row['cpu_ratio']:5.3f} [{row['cpu_low']:5.3f}, {row['cpu_high']:5.3f}] by CPU time",
            flush=True,
        )
    return rows


def main() -> None:
    """Start the workers, let them take turns, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sharding.json"))
    parser.add_argument("--repeats", type=int, default=9, help="turns of every case")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of one turn, on one core")
    parser.add_argument("--models", default="vit,mlp")
    parser.add_argument("--cores", default="0,1", help="at least two cores")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        return work(options.worker)
    first, *others = [int(core) for core in options.cores.split(",")]
    if not others:
        sys.exit(f"--cores must name at least two, got {options.cores}")
    cases = {
        "1 device": Case(first),
        "1 of 8 devices": Case(first, devices=8),
        "8 devices": Case(first, devices=8, used=8),
        "2 processes": Case(first, others[0]),
        "2 independent processes": Case(first, others[0], independent=True),
    }
    pairs = {
        "8 devices over 1 of the 8": ("1 of 8 devices", "8 devices"),
        "8 devices over 1 in a process of its own": ("1 device", "8 devices"),
        "2 processes over 1": ("1 device", "2 processes"),
        "2 independent processes over 1": ("1 device", "2 independent processes"),
    }
    rows = []
    for name in options.models.split(","):
        rows += compare(cases, pairs, name, options.seconds, options.repeats)
    device = cases["1 device"].measure("mlp", SHARES)["device"]
    for case in cases.values():
        case.close()
    import jax

    machine = device | {"jax": jax.__version__, "cpus": os.cpu_count()}
    options.out.write_text(json.dumps({"device": machine, "rows": rows}, indent=1) + "\n")
    print(f"{machine} -> {options.out}")
    return None


if __name__ == "__main__":
    main()
