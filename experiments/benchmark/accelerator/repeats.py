"""Do bits repeat between two processes, where each picks its kernels by timing them (autotuning on)?

A process prints a digest of the results of every case here; two processes run side by side and are compared.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.benchmark.accelerator import substitutions, weights
from experiments.benchmark.accelerator.record import Record
from experiments.benchmark.accelerator.sizes import REAL, REHEARSED, Sizes

__all__ = ["MEMORY", "compare", "digests", "sizes_of", "start"]

ROOT = Path(__file__).resolve().parents[3]

MEMORY = "0.08"
"""Part of the device's memory for each of these processes, while the main one and PyTorch use the rest."""


def digests(sizes: Sizes, seed: int) -> dict[str, str]:
    """Return the digest of the results of each case's first way in jaxsens; of one that fails, why."""
    hashes: dict[str, str] = {}
    cases = [
        *substitutions.encoders(sizes, seed, {"float32"}), *substitutions.recognizers(sizes, seed),
        *substitutions.images(sizes, seed), *weights.trainings(sizes, seed), *weights.loss_surface(sizes, seed),
    ]  # fmt: skip
    for start_of_name in sizes.repeated:
        case = next(case for case in cases if case.name.startswith(start_of_name))
        try:
            hashes[case.name] = hashlib.sha256(case.ways()[0].make()().tobytes()).hexdigest()
        except Exception as error:
            hashes[case.name] = f"failed: {type(error).__name__}: {str(error)[:200]}"
    return hashes


def start(rehearse: bool, seed: int) -> list[subprocess.Popen]:
    """Start two processes that print their digests."""
    command = [sys.executable, "-m", "experiments.benchmark.accelerator", "--digests", "--seed", str(seed)]
    environment = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": MEMORY}
    return [
        subprocess.Popen(
            command + ["--rehearse"] * rehearse, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]


def compare(record: Record, processes: list[subprocess.Popen]) -> None:
    """Wait for both, until the deadline, and record which cases had the same bits."""
    printed: list[dict[str, Any]] = []
    for process in processes:
        try:
            output, _ = process.communicate(timeout=record.left)
            printed.append(json.loads(output.splitlines()[-1]))
        except Exception as error:
            record.failed("k. bits of two processes", error)
            for other in processes:
                other.kill()
            return
    for name, first in printed[0].items():
        second = printed[1].get(name)
        failed = first.startswith("failed") or str(second).startswith("failed")
        row = {"case": name, "same_bits": None if failed else first == second, "first": first, "second": second}
        record.add("repeats", row)
        answer = "unknown" if failed else "repeat" if first == second else "DIFFER"
        record.say(f"k. {name}: bits of two processes {answer}")


def sizes_of(rehearse: bool) -> Sizes:
    """Return the sizes to use."""
    return REHEARSED if rehearse else REAL
