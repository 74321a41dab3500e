"""Time the top eigenpairs and the trace of a Hessian and average sharpness, in jaxsens and in PyTorch packages.

    python -m experiments.benchmark.micro.curvature [--out FILE.json] [--hidden 512,640] [--k 10] [--steps 60]
        [--probes 20] [--draws 20]

All sides use the same model (a tanh perceptron on the UCI digits, cross-entropy, random weights), data, precision
(float32) and number of products, probes and draws. Each uses every core of the process (``taskset`` or ``numactl`` pin
it to one where others share the machine), or the accelerator if there is one, which is kept busy by a larger size, such
as ``--hidden 4096,4096``.

- *pytorch* builds the gradient once, over the whole data set, and differentiates it again for every product. Its
  Lanczos iteration reorthogonalizes fully, twice, from the same random start as ours.
- *hessian-eigenthings* (``pip install --pre hessian-eigenthings``) builds the gradient anew for every product.
- *pyhessian* (its git version, on the path) finds eigenpairs by power iteration, with the same number of products.

Every side spends k more products on its residuals. Compilation is timed separately; times are medians of interleaved
repeats, in wall time and in CPU time; CPU time is more precise on a shared machine. Packages that are not installed are
left out. Writes all fields as JSON and prints a short table.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.benchmark import digits_perceptron
from experiments.benchmark.digits_perceptron import Problem, loss
from experiments.benchmark.peers import pytorch
from jaxsens import curvature, perturb, sharpness
from jaxsens.execution import Execution, backends

try:
    import torch
except ImportError:
    torch = None
try:
    import hessian_eigenthings
except ImportError:
    hessian_eigenthings = None
try:
    import pyhessian
except ImportError:
    pyhessian = None

SIGMA = 0.01
"""Standard deviation of the noise on every weight, for average sharpness; weights are about 1 / sqrt(width)."""

Measures = dict[str, Callable[[], dict[str, Any]]]
"""Quantities, as functions without arguments."""


@dataclass(frozen=True)
class Counts:
    """Numbers of eigenpairs, of products for the Krylov space and for the trace, and of perturbed models."""

    k: int
    steps: int
    probes: int
    draws: int


def ours(problem: Problem, counts: Counts) -> Measures:
    """Return the measurements of jaxsens."""
    params, *arrays = problem
    batch = tuple(arrays)
    product = curvature.hessian_product(loss)
    top = curvature.top_eigenpairs(product, counts.k, steps=counts.steps)
    trace = curvature.trace(product, probes=counts.probes)
    noise = perturb.gaussian(variance=SIGMA**2)
    # One perturbed model at a time, as in PyTorch: several would not fit the cache of a CPU.
    average = sharpness.average_sharpness(loss, noise, draws=counts.draws, execution=Execution(chunk=len(batch[0])))

    def eigenpairs() -> dict[str, Any]:
        pairs = top(jax.random.key(0), params, batch)
        return {"values": pairs.values.tolist(), "residuals": pairs.residuals.tolist()}

    def hutchinson() -> dict[str, Any]:
        estimate = trace(jax.random.key(1), params, batch)
        return {"mean": float(estimate.mean), "sem": float(estimate.sem)}

    def flatness() -> dict[str, Any]:
        estimate = average(jax.random.key(2), params, batch)
        return {"mean": float(estimate.mean), "sem": float(estimate.sem)}

    return {"eigenpairs": eigenpairs, "trace": hutchinson, "sharpness": flatness}


def as_lists(values: "torch.Tensor", residuals: "torch.Tensor") -> dict[str, list[float]]:
    """Return eigenvalues and residuals as lists."""
    return {"values": values.tolist(), "residuals": residuals.tolist()}


def plain(problem: Problem, counts: Counts) -> Measures:
    """Return the measurements of plain PyTorch."""
    surface, device = pytorch.loss_surface.LossSurface(*problem), pytorch.tensors.device()
    start = pytorch.tensors.tensor(jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), (surface.size,)))

    def eigenpairs() -> dict[str, Any]:
        return as_lists(*surface.top_eigenpairs(counts.k, counts.steps, start))

    def hutchinson() -> dict[str, Any]:
        product = surface.hessian_product()
        generator = torch.Generator(device).manual_seed(1)
        forms = []
        for _ in range(counts.probes):
            vector = torch.randint(0, 2, (surface.size,), device=device, generator=generator).float() * 2 - 1
            forms.append((vector @ product(vector)).item())
        return summary(forms)

    def flatness() -> dict[str, Any]:
        return summary(surface.rises(SIGMA, counts.draws).tolist())

    return {"eigenpairs": eigenpairs, "trace": hutchinson, "sharpness": flatness}


def eigenthings(problem: Problem, counts: Counts) -> Measures:
    """Return those measurements that hessian-eigenthings has."""
    surface = pytorch.loss_surface.LossSurface(*problem)
    model, batch = surface.model, surface.batch
    criterion = hessian_eigenthings.supervised_loss(torch.nn.functional.cross_entropy)
    operator = hessian_eigenthings.HessianOperator(model, [batch], criterion)

    def eigenpairs() -> dict[str, Any]:
        result = hessian_eigenthings.lanczos(
            operator, k=counts.k, max_iter=counts.steps, reorthogonalize=True, which="LA", seed=0
        )
        return as_lists(*pytorch.loss_surface.with_residuals(operator.matvec, result.eigenvectors))

    def hutchinson() -> dict[str, Any]:
        result = hessian_eigenthings.hutchinson(operator, num_samples=counts.probes, seed=1)
        return {"mean": result.estimate, "sem": result.stderr}

    return {"eigenpairs": eigenpairs, "trace": hutchinson}


def power_iteration(problem: Problem, counts: Counts) -> Measures:
    """Return those measurements that PyHessian has, with as many iterations as the others have products."""
    surface, on_gpu = pytorch.loss_surface.LossSurface(*problem), torch.cuda.is_available()

    def build() -> Any:
        return pyhessian.hessian(surface.model, torch.nn.functional.cross_entropy, data=surface.batch, cuda=on_gpu)

    def eigenpairs() -> dict[str, Any]:
        hessian = build()
        _, vectors = hessian.eigenvalues(maxIter=counts.steps // counts.k, tol=0, top_n=counts.k)

        def product(vector: torch.Tensor) -> torch.Tensor:
            pieces = torch.split(vector, [p.numel() for p in hessian.params])
            like = [piece.reshape(p.shape) for piece, p in zip(pieces, hessian.params, strict=True)]
            images = torch.autograd.grad(hessian.gradsH, hessian.params, like, retain_graph=True)
            return torch.cat([image.reshape(-1) for image in images])

        vectors = torch.stack([torch.cat([p.reshape(-1) for p in v]) for v in vectors]).detach()
        return as_lists(*pytorch.loss_surface.with_residuals(product, vectors))

    def hutchinson() -> dict[str, Any]:
        return summary(build().trace(maxIter=counts.probes, tol=0))

    return {"eigenpairs": eigenpairs, "trace": hutchinson}


def summary(values: list[float]) -> dict[str, float]:
    """Return the mean and its standard error."""
    return {"mean": statistics.mean(values), "sem": statistics.stdev(values) / len(values) ** 0.5}


def timed(measure: Callable[[], dict[str, Any]]) -> tuple[tuple[float, float], dict[str, Any]]:
    """Return the seconds of wall time and of CPU time on all cores, and the result."""
    start = time.perf_counter(), time.process_time()
    result = measure()
    return (time.perf_counter() - start[0], time.process_time() - start[1]), result


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("curvature.json"))
    parser.add_argument("--hidden", default="512,640", help="widths of the hidden layers")
    parser.add_argument("--k", type=int, default=10, help="eigenpairs")
    parser.add_argument("--steps", type=int, default=60, help="products for the Krylov space")
    parser.add_argument("--probes", type=int, default=20, help="products for the trace")
    parser.add_argument("--draws", type=int, default=20, help="perturbed models for average sharpness")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    problem = digits_perceptron.problem(tuple(int(width) for width in options.hidden.split(",")))
    counts = Counts(options.k, options.steps, options.probes, options.draws)
    sides = {"jaxsens": ours(problem, counts)}
    for name, measures, installed in (
        ("pytorch", plain, torch),
        ("hessian-eigenthings", eigenthings, torch and hessian_eigenthings),
        ("pyhessian", power_iteration, torch and pyhessian),
    ):
        if installed:
            sides[name] = measures(problem, counts)
    rows = []
    for quantity in sides["jaxsens"]:
        rows += compared(quantity, {name: side[quantity] for name, side in sides.items() if quantity in side}, options)
    setting = {
        "parameters": sum(w.size for w in problem[0]), "examples": len(problem[1]), "sigma": SIGMA,
        "repeats": options.repeats, **vars(counts),
    }  # fmt: skip
    device = backends.describe_devices() | {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": processor(),
        "torch_device": (torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu") if torch else None,
    }
    options.out.write_text(
        json.dumps({"device": device, "versions": versions(), "setting": setting, "rows": rows}, indent=1) + "\n"
    )
    print(f"{setting['parameters']} parameters, {setting['examples']} examples, {device} -> {options.out}")


def compared(quantity: str, sides: Measures, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a quantity on all sides, print it, and return a row for each side."""
    first = {name: timed(measure)[0][0] for name, measure in sides.items()}
    times, results, rows = {name: [] for name in sides}, {}, []
    for _ in range(options.repeats):  # interleaved, so that a drift of the machine affects all
        for name, measure in sides.items():
            seconds, results[name] = timed(measure)
            times[name].append(seconds)
    for name, what in results.items():
        clock, cpu = zip(*times[name], strict=True)
        median, busy = statistics.median(clock), statistics.median(cpu)
        rows.append(
            {"quantity": quantity, "by": name, "seconds": median, "lowest": min(clock), "highest": max(clock),
             "cpu_seconds": busy, "first_call_seconds": first[name], **what}
        )  # fmt: skip
        shown = (
            f"largest {what['values'][0]:.5g}, {options.k}th {what['values'][-1]:.5g}, "
            f"largest residual {max(what['residuals']):.1e}"
            if "values" in what
            else f"{what['mean']:.5g} ± {what['sem']:.2g}"
        )
        seconds = f"{median:7.3f} s, {busy:7.3f} s of CPU (first call {first[name]:.2f} s)"
        ratio = f"{median / rows[0]['seconds']:5.2f}x, {busy / rows[0]['cpu_seconds']:5.2f}x"
        print(f"{quantity:10} {name:19} {seconds}  {ratio}  {shown}", flush=True)
    return rows


def processor() -> str:
    """Return the name of the CPU, where the system reports it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def versions() -> dict[str, str]:
    """Return the versions of the packages that were compared."""
    names = ["jax", "jaxlib", "numpy", "torch", "hessian-eigenthings", "pyhessian"]
    installed = {d.name.lower(): d.version for d in metadata.distributions() if d.name}
    return {name: installed[name] for name in names if name in installed}


if __name__ == "__main__":
    main()
