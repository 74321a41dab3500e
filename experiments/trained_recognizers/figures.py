"""The figures of the experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import harness
from experiments.trained_recognizers import labels
from experiments.trained_recognizers.config import PLAIN, SPARSE, Config
from experiments.trained_recognizers.estimates import LEARNED, Result, average_sensitivity, in_bits, over
from experiments.trained_recognizers.learned_spectra import learned_spectra
from experiments.trained_recognizers.models import Kind
from jaxsens import plots

Groups = Mapping[Kind, Sequence[Result]]
Rows = Mapping[Kind, Sequence[Mapping[str, Any]]]

WHEN = {"after": "after training", "before": "before training"}

LOOKS = plots.in_order(["before training", "after training"])
"""Colors and markers of models before and after training, in all figures."""

LANGUAGES = plots.in_order(["First", "Majority", "Parity", "3 bits", "5 bits", "10 bits", "models"])
"""Those of the languages, in the figures of training."""


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


def _spectra(config: Config, groups: Groups) -> Any:
    (n,) = {kind.n for kind in groups}
    panels = {}
    for kind, group in groups.items():
        label = "expected of random functions" if kind.random else "exact"
        lines = {label: (kind.exact,) * 3}
        for when, words in WHEN.items():
            columns = [over(group, lambda r, s=s, w=when: float(r.shares(w)[s]), rate=True) for s in range(n + 1)]
            if None not in columns:
                ends = np.array([column.interval() for column in columns])
                lines[words] = (np.array([float(column.mean) for column in columns]), ends[:, 0], ends[:, 1])
        panels[labels.language(kind)] = lines
    return learned_spectra(panels, dataset=labels.probed(config, n), sample=_sample(groups), looks=LOOKS)


def _averages(config: Config, groups: Groups) -> Any:
    panels = {}
    for kind, group in groups.items():
        rows = {"expected" if kind.random else "exact": (kind.average,) * 3}
        for when, words in WHEN.items():
            bits = in_bits(average_sensitivity(group, when), kind.n)
            if None not in (bits["low"], bits["high"]):
                rows[words] = (bits["mean"], bits["low"], bits["high"])
        panels[f"{labels.language(kind)} (N = {kind.n})"] = rows
    return plots.dots(
        panels, dataset=f"{config.profile_strings} strings", sample=_sample(groups),
        heading="Average sensitivity", quantity="average sensitivity (bits)", looks=LOOKS,
    )  # fmt: skip


def _models(config: Config, groups: Groups) -> Any:
    panels = {}
    for kind, group in groups.items():
        values = {words: [r.average(when) for r in group] for when, words in WHEN.items()}
        values = {words: [v for v in averages if np.isfinite(v)] for words, averages in values.items()}
        panels[f"{labels.language(kind)} ({'expected' if kind.random else 'exact'}: {kind.average:.3g})"] = {
            words: averages for words, averages in values.items() if averages
        }
    return plots.survival(
        {panel: lines for panel, lines in panels.items() if lines}, dataset=f"{config.profile_strings} strings",
        sample=_sample(groups), quantity="average sensitivity (bits)", smallest=0.01, looks=LOOKS,
    )  # fmt: skip


def _training(curves: Rows, config: Config) -> Any:
    """Draw average sensitivity by epoch, in bits and over the exact one; a column for each family or initialization."""
    bits, relative = "average sensitivity\n(bits)", "average sensitivity\nover the exact one"
    rows: dict[str, dict[str, dict[str, plots.Curve]]] = {bits: {}, relative: {}}
    references: dict[str, dict[str, tuple[str, float]]] = {bits: {}, relative: {}}
    for kind, points in curves.items():
        names = ("average_mean", "average_low", "average_high")
        measured = [row for row in points if None not in [row[name] for name in names]]
        if not measured:
            continue
        family, label = _family(kind)
        epochs, *columns = (np.array([row[name] for row in measured]) for name in ("epoch", *names))
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
        dataset=f"{config.checkpoint_strings} strings of {n} bits", sample=_models_each(curves), looks=LANGUAGES,
    )  # fmt: skip


def _family(kind: Kind) -> tuple[str, str]:
    """Return the title of the panel that a kind is drawn in, and its label there."""
    if kind.random:
        return labels.language(kind), "models"
    if kind.sparsity:
        return kind.family.replace("_", " ").capitalize(), f"{kind.sparsity} bits"
    return "All positions", labels.language(kind)


def _models_each(curves: Rows) -> str:
    return " or ".join(map(str, sorted({rows[0]["models"] for rows in curves.values()}))) + " models each"


def _learning_rates(config: Config, groups: Groups, rates: Rows) -> Any:
    panels = {
        labels.language(kind): {
            f"{_short(row['rate_from'])} to {_short(row['rate_to'])} ({row['models']})": tuple(
                row[f"learned_share{end}"] for end in ("", "_low", "_high")
            )
            for row in rates[kind]
        }
        for kind in groups
    }
    dataset = f"right on at least {LEARNED:.0%} of {' or '.join(sorted({labels.tested(config, k) for k in groups}))}"
    return plots.dots(
        panels, dataset=dataset, sample="number of models in parentheses",
        heading="Languages learned, by learning rate", quantity="share of models that learned",
        limits=(0, 1),
    )  # fmt: skip


def _short(rate: float) -> str:
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
