"""The cases of the benchmark: each with its problem and its programs in jaxsens, PyTorch and boofun."""

import functools
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from experiments.benchmark import loss_surface, substitutions, training
from experiments.benchmark.config import Config
from experiments.benchmark.timing import Case, Program
from jaxsens import boolean


def cases(config: Config) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield the name of every case, and the function that makes it."""
    for name in config.cases:
        if name == "recognizers":
            for sizes in substitutions.drawn(config):
                shape = "x".join(map(str, (sizes.layers, *sizes.shape)))
                yield f"recognizer-{shape}", functools.partial(substitutions.recognizer_flips, config, sizes)
        elif name in ("vit", "convmixer", "cnn", "resnet"):
            yield name, functools.partial(substitutions.images, config, name)
        elif name == "cube":
            for n in config.cubes:
                yield f"cube-{n}", functools.partial(cube, config, n)
        else:
            yield name.replace("_", "-"), functools.partial(OTHERS[name], config)


def cube(config: Config, n: int) -> Case:
    """The sensitivity profile of a Boolean function, from its truth table."""
    table = np.random.default_rng(config.seed).integers(0, 2, 2**n, dtype=np.uint8).view(bool)

    def run(count: int) -> np.ndarray:
        del count
        return np.asarray(boolean.truth_tables.profile(table))[None]

    pairs = n * 2 ** (n - 1)
    programs = [Program("jaxsens", "the whole table", run, 0.0, pairs)]
    theirs = _boofun(table, n) if config.published and n <= config.boofun else None
    if theirs:
        programs.append(Program("boofun", "the whole table", theirs, 0.0, pairs))
    return Case(f"cube-{n}", "pairs of strings", 1, 0, tuple(programs))


def _boofun(table: np.ndarray, n: int) -> Callable[[int], np.ndarray] | None:
    """Return boofun's profile, if it is installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns without Numba
        try:
            import boofun
            from boofun.analysis import sensitivity as theirs
        except ImportError:
            return None
        function = boofun.create(table)

    def run(count: int) -> np.ndarray:
        del count
        return np.bincount(theirs.sensitivity_profile(function), minlength=n + 1)[None]

    return run


OTHERS = {
    "screened": substitutions.screened,
    "embeddings": substitutions.embeddings,
    "shifts": substitutions.shifts,
    "sharpness": loss_surface.sharpness,
    "eigenvalues": loss_surface.eigenvalues,
    "train_recognizers": training.many,
    "train_full_batch": training.full_batch,
}
