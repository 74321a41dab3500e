"""The figures of ``experiments.trained_recognizers``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.trained_recognizers.config import PLAIN, SPARSE, Config, Kind
from experiments.trained_recognizers.estimates import LEARNED, Result, average_sensitivity, in_bits, over, strings_of
from experiments.trained_recognizers.learned_spectra import learned_spectra
from jaxsens import plots

Groups = Mapping[Kind, Sequence[Result]]
Rows = Mapping[Kind, Sequence[Mapping[str, Any]]]

WHEN = {"after": "after training", "before": "before training"}


def write(run: harness.Run, config: Config, groups: Groups, curves: Rows, rates: Rows) -> None:
    """Draw all figures of a run."""
    for name, families in (("", PLAIN), *((f"_{family}", (family,)) for family in SPARSE), ("_random", ("random",))):
        chosen = {kind: group for kind, group in groups.items() if kind.family in families}
        if chosen:
            run.figure(f"spectra{name}", _spectra(config, chosen))
    run.figure("average_sensitivity", _averages(config, groups))
    run.figure("models", _models(config, groups))
    for random, name in ((False, "training"), (True, "training_random")):
        chosen = {kind: rows for kind, rows in curves.items() if kind.random == random}
        figure = _training(chosen, config) if chosen else None
        if figure is not None:
            run.figure(name, figure)
    run.figure("learning_rates", _learning_rates(config, groups, rates))


def _sample(groups: Groups) -> str:
    counts = sorted({len(group) for group in groups.values()})
    return f"{' or '.join(map(str, counts))} models of each kind" if counts else ""


def _title(kind: Kind) -> str:
    words = kind.name.removeprefix("random_").replace("_", " ")
    return f"random labels, {words}" if kind.random else words


def _spectra(config: Config, groups: Groups) -> Any:
    (n,) = {kind.n for kind in groups}
    panels = {}
    for kind, group in groups.items():
        label = "expected of random functions" if kind.random else "exact"
        lines = {label: (kind.exact,) * 3}
        for when, words in WHEN.items():
            columns = [over(group, lambda r, s=s, w=when: float(r.shares(w)[s]), rate=True) for s in range(n + 1)]
            if None not in columns:
                ends = np.array([found.interval() for found in columns])
                lines[words] = (np.array([float(found.mean) for found in columns]), ends[:, 0], ends[:, 1])
        panels[_title(kind)] = lines
    return learned_spectra(
        panels, dataset=f"{config.profile_strings} random strings of {n} bits", sample=_sample(groups)
    )


def _averages(config: Config, groups: Groups) -> Any:
    panels = {}
    for kind, group in groups.items():
        rows = {"expected" if kind.random else "exact": (kind.average,) * 3}
        for when, words in WHEN.items():
            found = in_bits(average_sensitivity(group, when), kind.n)
            if None not in (found["low"], found["high"]):
                rows[words] = (found["mean"], found["low"], found["high"])
        panels[f"{_title(kind)} (N = {kind.n})"] = rows
    return plots.dots(
        panels, dataset=f"{config.profile_strings} random strings", sample=_sample(groups),
        heading="Average sensitivity", quantity="average sensitivity (bits)",
    )  # fmt: skip


def _models(config: Config, groups: Groups) -> Any:
    panels = {}
    for kind, group in groups.items():
        values = {words: [r.average(when) for r in group] for when, words in WHEN.items()}
        values = {words: [v for v in found if np.isfinite(v)] for words, found in values.items()}
        panels[f"{_title(kind)} ({'random functions' if kind.random else 'exact'}: {kind.average:.3g})"] = {
            w: found for w, found in values.items() if found
        }
    return plots.survival(
        {panel: lines for panel, lines in panels.items() if lines}, dataset=f"{config.profile_strings} random strings",
        sample=_sample(groups), quantity="average sensitivity (bits)", smallest=0.01,
    )  # fmt: skip


def _training(curves: Rows, config: Config) -> Any:
    """Draw average sensitivity by epoch, in bits and over the exact one; a column for each family or initialisation."""
    bits, relative = "average sensitivity\n(bits)", "average sensitivity\nover the exact one"
    rows: dict[str, dict[str, dict[str, plots.Curve]]] = {bits: {}, relative: {}}
    references: dict[str, dict[str, tuple[str, float]]] = {bits: {}, relative: {}}
    for kind, points in curves.items():
        names = ("average_mean", "average_low", "average_high")
        known = [row for row in points if None not in [row[name] for name in names]]
        if not known:
            continue
        family = (
            _title(kind) if kind.random else "all positions" if kind.family in PLAIN else kind.family.replace("_", " ")
        )
        label = "models" if kind.random else f"m = {kind.sparsity}" if kind.sparsity else kind.name
        epochs, *columns = (np.array([row[name] for row in known]) for name in ("epoch", *names))
        rows[bits].setdefault(family, {})[label] = (epochs, *columns)
        if kind.random:
            references[bits][family] = ("random functions", kind.average)
        else:
            rows[relative].setdefault(family, {})[label] = (epochs, *(column / kind.average for column in columns))
            references[relative][family] = ("exact", 1.0)
    (n,) = {kind.n for kind in curves}
    rows, references = ({name: panels for name, panels in both.items() if panels} for both in (rows, references))
    return None if not rows else plots.curve_grid(
        rows, heading="Average sensitivity during training", references=references,
        dataset=f"{config.checkpoint_strings} random strings of {n} bits", sample=_models_each(curves),
    )  # fmt: skip


def _models_each(curves: Rows) -> str:
    return " or ".join(map(str, sorted({rows[0]["models"] for rows in curves.values()}))) + " models each"


def _learning_rates(config: Config, groups: Groups, rates: Rows) -> Any:
    panels = {
        _title(kind): {
            f"{_short(row['rate_from'])} to {_short(row['rate_to'])} ({row['models']})": tuple(
                row[f"learned_share{end}"] for end in ("", "_low", "_high")
            )
            for row in rates[kind]
        }
        for kind in groups
    }
    tested = {strings_of(config, kind) for kind in groups}
    dataset = f"at least {LEARNED:.0%} right of {' or '.join(sorted(tested))}"
    return plots.dots(
        panels, dataset=dataset, sample="number of models in brackets",
        heading="Languages learned, by learning rate", quantity="share of models that learned",
    )  # fmt: skip


def _short(rate: float) -> str:
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
