"""Compare screened sensitivity with float32 throughout, at equal answers, in CPU seconds or on a device.

    python -m experiments.benchmark.micro.screening [--out FILE.json] [--cases recognizer,vit,minilm] [--examples 96]
        [--minilm FOLDER] [--seed 0]

A recognizer of width 64, a small ViT and MiniLM (its folder as for experiments.token_shifts) are screened in the
default precision of the device, and the last two in bfloat16. On a CPU the seconds are those of all its threads, so
that other programs do not count. It stops if screening gives another answer for any decision.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsens import boolean, models, perturb, substitution
from jaxsens.execution import Execution
from jaxsens.models import pretrained, recognizers
from jaxsens.sensitivity import screened_token_sensitivity, token_sensitivity
from jaxsens.typing import PyTree

Way = tuple[str, Callable[..., Any], PyTree, np.ndarray]
"""How it is screened, or ``"float32"``; the measure, the variables and the examples."""

TOKENS = 12


def recognizer(options: argparse.Namespace) -> Iterator[Way]:
    """Yield a recognizer with half of its work shared, on strings of 32 bits."""
    config = recognizers.Config(depth=2, heads=2, head_size=32, multiplier=2)
    variables = recognizers.init(config, jax.random.key(options.seed), "xavier_normal")
    substitute, execution = models.substitution.recognizer(config, 4), Execution(chunk=33)
    strings = np.random.default_rng(options.seed).integers(0, 2, (options.examples, 32)).astype(np.int32)
    yield "float32", boolean.sensitivity_profile(substitute, execution=execution), variables, strings
    screen = boolean.screened_sensitivity_profile(substitute, execution=execution, audit=100)
    yield "default precision", screen, variables, strings


def vit(options: argparse.Namespace) -> Iterator[Way]:
    """Yield a small ViT on random images."""
    module = models.build("vit", "small", image_shape=(16, 16, 1), classes=10, patch=4)
    shape = (options.examples, *module.config.token_shape)
    images = np.random.default_rng(options.seed).normal(size=shape).astype(np.float32)
    yield from _ways(module, models.init(module, jax.random.key(options.seed)), images, perturb.gaussian(1.0))


def minilm(options: argparse.Namespace) -> Iterator[Way]:
    """Yield MiniLM on random ids."""
    loaded = pretrained.load(options.minilm)
    vocabulary = loaded.module.config.vocabulary
    ids = np.random.default_rng(options.seed).integers(0, vocabulary, (options.examples, TOKENS)).astype(np.int32)
    yield from _ways(loaded.module, loaded.variables, ids, perturb.replace_uniform(vocabulary))


CASES = {"recognizer": recognizer, "vit": vit, "minilm": minilm}


def _ways(module: Any, variables: PyTree, tokens: np.ndarray, perturbation: Any) -> Iterator[Way]:
    execution = Execution(chunk=256)
    narrow = type(module)(dataclasses.replace(module.config, dtype="bfloat16"))
    substitute, low = (substitution.one_at_a_time(models.evaluation(one)) for one in (module, narrow))
    yield "float32", token_sensitivity(substitute, perturbation, execution=execution), variables, tokens
    for name, screen in (("default precision", None), ("bfloat16", low)):
        screened = screened_token_sensitivity(
            substitute, perturbation, screen=screen, calibration=8, audit=50, execution=execution
        )
        yield name, screened, variables, tokens


def seconds_of(way: Way, seed: int) -> tuple[float, Any]:
    """Return the seconds of the faster of two calls that compile nothing, and the result."""
    _, measure, *arguments = way
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    spent = []
    for _ in range(3):
        start = clock()
        result = measure(jax.random.key(seed), *arguments)
        spent.append(clock() - start)
    return min(spent[1:]), result


def main() -> None:
    """Measure all cases, print a line for each way, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="path of the JSON")
    parser.add_argument("--cases", default="recognizer,vit", help=f"of {', '.join(CASES)}")
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--minilm", type=Path, help="folder of MiniLM")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for case in options.cases.split(","):
        if case not in CASES or (case == "minilm" and options.minilm is None):
            parser.error(f"--cases must be of {', '.join(CASES)}, and minilm needs --minilm FOLDER, got {case}")
        full, answer = None, None
        for way in CASES[case](options):
            seconds, result = seconds_of(way, options.seed)
            changed = _decisions(getattr(result, "measured", result))
            full, answer = (seconds, changed) if full is None else (full, answer)
            if not np.array_equal(changed, answer):
                raise SystemExit(f"{case}, {way[0]}: screening gives another answer")
            redone = result.screening.redone / result.screening.total if hasattr(result, "screening") else 0.0
            rows.append({"case": case, "way": way[0], "seconds": seconds, "ratio": full / seconds, "redone": redone})
            print(
                f"{case:12} {way[0]:18} {seconds:8.3f} s, ratio {full / seconds:.2f}, redone {redone:.0%}", flush=True
            )
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


def _decisions(result: Any) -> np.ndarray:
    return result.flips if hasattr(result, "flips") else result.changes


if __name__ == "__main__":
    main()
