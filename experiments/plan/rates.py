"""The rates at which work is computed: estimated for an H100, or measured by the benchmark of an accelerator."""

import json
from collections.abc import Mapping
from pathlib import Path

from experiments.harness.work import Work

__all__ = ["CEILING", "ESTIMATED", "hours", "measured"]

CEILING = 60e12
"""Operations a second of products in float32 on an H100, as assumed by ``ESTIMATED``; its data sheet has 67e12."""

ESTIMATED = {
    "recognizers": 0.47, "image models": 0.4, "text models": 0.4, "training": 0.2, "training of many": 0.04,
    "small models": 0.1, "float64": 0.05,
}  # fmt: skip
"""The share of ``CEILING`` that each kind of work is taken to reach: estimates, of which none was measured.

Kernels of programs compiled for an H100 were counted, and each given the longest of its products at the ceiling, its
traffic at 3.0 TB/s, and 3 us for its launch. Recognizers of width 128 with shared layers reach 0.21, and 2.26 times
that with larger chunks; the ViT 0.41, the CNN 0.42, the ConvMixer 0.53, BERT-base 0.9 when evaluated plainly, and text
models here are smaller. Training one small model is 93 % launches, and 50 at once train at three times its rate: 0.04
is three times 0.07 of 0.2. Training of other models was not compiled: 0.2 is half of what evaluation reaches. Those of
models of width 16 to 64, where other work than products dominates, and of float64 are guesses.
"""

_CASES = {
    "a. encoder": "text models", "b. recognizer": "recognizers", "c. ": "image models", "d. vit": "image models",
    "f. resnet": "image models", "e. fit_many": "training of many",
}  # fmt: skip
"""The kind of work of a case of the benchmark of an accelerator, by what its name begins with."""


def hours(work: Work, rates: Mapping[str, float]) -> float:
    """Return the hours that a work takes, at rates in operations a second by kind."""
    return work.operations / rates[work.kind] / 3600


def measured(path: Path) -> dict[str, float]:
    """Return the rates by kind, in operations a second, that ``scripts/prove_on_accelerator`` measured in float32.

    Of each case the fastest way of this library counts; of several cases of a kind, all operations over all seconds.

    Raises:
        ValueError: If the file is none of its results, or has no such case.
    """
    try:
        rows = json.loads(path.read_bytes())["timings"]
        best: dict[str, tuple[float, float]] = {}
        for row in rows:
            if (row["by"], row["precision"]) != ("jaxsens", "float32") or not row["operations"]:
                continue
            timing = float(row["operations"]), float(row["ms"]) / 1e3
            best[row["case"]] = max(timing, best.get(row["case"], timing), key=lambda pair: -pair[1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' is no file of scripts/prove_on_accelerator ({error})") from error
    totals: dict[str, tuple[float, float]] = {}
    for case, (operations, seconds) in best.items():
        for begin, kind in _CASES.items():
            if case.startswith(begin):
                before = totals.get(kind, (0.0, 0.0))
                totals[kind] = before[0] + operations, before[1] + seconds
    if not totals:
        raise ValueError(f"'{path}' has no case of {', '.join(_CASES)}: run scripts/prove_on_accelerator on a device")
    return {kind: operations / seconds for kind, (operations, seconds) in totals.items()}
