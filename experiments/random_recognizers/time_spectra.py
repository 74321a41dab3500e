"""Extrapolate the time of the spectra of Fig. 3 (left) of Kövér et al. on this machine, in float32 and screened.

    python -m experiments.random_recognizers.time_spectra [--out FILE.json] [--share 0.02] [--strings 10000]
        [--rows 4] [--chunk 4040] [--schemes xavier_uniform,xavier_normal] [--seed 0]

The figure takes 500 transformers of F.1's mix for each initialization, on 10,000 strings of length 100 with their 100
neighbors. A random sample of those models (``--share``) is measured as ``random_recognizers --preset paper`` measures
them, without its audits, first with and then without screening. The time of all models is extrapolated by operations:
the seconds of the sample times the operations of all models over those of the sample, with a standard error over the
sampled models. Compilation is reported separately; ``--strings`` takes fewer strings of each model. It stops if
screening gives a different spectrum for any model. Writes JSON after every initialization and prints a short table.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness.compiling import Compiling
from experiments.random_recognizers import experiment
from jaxsens.execution import backends
from jaxsens.models import substitution

WHOLE = experiment.PRESETS["paper"]
"""The setting of the figure: 10,000 strings of 500 models for each initialization."""

SCREENING = ("total", "redone", "audited", "disagreed")
"""Entries of a model's ``screening``."""


def operations(config: experiment.Config, model: Any) -> tuple[int, int]:
    """Return the operations of a string: of plain and of shared evaluation."""
    sizes = model.architecture
    return substitution.recognizer_operations(sizes.config(config.epsilon), sizes.layers, config.length)


def extrapolated(seconds: np.ndarray, costs: np.ndarray, total: float) -> tuple[float, float]:
    """Return the seconds of all models and their standard error, from those of a sample ``[m]``.

    The ratio estimator ``total sum s / sum c``, whose error is that of the residuals ``s - c sum s / sum c``.
    """
    ratio = seconds.sum() / costs.sum()
    residuals = seconds - ratio * costs
    error = math.sqrt(len(costs) * residuals.var(ddof=1)) / costs.sum() if len(costs) > 1 else math.nan
    return total * ratio, total * error


def measured(config: experiment.Config, model: Any, compiling: Compiling) -> tuple[dict[str, Any], float, float]:
    """Return the results of a model, its seconds without compilation, and the seconds of compilation."""
    before, start = compiling.seconds, time.perf_counter()
    results = experiment.measure(config, model)
    spent = compiling.seconds - before
    return results, time.perf_counter() - start - spent, spent


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="path of the JSON")
    parser.add_argument("--share", type=float, default=0.02, help="share of the models")
    parser.add_argument(
        "--strings",
        type=int,
        default=WHOLE.strings,
        help="strings of each model; fewer bias the time of screening upward",
    )
    parser.add_argument("--rows", type=int, help="substitutions in a block; by default as the experiment")
    parser.add_argument("--chunk", type=int, help="model forwards computed together; by default as the experiment")
    parser.add_argument("--schemes", default=",".join(WHOLE.schemes), help="initializations")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.schemes = options.schemes.split(",")
    if not 0 < options.share <= 1:
        parser.error(f"--share must be above 0 and at most 1, got {options.share}")
    if not 1 <= options.strings <= WHOLE.strings:
        parser.error(f"--strings must be between 1 and {WHOLE.strings}, got {options.strings}")
    if unknown := sorted(set(options.schemes) - set(WHOLE.schemes)):
        parser.error(f"--schemes must be some of {', '.join(WHOLE.schemes)}, got {', '.join(unknown)}")
    if options.out and not options.out.resolve().parent.is_dir():
        parser.error(f"--out must be in an existing folder, got {options.out}")
    return options


def main() -> None:
    """Measure a sample of the models of every initialization."""
    options, compiling = arguments(), Compiling()
    compiling.start()
    config = dataclasses.replace(
        WHOLE, strings=options.strings, rows=options.rows, chunk=options.chunk, audit=0, baselines=0, choices=0,
        seed=options.seed,
    )  # fmt: skip
    if options.strings < WHOLE.strings:
        print("fewer strings: preparation, calibration and audit take the same time, which biases the hours upward")
    print(
        f"{'weights':15} {'precision':9} {'models':>6} {'hours of all':>18} {'compiling':>10}  redone, audited, wrong"
    )
    draws, results = np.random.default_rng(options.seed), []
    for scheme in options.schemes:
        models = [model for model in experiment.models(config) if model.scheme == scheme]
        chosen = draws.choice(len(models), math.ceil(options.share * len(models)), replace=False)
        spectra = []
        for screened in (True, False):
            setting = dataclasses.replace(config, screened=screened)
            sample, *times = zip(*(measured(setting, models[i], compiling) for i in chosen), strict=True)
            spectra.append([each["sensitivities"] for each in sample])
            results.append(row(setting, models, chosen, sample, *times))
        wrong = [models[i].name for i, *both in zip(chosen, *spectra, strict=True) if (both[0] != both[1]).any()]
        results[-2]["wrong_spectra"] = wrong
        if options.out:  # after every scheme, so that nothing is lost
            device = backends.describe_devices() | {"jax": jax.__version__}
            settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()}
            options.out.write_text(
                json.dumps({"device": device, "settings": settings, "results": results}, indent=1) + "\n"
            )
        if wrong:
            raise SystemExit(f"screening gives another spectrum for {', '.join(wrong)}: its bound is too small")


def row(
    config: experiment.Config,
    models: list[Any],
    chosen: np.ndarray,
    sample: Sequence[dict[str, Any]],
    seconds: Sequence[float],
    compiling: Sequence[float],
) -> dict[str, Any]:
    """Return, and print, the time of all models from that of those that were ``chosen``."""
    costs = np.asarray([operations(config, model) for model in models], float)
    shared, scale = costs[:, 1], WHOLE.strings / config.strings
    hours, error = (scale * t / 3600 for t in extrapolated(np.asarray(seconds), shared[chosen], shared.sum()))
    result = {
        "scheme": models[0].scheme, "screened": config.screened, "models": len(chosen), "of": len(models),
        "strings": config.strings, "operations_share": shared[chosen].sum() / shared.sum() / scale,
        "seconds": list(seconds), "compiling_seconds": sum(compiling), "hours_of_all": hours,
        "hours_of_all_error": None if math.isnan(error) else error,
        "plain_operations_of_all": costs[:, 0].sum() * WHOLE.strings,
    }  # fmt: skip
    shares = ""
    if config.screened:
        result |= dict(zip(SCREENING, np.sum([each["screening"] for each in sample], 0).tolist(), strict=True))
        shares = f"{result['redone'] / result['total']:.1%}, {result['audited']:,}, {result['disagreed']}"
    print(
        f"{models[0].scheme:15} {'screened' if config.screened else 'float32':9} {len(chosen):6} "
        f"{hours:9.3g} ± {error:<6.2g}{sum(compiling):9.0f} s  {shares}",
        flush=True,
    )
    return result


if __name__ == "__main__":
    main()
