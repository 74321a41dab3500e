"""Print what presets cost: ``python -m experiments.plan --help``."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.work import Work
from experiments.plan.rates import CEILING, ESTIMATED, hours, measured

__all__ = ["EXPERIMENTS", "PAPERS", "main", "work_of"]

PAPERS = {
    "Vasudeva et al.": ("vision", "flatness", "robustness", "language", "sparse_tokens", "grokking", "kernels"),
    "Conti et al.": ("token_shifts",),
    "Kövér et al.": ("random_recognizers", "recognizer_geometry", "trained_recognizers"),
    "others": ("length_and_sharpness", "simplicity_bias", "language_models"),
}
"""The experiments by the paper that they are after."""

EXPERIMENTS = tuple(name for names in PAPERS.values() for name in names)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of forwards, operations and hours."""
    parser = argparse.ArgumentParser(prog="python -m experiments.plan", description="What presets cost on one device.")
    parser.add_argument("experiments", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; by default all")
    parser.add_argument("--preset", default="paper", help="a preset of each experiment, such as smoke or laptop")
    parser.add_argument("--rate", type=float, help="operations a second, for all work")
    parser.add_argument("--measured", type=Path, help="a file of scripts/prove_on_accelerator, whose rates are used")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.experiments) - set(EXPERIMENTS)):
        parser.error(f"no such experiment: {unknown[0]}")
    if options.rate is not None and not options.rate > 0:
        parser.error(f"--rate must be above 0, got {options.rate}")
    rates = {kind: share * CEILING for kind, share in ESTIMATED.items()}
    try:
        overrides = dict.fromkeys(rates, options.rate) if options.rate else {}
        overrides = measured(options.measured) if options.measured else overrides
        works = {name: work_of(name, options.preset) for name in options.experiments or EXPERIMENTS}
    except ValueError as error:
        parser.error(str(error))
    print(_said(rates, overrides))
    _table(works, rates | overrides)


def work_of(name: str, preset: str) -> list[Work]:
    """Return the work of a preset of an experiment.

    Raises:
        ValueError: If there is no such preset, or its settings do not tell its work.
    """
    presets = importlib.import_module(f"experiments.{name}.config").PRESETS
    if preset not in presets:
        raise ValueError(f"--preset must be one of {', '.join(presets)} for {name}, got {preset}")
    return importlib.import_module(f"experiments.{name}.work").work(presets[preset])


def _said(rates: dict[str, float], known: dict[str, float]) -> str:
    """Say where the rates come from."""
    texts = [f"{kind} {rate:.2g}{' (measured)' if kind in known else ''}" for kind, rate in (rates | known).items()]
    return f"operations a second, {'others ' if known else ''}estimated for an H100: {', '.join(texts)}"


def _table(works: dict[str, list[Work]], rates: dict[str, float]) -> None:
    print(f"{'experiment':20} {'part':26} {'rate of':16} {'forwards':>9} {'operations':>10} {'hours':>9}")
    for name, parts in works.items():
        for part in parts:
            _line(name, part.part, part.kind, [part], rates)
        _line(name, "all", "", parts, rates)
    for paper, names in PAPERS.items():
        if parts := [part for name in names for part in works.get(name, [])]:
            _line(paper, "all", "", parts, rates)


def _line(name: str, part: str, kind: str, parts: list[Work], rates: dict[str, float]) -> None:
    forwards, operations = sum(one.forwards for one in parts), sum(one.operations for one in parts)
    took = f"{'<' if any(one.at_most for one in parts) else ''}{sum(hours(one, rates) for one in parts):.2f}"
    print(f"{name:20} {part:26} {kind:16} {forwards:9.3g} {operations:10.3g} {took:>9}")


if __name__ == "__main__":
    main()
