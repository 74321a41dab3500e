"""Cases of the benchmark on the loss surface: average sharpness, eigenvalues of a Hessian."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from experiments.benchmark import digits_perceptron
from experiments.benchmark.config import Config
from experiments.benchmark.digits_perceptron import loss
from experiments.benchmark.peers import pytorch
from experiments.benchmark.timing import Case, Program
from jaxsens import curvature, perturb
from jaxsens.execution import Execution, flops
from jaxsens.sharpness.average import average_sharpness

DRAWS = 10_000
"""Number of perturbed models; each program takes as many as its time allows."""


def sharpness(config: Config) -> Case:
    """Average sharpness: the rise of the loss under Gaussian noise on all weights."""
    weights, *batch = digits_perceptron.problem(config.hidden, config.seed)
    noise = perturb.gaussian(config.deviation**2)

    def run(count: int) -> np.ndarray:
        measure = average_sharpness(loss, noise, draws=count, execution=Execution(chunk=len(batch[0])))
        return measure(jax.random.key(config.seed), weights, tuple(batch)).values

    plainly = flops.count(loss, weights, tuple(batch)).operations
    programs = [Program("jaxsens", "one model at a time", run, plainly, 1)]
    if pytorch:
        surface = pytorch.loss_surface.LossSurface(weights, *batch)

        def theirs(count: int) -> np.ndarray:
            return surface.rises(config.deviation, count).cpu().numpy()

        programs.append(Program("pytorch", "one model at a time", theirs, plainly, 1))
    return Case("sharpness", "perturbed models", DRAWS, 5, tuple(programs), statistical=True)


def eigenvalues(config: Config) -> Case:
    """The largest eigenvalues of a Hessian."""
    weights, *batch = digits_perceptron.problem(config.hidden, config.seed)
    key = jax.random.key(config.seed)

    def ours(devices: Sequence[jax.Device]) -> Callable[[int], np.ndarray]:
        product = curvature.hessian_product(loss, execution=Execution(devices=devices))
        top = curvature.top_eigenpairs(product, config.eigenvalues, steps=config.steps)
        return lambda count: np.asarray(top(key, weights, tuple(batch)).values)[None][:count]

    products = config.steps + config.eigenvalues  # with those for the residuals
    # The graph of the gradient is built once; its derivative takes twice the time of a gradient, three forwards.
    plainly = products * 6 * flops.count(loss, weights, tuple(batch)).operations
    # One device keeps the gradient between products; several compute it again for each.
    every = jax.local_devices()
    programs = [
        Program("jaxsens", f"{number} device{'s' * (number > 1)}", ours(every[:number]), plainly, products)
        for number in sorted({1, len(every)})
    ]
    if pytorch:
        surface = pytorch.loss_surface.LossSurface(weights, *batch)
        start = pytorch.tensors.tensor(jax.random.normal(jax.random.fold_in(key, 0), (surface.size,)))

        def theirs(count: int) -> np.ndarray:
            del count
            values, residuals = surface.top_eigenpairs(config.eigenvalues, config.steps, start)
            residuals.cpu()  # as ours gives them
            return values.cpu().numpy()[None]

        programs.append(Program("pytorch", "the gradient kept", theirs, plainly, products))
    return Case("eigenvalues", "products", 1, 1e-2, tuple(programs))
