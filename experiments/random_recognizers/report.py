"""What ``experiments.random_recognizers`` says of its results: tables, figures, and verdicts on the paper's claims."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from experiments import harness
from jaxsens import plots
from jaxsens.statistics import estimate
from jaxsens.statistics.estimate import Estimate
from jaxsens.typing import Array

if TYPE_CHECKING:
    from experiments.random_recognizers.experiment import Config, Model

Results = Sequence[tuple["Model", Mapping[str, Array]]]
"""The models, and what was measured of each."""

COMPARED = ("transformer", "lstm", "mlp")

LIMIT = 1 - 1 / math.e
"""The probability of a string of sensitivity 0 in a random function of many bits: that of Poisson(1) not being 0."""

SAME = 0.1
"""How much the share of strings of sensitivity 0 may differ for a reading of F.1 to count as immaterial."""

PUBLISHED = "figure: 'heavily skewed toward zero', 'the vast majority of strings have sensitivity 0 or close to 0'"


def write(run: harness.Run, config: "Config", results: Results, control: Mapping[int, Mapping[str, Array]]) -> None:
    """Write all tables and figures of a run, and print the table of initialisations."""
    groups: dict[tuple[str, str], list[tuple[Model, Mapping[str, Array]]]] = {}
    for model, found in results:
        groups.setdefault((model.kind, model.scheme), []).append((model, found))
    for group in groups.values():
        group.sort(key=lambda pair: (pair[0].dataset, pair[0].number))
    ordered = [(kind, scheme) for kind in dict.fromkeys(k for k, _ in groups) for scheme in config.schemes]
    ordered = sorted((key for key in ordered if key in groups), key=lambda key: _rank(key[0]))
    run.table(
        "models", [_model_row(config, *pair) for key in ordered for pair in groups[key]], allow_nonfinite=["error"]
    )
    run.table(
        "spectra", [row for key in ordered if key[0] in COMPARED for row in _spectrum_rows(config, key, groups[key])]
    )
    summary = [_scheme_row(config, key, groups[key]) for key in ordered]
    run.table("schemes", summary)
    choices = [_choice_row(config, key, groups) for key in ordered if key[0] not in COMPARED]
    if choices:
        run.table("choices", choices)
    if config.screened:
        run.table("screening", [screening_row(*key, [found for _, found in groups[key]]) for key in ordered])
    rates = {length: estimate.from_values(found["zeros"] > 0) for length, found in control.items()}
    run.table("control", [_control_row(length, control[length]["zeros"], rates[length]) for length in control])
    claims = [*_spectrum_claims(config, groups), *_choice_claims(choices), *_control_claims(control, rates)]
    run.comparison(claims)
    _figures(run, config, groups, rates)
    shown = {"kind": "model", "scheme": "weights", "models": "models", "strings": "strings"}
    shown |= {
        "average": "average s / n",
        "zero": "share s = 0",
        "low": "share s <= n/20",
        "altered": "altered by float64",
    }
    rows = [row | {name: _triple(row, name) for name in ("average", "zero", "low", "altered")} for row in summary]
    print(harness.format_table(rows, shown))


def _rank(kind: str) -> int:
    return COMPARED.index(kind) if kind in COMPARED else len(COMPARED)


def _triple(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    return tuple(row[f"{name}_{part}"] for part in ("mean", "low", "high"))


def _over_models(config: "Config", group: Sequence[tuple["Model", Mapping[str, Array]]], quantity: str) -> Estimate:
    """Estimate a quantity over models, each of which is first averaged over its strings."""
    return estimate.from_values([_of_model(config, found, quantity) for _, found in group], rate=True)


def _of_model(config: "Config", found: Mapping[str, Array], quantity: str) -> float:
    sensitivities = found["sensitivities"]
    if quantity == "average":
        return float(sensitivities.mean() / config.length)
    if quantity == "altered":
        return float(found["altered"])
    return float(np.mean(sensitivities <= (0 if quantity == "zero" else config.length // 20)))


def _model_row(config: "Config", model: "Model", found: Mapping[str, Array]) -> dict[str, Any]:
    sensitivities, sizes = found["sensitivities"], model.architecture
    average = estimate.from_values(sensitivities)
    return {
        "kind": model.kind, "scheme": model.scheme, "dataset": model.dataset, "number": model.number,
        "layers": sizes.layers, "heads": sizes.heads, "head_size": sizes.head_size, "multiplier": sizes.multiplier,
        "parameters": int(found["parameters"]), "strings": len(sensitivities),
        "average_sensitivity": float(average.mean), "sem": float(average.sem) if len(sensitivities) > 1 else None,
        "share_zero": _of_model(config, found, "zero"), "largest": int(sensitivities.max()),
        "accepted": float(found["accepted"]), "audited_strings": int(found["audited"]),
        "altered_by_float64": float(found["altered"]), "error": float(found["error"]),
    }  # fmt: skip


def screening_row(kind: str, scheme: str, group: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """Return how many decisions float32 was asked for, and how many of the audited ones it altered."""
    total, redone, audited, disagreed = np.sum([found["screening"] for found in group], 0).tolist()
    wrong = estimate.clopper_pearson(np.asarray([disagreed]), audited)[1].item() if audited else None
    return {
        "kind": kind, "scheme": scheme, "decisions": total, "redone": redone, "redone_share": redone / total,
        "audited": audited, "disagreed": disagreed, "wrong_at_most": wrong,
    }  # fmt: skip


def _shares(config: "Config", group: Sequence, width: int = 1) -> tuple[np.ndarray, ...]:
    """Return shares of strings by sensitivity: mean over models and ends of its 95 % interval, each ``[bins]``.

    The first bin is sensitivity 0; the others hold ``width`` each, as many as reach n.
    """
    bins = _middles(config, width)
    each = [np.bincount(-(-found["sensitivities"] // width), minlength=len(bins)) for _, found in group]
    each = np.stack([counts / counts.sum() for counts in each])
    ends = np.asarray([estimate.from_values(column, rate=True).interval() for column in each.T])
    return each.mean(0), *ends.reshape(len(bins), 2).T


def _middles(config: "Config", width: int) -> np.ndarray:
    rest = np.arange(-(-config.length // width)) * width + (1 + width) / 2
    return np.append(0, rest)


def _spectrum_rows(config: "Config", key: tuple[str, str], group: Sequence) -> list[dict[str, Any]]:
    kind, scheme = key
    columns = zip(*_shares(config, group), strict=True)
    return [
        {
            "kind": kind,
            "scheme": scheme,
            "sensitivity": s,
            "share": float(share),
            "low": float(low),
            "high": float(high),
        }
        for s, (share, low, high) in enumerate(columns)
    ]


def _scheme_row(config: "Config", key: tuple[str, str], group: Sequence) -> dict[str, Any]:
    strings = [len(found["sensitivities"]) for _, found in group]
    row = {"kind": key[0], "scheme": key[1], "models": len(group), "strings": sum(strings), "fewest": min(strings)}
    for name in ("average", "zero", "low", "altered"):
        row |= harness.cells(_over_models(config, group, name), f"{name}_")
    return row


def _choice_row(config: "Config", key: tuple[str, str], groups: Mapping[tuple[str, str], Sequence]) -> dict[str, Any]:
    """Compare another reading of F.1 with the default, on the same architectures, strings and random numbers."""
    kind, scheme = key
    row = {"choice": kind, "scheme": scheme, "models": len(groups[key])}
    for name in ("average", "zero"):
        own, default = (
            np.asarray([_of_model(config, found, name) for _, found in groups[k]]) for k in (key, ("default", scheme))
        )
        row |= harness.cells(estimate.from_values(own, rate=True), f"{name}_")
        row |= harness.cells(estimate.from_values(own - default, rate=False), f"{name}_minus_default_")
    return row


def _control_row(length: int, zeros: np.ndarray, rate: Estimate) -> dict[str, Any]:
    row = {"length": length, "functions": len(zeros), "exact": length <= 4, "mean_zeros": float(zeros.mean())}
    low, high = (float(rate.mean),) * 2 if length <= 4 else (float(end) for end in rate.interval())
    return row | {"share_with_zero": float(rate.mean), "low": low, "high": high, "limit": LIMIT}


def _spectrum_claims(config: "Config", groups: Mapping[tuple[str, str], Sequence]) -> list[harness.Claim]:
    claims = []
    few = config.length // 20
    for (kind, scheme), group in groups.items():
        if kind not in COMPARED:
            continue
        for name, words, share in (("zero", "0", 0.5), ("low", f"at most {few}", 0.9)):
            found = _over_models(config, group, name)
            low, high = (float(end) for end in found.interval())
            judged = kind == "transformer"
            claims.append(
                harness.Claim(
                    "C20", f"{kind}, {scheme}: share of strings of sensitivity {words} of {config.length}",
                    PUBLISHED if kind == "transformer" else None, "Figs. 3 (left) and 4, App. F.1",
                    float(found.mean), float(found.sem) if np.isfinite(found.sem) else None, low, high,
                    harness.verdict((low, high), seeds=found.count, above=share) if judged else "",
                    f"{len(group)} models, given the strings; held above {share}; random functions: 2^-{config.length}",
                )
            )  # fmt: skip
    return claims


def _choice_claims(choices: Sequence[Mapping[str, Any]]) -> list[harness.Claim]:
    claims = []
    for row in choices:
        mean, sem, low, high = (row[f"zero_minus_default_{part}"] for part in ("mean", "sem", "low", "high"))
        if row["choice"] == "default" or low is None:
            continue
        claims.append(
            harness.Claim(
                "F.1", f"share of strings of sensitivity 0, {row['choice']} minus default, {row['scheme']}",
                "left open, hence 0", "App. F.1", mean, sem, low, high,
                harness.verdict((low, high), seeds=row["models"], within=(-SAME, SAME)),
                f"{row['models']} pairs of models; held within {SAME}",
            )
        )  # fmt: skip
    return claims


def _control_claims(control: Mapping[int, Mapping[str, Array]], rates: Mapping[int, Estimate]) -> list[harness.Claim]:
    claims = []
    for length in control:
        row = _control_row(length, control[length]["zeros"], rates[length])
        judged = ""
        if length == max(control) and length > 4:
            judged = harness.verdict((row["low"], row["high"]), seeds=None, within=(LIMIT - 0.02, LIMIT + 0.02))
        claims.append(
            harness.Claim(
                "C25", f"share of random functions of {length} bits with a string of sensitivity 0", LIMIT, "s.7",
                row["share_with_zero"], None if row["exact"] else float(rates[length].sem), row["low"], row["high"],
                judged,
                "all functions" if row["exact"] else f"{row['functions']} random functions; held within .02",
            )
        )  # fmt: skip
    return claims


def _figures(
    run: harness.Run, config: "Config", groups: Mapping[tuple[str, str], Sequence], rates: Mapping[int, Estimate]
) -> None:
    strings = f"random strings of {config.length} bits"
    counted = {kind: len(groups[kind, config.schemes[0]]) for kind in COMPARED if (kind, config.schemes[0]) in groups}
    sample = ", ".join(f"{count} of {kind}" for kind, count in counted.items()) + " for each initialisation"

    def panels(what: Any) -> dict[str, dict[str, Any]]:
        return {s: {kind: what(groups[kind, s]) for kind in counted if (kind, s) in groups} for s in config.schemes}

    width = max(1, config.length // 20)
    binomial = np.bincount(
        -(-np.arange(config.length + 1) // width), stats.binom.pmf(np.arange(config.length + 1), config.length, 0.5)
    )
    run.figure(
        "spectra",
        plots.spectra(
            panels(lambda group: _shares(config, group, width)), at=_middles(config, width), dataset=strings,
            sample=f"{sample}; sensitivity 0, then bins of {width}",
            reference=("random function: binomial(n, 1/2)", binomial),
        ),
    )  # fmt: skip
    averages = panels(lambda group: [config.length * _of_model(config, found, "average") for _, found in group])
    run.figure(
        "average_sensitivity",
        plots.survival(averages, dataset=strings, sample=sample, quantity="average sensitivity (bits)", smallest=0.01),
    )
    readings = {s: {kind: group for (kind, scheme), group in groups.items() if scheme == s} for s in config.schemes}
    readings = {s: {k: g for k, g in found.items() if k not in COMPARED} for s, found in readings.items()}
    if all(readings.values()):
        shown = {
            s: {k: _interval(_over_models(config, g, "zero")) for k, g in kinds.items()}
            for s, kinds in readings.items()
        }
        run.figure(
            "choices",
            plots.dots(
                shown, dataset=strings, sample=f"{len(readings[config.schemes[0]]['default'])} models each",
                heading="Other readings of F.1", quantity="share of strings of sensitivity 0",
            ),
        )  # fmt: skip
    exact = {length: (float(rate.mean),) * 3 if length <= 4 else _interval(rate) for length, rate in rates.items()}
    run.figure(
        "control",
        plots.rate_by_length(
            list(exact), list(exact.values()), limit=("1 - 1/e", LIMIT), dataset="all functions to 4 bits",
            sample=f"{config.control_functions} beyond", quantity="share with a string of sensitivity 0",
        ),
    )  # fmt: skip


def _interval(found: Estimate) -> tuple[float, float, float]:
    low, high = found.interval()
    return float(found.mean), float(low), float(high)
