"""Which parts of two propositions on kernels of attention and on noise stability hold, and where?

Vasudeva et al. (Transformers Learn Low Sensitivity Functions, s.3) state that the conjugate and tangent kernels of
attention with linear scores are diagonal in the Walsh-Fourier basis of the cube, with eigenvalues that fall with the
degree (Prop. 3.1, claim C8), and that the largest sensitivity bounds noise stability (Prop. 3.2, claim C9). Here the
kernels are computed in closed form on all cubes of a few bits, for three read-outs, and estimated for networks of
finite width, with softmax scores too; the bound is checked for all functions of up to four bits and for random ones of
more. A counterexample to Prop. 3.1 is printed.

    python -m experiments.kernels --preset laptop

Leaves kernels.csv (a row for each kernel in closed form), degrees.csv (its diagonal by degree), finite_width.csv,
functions.csv, counterexample.csv, comparison.csv, two figures and manifest.json in the folder --out. What was proven,
verified and refuted: experiments/kernels/README.md.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from experiments import harness
from experiments.kernels import claims, figures, measure
from experiments.kernels.config import PRESETS, Config
from jaxsens.theory import conjugate_kernel, counterexample, cube_tokens
from jaxsens.theory.attention_kernels import SCORES as EXACT_SCORES
from jaxsens.theory.finite_width import KINDS

SETTING = {
    "network": "one layer of attention, tokens are consecutive bits, shared weights; see jaxsens.theory",
    "limit": "many heads, wide keys and values; scores over sqrt(width)",
    "precision": "float64; networks of finite width: float32",
    "finite width": "intervals over networks: jackknife over 20 groups, Student's t",
}


def execute(config: Config, out: Path) -> Path:
    """Run the experiment, or the rest of it, in the folder ``out``."""
    exact, finite, functions = {}, {}, {}
    work = [(exact, "exact", cube, partial(measure.exact, *cube)) for cube in config.cubes]
    for kind in KINDS:
        for score in config.finite_scores:
            for read_out in config.finite_read_outs:
                for width in config.widths:
                    setting = (kind, score, read_out, width)
                    work.append((finite, "finite", setting, partial(measure.finite, config, *setting)))
    for bits in range(1, config.exhaustive + 1):
        work.append((functions, "functions", ("all", bits), partial(measure.all_functions, bits)))
    for bits in config.sampled_bits:
        work.append((functions, "functions", ("random", bits), partial(measure.random_functions, config, bits)))
    with harness.Run.open(out, config, experiment="kernels") as run:
        run.record(setting=SETTING)
        for results, section, setting, compute in tqdm(work, desc="units", unit="unit", dynamic_ncols=True):
            results[setting] = run.unit("-".join(map(str, (section, *setting))), compute)
        _tables(run, exact, finite, functions)
        run.comparison(
            [
                *claims.kernel_claims(config, exact),
                *claims.bound_claims(functions),
                *claims.finite_claims(config, finite),
            ]
        )
        run.figure("off_diagonal", figures.off_diagonal(config, exact))
        run.figure("by_degree", figures.by_degree(config, finite))
        run.table("counterexample", [row := refutation()])
        print(said(row))
        print(run.compiling)
    return out


def refutation() -> dict[str, Any]:
    """Return the smallest counterexample to Prop. 3.1: four bits in two tokens, linear scores, all tokens read."""
    example = counterexample(conjugate_kernel(cube_tokens(4, 2)))
    texts = {name: " ".join(f"{value:+.0f}" for value in getattr(example, name)) for name in "xyuv"}
    return {**texts, "inner": example.inner, "kernel_x_y": example.kernel_x_y, "kernel_u_v": example.kernel_u_v}


def said(row: dict[str, Any]) -> str:
    """Return the counterexample in words."""
    return (
        f"Prop. 3.1: the kernel is no function of the inner product. Two tokens of two bits: x = ({row['x']}), "
        f"y = ({row['y']}), u = ({row['u']}), v = ({row['v']}). <x, y> = <u, v> = {row['inner']:g}, but "
        f"K(x, y) = {row['kernel_x_y']:g} and K(u, v) = {row['kernel_u_v']:g}"
    )


def _tables(run: harness.Run, exact: claims.Units, finite: claims.Units, functions: claims.Units) -> None:
    kernels, degrees = [], []
    for (bits, tokens), unit in exact.items():
        for place, (kind, score, read_out) in enumerate(measure.settings()):
            names = {"bits": bits, "tokens": tokens, "kernel": kind, "scores": score, "read_out": read_out}
            parts = {
                name: float(unit[name][place]) for name in ("spread", "off_diagonal", "within_degree", "parity_leak")
            }
            kernels.append(names | parts | {"ordered": bool(unit["ordered"][place])})
            degrees += [names | {"degree": k, "mean": float(m)} for k, m in enumerate(unit["degree_means"][place])]
    run.table("kernels", kernels)
    run.table("degrees", degrees)
    names = ("kernel", "scores", "read_out", "width")
    numbers = ("off_diagonal_share", "off_diagonal_share_sem", "largest_deviation")
    run.table(
        "finite_width",
        [
            dict(zip(names, setting, strict=True))
            | {name: float(unit[name]) for name in numbers}
            # There is no closed form for softmax.
            | ({} if setting[1] in EXACT_SCORES else {"largest_deviation": None})
            for setting, unit in finite.items()
        ],
    )
    run.table(
        "functions",
        [
            {
                "functions": kind,
                "bits": bits,
                **{("count" if n == "functions" else n): np.asarray(v).item() for n, v in unit.items()},
            }
            for (kind, bits), unit in functions.items()
        ],
    )


EXPERIMENT = harness.Experiment("kernels", PRESETS, execute, __doc__)
