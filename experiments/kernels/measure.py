"""What is measured of kernels and of functions; every result is exact or comes with its standard error."""

from functools import partial

import jax
import numpy as np

from experiments.kernels.config import KEYS, Config
from jaxsens.noise_stability import sensitivity_bound
from jaxsens.statistics.intervals import student
from jaxsens.theory import conjugate_kernel, cube_tokens, finite_width_kernel, structure, tangent_kernel, walsh
from jaxsens.theory.attention_kernels import READ_OUTS
from jaxsens.theory.attention_kernels import SCORES as EXACT_SCORES
from jaxsens.theory.finite_width import KINDS, SCORES
from jaxsens.typing import Array

RHOS = np.linspace(0, 1, 21)
"""Correlations at which the bound is looked at; it holds in between where ``degree_slack`` is at least 0."""

NEGATIVE = np.linspace(-1, 0, 21)[:-1]

GROUPS = 20
"""Groups of networks that the jackknife leaves out, one at a time."""

ROUNDING = 1e-9
"""Smaller numbers are rounding: all are relative to the size of the kernel."""

KERNELS = {"conjugate": conjugate_kernel, "tangent": tangent_kernel}


def settings() -> list[tuple[str, str, str]]:
    """Return kinds, scores and read-outs of the kernels in closed form."""
    return [(kind, score, read_out) for kind in KINDS for score in EXACT_SCORES for read_out in READ_OUTS]


def exact(bits: int, tokens: int) -> dict[str, Array]:
    """Return the structure of every kernel in closed form on a cube, in the order of `settings`."""
    points = cube_tokens(bits, tokens)
    structures = [
        structure(KERNELS[kind](points, score=score, read_out=read_out), tokens) for kind, score, read_out in settings()
    ]
    return {name: np.array([getattr(one, name) for one in structures]) for name in structures[0]._fields}


def finite(config: Config, kind: str, score: str, read_out: str, width: int) -> dict[str, Array]:
    """Estimate the structure of a kernel of finite width.

    Returns:
        The off-diagonal share of the squared Frobenius norm in the Walsh-Fourier basis, without the bias that noise
        adds to squares, and its standard error; the means of the diagonal by degree over its sum, with standard errors;
        and the largest deviation of an entry of the kernel from its closed form, in standard errors (0 for softmax).
    """
    points = cube_tokens(config.finite_bits, config.finite_tokens)
    measure = finite_width_kernel(kind, score=score, read_out=read_out, width=width, networks=config.networks)
    place = [KINDS.index(kind), SCORES.index(score), READ_OUTS.index(read_out), config.widths.index(width)]
    kernel = measure(KEYS(config.seed, "networks", *place), points)
    spectra = walsh.kernel_spectrum(kernel.values)
    share, share_sem = _jackknife(_off_diagonal_share, spectra)
    sizes = walsh.degrees(config.finite_bits)
    by_degree = partial(_degree_means, sizes=sizes)
    means, means_sem = _jackknife(by_degree, spectra)
    worst = 0.0
    if score in EXACT_SCORES:
        gap = np.abs(kernel.mean - KERNELS[kind](points, score=score, read_out=read_out))
        some = kernel.sem > ROUNDING
        worst = float((gap[some] / kernel.sem[some]).max()) if some.any() else 0.0
    return {
        "off_diagonal_share": share, "off_diagonal_share_sem": share_sem, "degree_means": means,
        "degree_means_sem": means_sem, "largest_deviation": worst,
    }  # fmt: skip


def _off_diagonal_share(spectra: np.ndarray) -> np.ndarray:
    """Return an estimate of ``|off-diagonal of E S|^2 / |E S|^2`` from samples ``[n k k]``, by pairs of samples."""
    count, size = spectra.shape[:2]
    products = (spectra.sum(0) ** 2 - (spectra**2).sum(0)) / (count * (count - 1))
    return 1 - np.diag(products).sum() / products.sum() if size else np.zeros(())


def _degree_means(spectra: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    diagonal = np.diag(spectra.mean(0))
    return np.array([diagonal[sizes == k].mean() for k in range(sizes.max() + 1)]) / diagonal.sum()


def interval(mean: Array, sem: Array) -> tuple[Array, Array]:
    """Return the 95 % interval of a jackknifed statistic: Student's, with a degree of freedom less than groups."""
    return student(mean, sem, np.asarray(GROUPS - 1.0), 0.95)


def _jackknife(statistic: partial, spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a statistic of samples, and its standard error from leaving out groups of them."""
    groups = np.arange(len(spectra)) % GROUPS
    left = np.array([statistic(spectra[groups != group]) for group in range(GROUPS)])
    return np.asarray(statistic(spectra)), np.sqrt((GROUPS - 1) * left.var(0))


def all_functions(bits: int) -> dict[str, Array]:
    """Check the bound for all functions of so many bits."""
    return _bound(sensitivity_bound.all_tables(bits))


def random_functions(config: Config, bits: int) -> dict[str, Array]:
    """Check the bound for random functions: uniform ones, and thresholds of random weights, by turns.

    Uniform functions have a sensitivity near the number of bits, so that the bound is far away; thresholds have smaller
    ones.
    """
    key = KEYS(config.seed, "functions", bits)
    uniform = jax.random.bernoulli(key, 0.5, (config.functions, 2**bits))
    weights = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (config.functions, bits)), np.float64)
    sparse = np.asarray(jax.random.bernoulli(jax.random.fold_in(key, 2), 0.5, weights.shape))
    thresholds = (weights * sparse) @ walsh.signs(bits).T > 0
    turns = np.arange(config.functions) % 2 == 0
    return _bound(np.where(turns[:, None], np.asarray(uniform), thresholds))


def _bound(tables: np.ndarray) -> dict[str, Array]:
    slack = sensitivity_bound.degree_slack(tables)
    positive, negative = (sensitivity_bound.stability_slack(tables, rhos) for rhos in (RHOS, NEGATIVE))
    by_average = sensitivity_bound.stability_slack(tables, RHOS, exponent="average")
    return {
        "functions": len(tables),
        "degree_exceptions": int((slack < 0).sum()),
        "exceptions": int((positive < -ROUNDING).any(1).sum()),
        "negative_exceptions": int((negative < -ROUNDING).any(1).sum()),
        "sharp": int((np.abs(positive) < ROUNDING).all(1).sum()),
        "smallest_slack": float(positive.min()),
        "average_exceptions": int((by_average < -ROUNDING).any(1).sum()),
        "smallest_slack_by_average": float(by_average.min()),
    }
