"""How fast is jaxsens on this machine, compared with PyTorch and with the published procedures?

    python -m experiments.benchmark --preset quick|laptop|accelerator [--cases vit,cube] [--out DIR] [--seed 0]

or scripts/benchmark [--quick], which first makes an environment. On two cores quick takes four minutes and laptop 35 to
40. Every case is computed by several programs in one process, on the same cores: jaxsens, with the work that
substitutions share; plain, JAX without sharing; pytorch, batched, without gradients, with fused attention, compiled
where that helps; published, the procedure of the papers' code (a forward for each string, five masks for a batch of
images, copies of a text made one by one). Each runs at its best block or batch, all must give the same results, and
repeats take turns. Without PyTorch its rows are missing.

Leaves benchmark.json (rates, operations, memory, first calls, versions, device), benchmark.csv, a figure and
manifest.json in the folder --out. Results: experiments/benchmark/README.md.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
from tqdm.auto import tqdm

from experiments import harness
from experiments.benchmark import cases as benchmark_cases
from experiments.benchmark import growth as benchmark_growth
from experiments.benchmark import peers, report, timing
from experiments.benchmark.config import PRESETS, Config
from experiments.benchmark.peers import pytorch
from jaxsens.execution import backends


def execute(config: Config, out: Path) -> Path:
    """Measure every case, or those that are left, in the folder ``out``."""
    if pytorch:
        pytorch.tensors.use(config.threads)
    with harness.Run.open(out, config, experiment="benchmark") as run:
        ceiling = run.unit("ceilings", lambda: timing.ceilings(config.seconds))
        ceiling = {name: float(value) for name, value in ceiling.items()}
        table = []
        cases = list(benchmark_cases.cases(config))
        with tqdm(desc="benchmark", total=len(cases), unit="case", dynamic_ncols=True) as bar:
            for name, make in cases:
                bar.set_postfix_str(name, refresh=True)

                def measure(make: Callable[[], timing.Case] = make) -> dict[str, object]:
                    return timing.compare(make(), seconds=config.seconds, repeats=config.repeats)

                times = run.unit(name, measure, allow_nonfinite=["bytes", "peak_bytes"])
                table += report.rows(name, times, ceiling)
                bar.update()
        growth = [
            benchmark_growth.row(
                law.name, run.unit(f"growth-{law.name}", partial(benchmark_growth.measure, law, config.repeats))
            )
            for law in (benchmark_growth.laws(config) if config.grow else ())
        ]
        run.table("benchmark", table)
        run.document(
            "benchmark",
            {
                "device": backends.describe_devices() | {"jax": jax.__version__},
                "peers": peers.versions(),
                "ceilings": ceiling,
                "recognizers_over_mix": report.over_mix(table),
                "recognizers_by_layers": report.by_layers(table),
                "rows": table,
                "growth": growth,
            },
        )
        run.figure("benchmark", report.figure(table))
    print("\n".join((*report.lines(table), *benchmark_growth.lines(growth))))
    return out


# Compilation is measured too: no compiled program may come from an earlier run.
EXPERIMENT = harness.Experiment(
    "benchmark", PRESETS, execute, __doc__, every_core=True, default="quick", compilation_cache=False
)
