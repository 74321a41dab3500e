"""How the time and the number of operations grow with the size of the work."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy import stats

from experiments.benchmark.config import Config
from experiments.benchmark.substitutions import reverse
from jaxsens import boolean, changes, models, perturb, substitution
from jaxsens.execution import Execution, flops
from jaxsens.models import recognizers
from jaxsens.models.text import bert, encoder
from jaxsens.sensitivity import token
from jaxsens.typing import Perturbation, PyTree, Substitute

EXAMPLES = 8
"""Number of examples where something else grows."""


@dataclass(frozen=True)
class Law:
    """A size of the work that grows.

    Attributes:
        name: Name of the size that grows.
        sizes: The sizes to measure.
        make: Gives for a size what to run, and its floating-point operations.
    """

    name: str
    sizes: tuple[int, ...]
    make: Callable[[int], tuple[Callable[[], object], float]]


def laws(config: Config) -> Iterator[Law]:
    """Yield the laws: bits of a string, tokens of a text, draws, examples."""
    sizes = np.asarray(config.growth)
    yield Law("bits", tuple(sizes * config.length // 8), functools.partial(_of_bits, config))
    yield Law("tokens", tuple(sizes * config.tokens // 8), functools.partial(_of_tokens, config))
    yield Law("draws", tuple(sizes), functools.partial(_of_images, config, EXAMPLES))
    yield Law("examples", tuple(EXAMPLES * sizes), lambda size: _of_images(config, size, 1))


def measure(law: Law, repeats: int) -> dict[str, Any]:
    """Return sizes ``[s]``, seconds ``[s repeats]`` of interleaved repeats, after one that compiles, and operations."""
    made = [law.make(int(size)) for size in law.sizes]
    for run, _ in made:
        run()
    seconds = np.empty((len(made), repeats))
    for repeat in range(repeats):
        for row, (run, _) in enumerate(made):
            start = time.perf_counter()
            run()
            seconds[row, repeat] = time.perf_counter() - start
    operations = np.asarray([count for _, count in made], float)
    return {"sizes": np.asarray(law.sizes), "seconds": seconds, "operations": operations}


def row(name: str, times: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the exponent of time with its standard error, and that of operations.

    They are slopes of least-squares lines through logarithms, for time through all repeats.
    """
    sizes, seconds = np.log(times["sizes"]), np.log(times["seconds"])
    fit = stats.linregress(np.repeat(sizes, seconds.shape[1]), seconds.ravel())
    expected = stats.linregress(sizes, np.log(times["operations"]))
    return {
        "grows": name, "from": int(times["sizes"][0]), "to": int(times["sizes"][-1]),
        "seconds_from": float(np.median(times["seconds"][0])), "seconds_to": float(np.median(times["seconds"][-1])),
        "exponent": float(fit.slope), "exponent_sem": float(fit.stderr), "expected": float(expected.slope),
    }  # fmt: skip


def lines(table: list[dict[str, Any]]) -> list[str]:
    """Return the rows as lines of text."""
    return [
        f"time grows as {row['grows']}^{row['exponent']:.2f} (standard error {row['exponent_sem']:.2f}; operations "
        f"^{row['expected']:.2f}) from {row['from']} to {row['to']}: {row['seconds_from']:.3g} s to "
        f"{row['seconds_to']:.3g} s"
        for row in table
    ]


def _of_bits(config: Config, length: int) -> tuple[Callable[[], object], float]:
    module = recognizers.Config(depth=2, heads=4, head_size=32 if config.variant == "paper" else 4)
    variables = recognizers.init(module, jax.random.key(config.seed), "xavier_normal")
    strings = np.asarray(boolean.strings.uniform(jax.random.key(config.seed), EXAMPLES, length))
    substitute = models.substitution.recognizer(module, config.rows[0])
    profile = boolean.sensitivity_profile(substitute, execution=Execution(chunk=length + 1))
    run = functools.partial(profile, jax.random.key(0), variables, strings)
    return run, EXAMPLES * flops.count(substitute, variables, strings[0], strings[0]).operations


def _of_tokens(config: Config, length: int) -> tuple[Callable[[], object], float]:
    width = config.text_width // 2
    sizes = {"width": width, "depth": 2, "heads": 6, "hidden": 4 * width}
    module = bert.Bert(bert.Config(**sizes, vocabulary=100, positions=512))
    variables = encoder.init(module, jax.random.key(config.seed))
    ids = np.random.default_rng(config.seed).integers(0, 100, (EXAMPLES, length)).astype(np.int32)
    return _changes(models.substitution.encoder(module, config.rows[0]), reverse, variables, ids, 1)


def _of_images(config: Config, examples: int, draws: int) -> tuple[Callable[[], object], float]:
    module = models.build("vit", "small", image_shape=(config.side, config.side, 3), classes=10, patch=4)
    variables = models.init(module, jax.random.key(config.seed))
    shape = (examples, *module.config.token_shape)
    tokens = np.random.default_rng(config.seed).normal(size=shape).astype(np.float32)
    substitute = substitution.one_at_a_time(models.evaluation(module), config.rows[0])
    # Noise, since equal draws would be computed once.
    return _changes(substitute, perturb.gaussian(1.0), variables, tokens, draws)


def _changes(
    substitute: Substitute, perturbation: Perturbation, variables: PyTree, tokens: np.ndarray, draws: int
) -> tuple[Callable[[], object], float]:
    measure = token.token_sensitivity(
        substitute,
        perturbation,
        change=changes.absolute_change,
        draws=draws,
        execution=Execution(chunk=tokens.shape[1] + 1),
    )
    operations = len(tokens) * draws * flops.count(substitute, variables, tokens[0], tokens[0]).operations
    return functools.partial(measure, jax.random.key(0), variables, tokens), operations
