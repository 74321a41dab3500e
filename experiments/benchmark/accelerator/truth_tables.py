"""Cases of Boolean functions given by their truth tables."""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from experiments.benchmark.accelerator import ways
from experiments.benchmark.accelerator.sizes import Sizes
from experiments.benchmark.accelerator.ways import Case, Run, Way
from experiments.benchmark.peers import pytorch
from jaxsens.boolean import truth_tables
from jaxsens.execution.flops import Work

__all__ = ["cubes"]

FUNCTIONS = {"profile": truth_tables.profile, "walsh": truth_tables.walsh}


def cubes(sizes: Sizes, seed: int) -> Iterator[Case]:
    """Yield (g): sensitivity profiles and Walsh spectra of random functions."""
    for n in sizes.cubes:
        for name in FUNCTIONS:
            make = functools.partial(_ways, name, n, seed, n == max(sizes.cubes))
            yield Case(f"g. {name}, {n} variables", "pairs of strings", n * 2 ** (n - 1), make, ways.norm_of_difference)


def _ways(name: str, n: int, seed: int, compared: bool) -> list[Way]:
    table = np.random.default_rng([seed, 15, n]).integers(0, 2, 2**n, dtype=np.uint8).astype(bool)
    # The spectrum's sums, of four bytes, are read and written once for every two variables.
    traffic = 2 * 2**n if name == "profile" else -(-n // 2) * 8 * 2**n
    work = functools.partial(Work, 0.0, float(traffic))

    def ours() -> Run:
        on_device = jax.device_put(table)

        def run() -> np.ndarray:
            return np.asarray(FUNCTIONS[name](on_device))

        run()
        return run

    programs = [Way("the table on the device", "jaxsens", ours, work, tolerance=0)]
    if pytorch and compared:
        notes: list[str] = []
        make = functools.partial(pytorch.truth_tables.of_table, name, table, notes)
        programs.append(Way("pytorch", "pytorch", make, work, tolerance=0, notes=notes))
    return programs
