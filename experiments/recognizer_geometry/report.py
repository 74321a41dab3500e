"""What ``experiments.recognizer_geometry`` says of its results: tables, figures, verdicts on the claims."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import harness
from experiments.recognizer_geometry import counts, figures
from experiments.recognizer_geometry.claims import (
    FAINT,
    at_finite_lengths,
    claim,
    longest_verdict,
    maximum_claim,
    numbers,
    slope_verdict,
    triple,
)
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from experiments.recognizer_geometry.fits import LONGEST, decay, kept_until, line, log_slopes, require_margin
from jaxsens.statistics import estimate

if TYPE_CHECKING:
    from experiments.recognizer_geometry.config import Config

Results = dict[str, dict[tuple[Any, ...], dict[str, np.ndarray]]]
"""Section to setting to the arrays of its unit."""

QUANTITIES = ("activation_mean", "activation_max", "logit_mean", "logit_max")
"""Of influences: over the bits and strings of a model, their mean or the largest."""

DATA = "random recognizers in the paper's block"

UNBOUNDED = ("parity", "first-growing")
"""Constructions whose positions p(n) have no bound."""


def write(run: harness.Run, config: "Config", results: Results) -> None:
    """Write all tables and figures of a run, and print what became of the claims."""
    claims = [
        *_bound(run, config, results["bound"], results["margin"]),
        *_influence(run, config, results["influence"]),
        *_margins(run, config, results["margin"], results.get("margin-end", {})),
        *_blow_ups(run, config, results["blow-up"]),
        *counts.write(run, config, results["count"]),
    ]
    run.comparison(claims)
    rows = [
        {
            "claim": c.claim,
            "quantity": c.quantity,
            "measured": _shown(c),
            "published": c.published,
            "verdict": c.verdict,
        }
        for c in claims
    ]
    print("\n" + harness.format_table(rows))


def _shown(claim: harness.Claim) -> Any:
    return claim.measured if claim.low is None else (claim.measured, claim.low, claim.high)


def _bound(
    run: harness.Run, config: "Config", found: dict[tuple[Any, ...], Any], built: dict[tuple[Any, ...], Any]
) -> list[harness.Claim]:
    rows = []
    for (depth, epsilon), unit in found.items():
        largest = estimate.from_values(unit["ratio"].max(1))
        row = {"layers": depth, "epsilon": epsilon, "models": largest.count, "strings": unit["ratio"].shape[1]}
        rows.append(row | numbers(largest) | {"largest": float(unit["ratio"].max())})
    run.table("blow_up_bound", rows)
    worst = max(found, key=lambda setting: found[setting]["ratio"].max())
    drawn = max(row["largest"] for row in rows)
    ratios = {setting: float(unit["blow_up_ratio"]) for setting, unit in built.items() if setting[1] > 0}
    closest = max(ratios, key=ratios.__getitem__, default=None)
    by_hand = f"; built by hand {ratios[closest]:.9g}, by {closest[0]}" if closest else ""
    return [
        maximum_claim(
            "Lem. 3.2", "largest beta^L / bound of all strings, random models and models built by hand",
            "at most 1", "s.3, Lem. 3.2", max(drawn, *ratios.values()) if ratios else drawn,
            f"a theorem on each of them, held if the largest is; random models {drawn:.6g}{by_hand}", below=1.0 + 1e-9,
        ),
        claim(
            "", f"beta^L / bound, a model's largest over {config.strings} strings of {config.bound_length} bits"
            f"; L = {worst[0]}, D = {config.width}, epsilon = {worst[1]:g}, where it comes closest",
            None, "s.3, Lem. 3.2", estimate.from_values(found[worst]["ratio"].max(1)),
        ),
    ]  # fmt: skip


def _influence(run: harness.Run, config: "Config", found: dict[tuple[Any, ...], Any]) -> list[harness.Claim]:
    late = config.lengths[-config.tail :]
    table, slopes, claims = [], [], []
    for (encoding, epsilon, half_width, n), unit in found.items():
        row = {"positions": encoding, "epsilon": epsilon, "half_width": half_width, "length": n}
        for quantity in (*QUANTITIES, "span"):
            one = estimate.from_values(unit[quantity])
            table.append(row | {"models": one.count, "quantity": quantity} | numbers(one))
    for setting in [(*normalised, half_width) for normalised in config.normalised for half_width in config.half_widths]:
        encoding, epsilon, half_width = setting
        span = float(found[*setting, late[-1]]["span"].mean())
        for quantity in QUANTITIES:
            measured = np.stack([found[*setting, n][quantity] for n in config.lengths], 1)
            for which, chosen in (("all", config.lengths), ("late", late)):
                fitted, _, kept = log_slopes(chosen, measured[:, -len(chosen) :])
                row = {"positions": encoding, "epsilon": epsilon, "half_width": half_width, "quantity": quantity}
                row |= {"lengths": which, "first": chosen[0], "last": chosen[-1], "models": int(kept.sum())}
                one = estimate.from_values(fitted) if len(fitted) > 1 else None
                cells = numbers(one) if one else dict.fromkeys(("mean", "sem", "low", "high"))
                slopes.append(row | {"models_of_zero": int((~kept).sum())} | cells)
            if not quantity.startswith("activation"):
                continue
            text = (
                "C21", f"slope of ln influence on the {quantity.replace('_', ', ')} over bits and strings, against "
                f"ln N, N = {late[0]} .. {late[-1]}; {_named(encoding)}, epsilon = {epsilon:g}, parameters "
                f"uniform on [-{half_width:g}, {half_width:g}]^M", "at most -1 as N grows", "s.3, Cor. 3.3",
            )  # fmt: skip
            note = (
                f"held if the interval ends below -1 + {FAINT:g} and -1 is inside it or above it; the constant of "
                f"O(1/N) grows as e^(range of scores); those of the end of string range over {span:.3g} nats in "
                f"layer 1; ln N = {math.log(late[-1]):.3g}"
            )
            if not kept.all():
                note += f"; {(~kept).sum()} of {len(kept)} models left out, whose influence is exactly 0 at some N"
            if one is None:
                claims.append(harness.Claim(*text, verdict="inconclusive", note=note))
                continue
            line_of = claim(*text, one, note)
            verdict = slope_verdict(line_of.low, line_of.high, one.count)
            claims.append(at_finite_lengths(dataclasses.replace(line_of, verdict=verdict)))
    run.table("influences", table)
    run.table("influence_slopes", slopes)
    panels = {
        f"{title}; {_named(encoding)}, epsilon = {epsilon:g}": panel
        for quantity, title in (("activation_mean", "mean"), ("activation_max", "largest"))
        for encoding, epsilon in config.normalised
        if (panel := _influence_panel(config, found, quantity, encoding, epsilon))
    }
    if not panels:
        return claims
    figure = figures.against_length(
        panels, quantity="influence of a bit on the end of string", dataset=DATA,
        unit="change of its activation, l2; geometric mean over models",
        sample=f"{config.models} models, {config.strings} strings each, L = {config.depth}, D = {config.width}",
    )  # fmt: skip
    run.figure("influence", figure)
    return claims


def _named(encoding: str) -> str:
    return "no positions" if encoding == "none" else f"{encoding} positions"


def _influence_panel(
    config: "Config", found: dict[tuple[Any, ...], Any], quantity: str, encoding: str, epsilon: float
) -> figures.Panel | None:
    lengths, late = np.array(config.lengths), np.array(config.lengths[-config.tail :])
    series, fits = {}, {}
    for half_width in config.half_widths:
        label = f"a = {half_width:g}"
        values = np.stack([found[encoding, epsilon, half_width, n][quantity] for n in config.lengths], 1)
        values = values[(values > 0).all(1)]
        if len(values) < 2:
            continue
        series[label] = (lengths, *np.exp([triple(estimate.from_values(one)) for one in np.log(values).T]).T)
        slopes, offsets, _ = log_slopes(late, values[:, -len(late) :])
        law = np.exp(offsets.mean() + slopes.mean() * np.log(late))
        fits[label] = figures.Fit(late, law, triple(estimate.from_values(slopes)))
    if not series:
        return None
    highest = max(mean[0] for _, mean, _, _ in series.values())
    return figures.Panel(series, fits, {"slope -1 (Cor. 3.3)": (lengths, 1.5 * highest * lengths[0] / lengths)})


def _margins(
    run: harness.Run, config: "Config", found: dict[tuple[Any, ...], Any], ends: dict[tuple[Any, ...], Any]
) -> list[harness.Claim]:
    rows, lost, claims, panels = [], [], [], {}
    lengths = np.array(config.margin_lengths)
    for (name, epsilon, n), unit in found.items():
        margin, closed_form = float(unit["margin"]), float(unit["closed_form"])
        require_margin(name, epsilon, n, margin, closed_form)
        row = {"construction": name, "epsilon": epsilon, "length": n, "strings": int(unit["strings"])}
        row |= {"margin": margin, "closed_form_first_order": closed_form}
        rows.append(row | {"blow_up_ratio": float(unit["blow_up_ratio"])})
    for name, build in CONSTRUCTIONS.items():
        series = {}
        for epsilon in config.margin_epsilons:
            margins = np.array([float(found[name, epsilon, n]["margin"]) for n in lengths])
            series[f"epsilon = {epsilon:g}"] = (lengths, margins, margins, margins)
            late = slice(-config.tail, None)
            slope = float(line(np.log(lengths[late]), np.log(margins[None, late]))[0][0])
            for margin in config.margins:
                # Where the margin ends was looked for with the model itself: both of these lengths were tried too.
                end = ends.get((name, epsilon, margin))
                tried = [*lengths[margins >= margin], *([] if end is None else [end["kept"]])]
                longest = int(max(tried, default=0))
                longest_tried = int(max(lengths[-1], longest if end is None else end["kept"] + 1))
                closed = kept_until(build(epsilon).smallest, margin)
                row = {"construction": name, "epsilon": epsilon, "margin": margin, "longest_kept": longest}
                row |= {"longest_tried": longest_tried, "closed_form_first_order": closed}
                lost.append(row | {"late_slope": slope})
                claims.append(_longest_claim(name, epsilon, margin, row, slope))
        panels[name] = figures.Panel(
            series, {}, {f"margin {m:g}": (lengths, np.full(len(lengths), m)) for m in config.margins}
        )
    run.table("margins", rows)
    run.table("margin_lengths", lost)
    figure = figures.against_length(
        panels, quantity="smallest margin of a construction", unit="logit", dataset="recognizers built by hand",
        sample="all strings to N = 10, telling ones beyond; nothing is drawn, hence no bands",
    )  # fmt: skip
    run.figure("margins", figure)
    return claims


def _longest_claim(name: str, epsilon: float, margin: float, row: dict[str, Any], slope: float) -> harness.Claim:
    longest, tried, closed = row["longest_kept"], row["longest_tried"], row["closed_form_first_order"]
    kept = f"kept at all N to {LONGEST:g}" if closed is None else f"{closed}"
    note = "built by hand, nothing is drawn; held if a length keeps it and the longest that was tried does not; closed "
    note += f"form, first order in epsilon: {kept}; late slope of ln margin {slope:.3g}"
    if name in UNBOUNDED:
        note += "; p(n) has no bound, which the corollary does not ask for in words"
    return harness.Claim(
        "Cor. 3.4" if epsilon > 0 else "", f"longest N, of those tried up to {tried}, at which {name} keeps a margin "
        f"of {margin:g}; epsilon = {epsilon:g}", "finite" if epsilon > 0 else None, "s.3, Cor. 3.4",
        longest, None, longest, longest, longest_verdict(longest, tried) if epsilon > 0 else "", note,
    )  # fmt: skip


def _blow_ups(run: harness.Run, config: "Config", found: dict[tuple[Any, ...], Any]) -> list[harness.Claim]:
    rows, decays, claims, panels = [], [], [], {}
    lengths = np.array(config.blow_up_lengths)
    for depth, width in config.shapes:
        lemma = 1 - (width - 1) * config.zeta / (2 * depth)
        series, fits = {}, {}
        for how in ("uniform", "perturbed"):
            rates = np.stack([found[depth, width, how, n]["rates"] for n in lengths], 1)
            each = [estimate.from_values(column, rate=True) for column in rates.T]
            setting = {"layers": depth, "width": width, "weights": how}
            rows += [
                setting | {"length": int(n), "centres": one.count, "draws": config.draws} | numbers(one)
                for n, one in zip(lengths, each, strict=True)
            ]
            seen = rates.any(0)
            if seen.any():
                chosen = [triple(one) for one, any_event in zip(each, seen, strict=True) if any_event]
                series[how] = (lengths[seen], *np.array(chosen).T)
            for which, first in (("all", 0), ("late", -config.tail)):
                fit = decay(lengths[first:], rates[:, first:])
                if fit is None:
                    continue
                exponent, offset, used = fit
                span = {"lengths": which, "first": int(used[0]), "last": int(used[-1])}
                decays.append(setting | span | numbers(exponent) | {"lemma": lemma})
                judged = claim(
                    "Lem. 4.2", "exponent of P[some layer's tau > 1 + N^(zeta/2L)] against N, "
                    f"N = {span['first']} .. {span['last']}; L = {depth}, D = {width}, zeta = {config.zeta:g}, "
                    f"epsilon = 0, {how} weights", f"at most {lemma:.3f} as N grows", "s.4, Lem. 4.2 (k = 0)", exponent,
                    below=lemma, note=f"an upper bound, and asymptotic; {config.centres} strings, embeddings and "
                    f"centres of perturbation, {config.draws} draws of weights for each; jackknife over these centres",
                )  # fmt: skip
                claims.append(at_finite_lengths(judged))
                if which == "late":
                    fits[how] = figures.Fit(used, np.exp(offset) * used ** float(exponent.mean), triple(exponent))
        if series:
            highest = max(mean[0] for _, mean, _, _ in series.values())
            bound = {f"exponent {lemma:.2f} (Lem. 4.2)": (lengths, 1.5 * highest * (lengths / lengths[0]) ** lemma)}
            panels[f"L = {depth}, D = {width}"] = figures.Panel(series, fits, bound)
    run.table("blow_ups", rows)
    if decays:
        run.table("blow_up_decay", decays)
    if panels:
        figure = figures.against_length(
            panels, quantity=f"P[a blow-up above 1 + N^({config.zeta:g}/2L)]", unit="share of draws of weights",
            dataset=DATA, sample=f"epsilon = 0, {config.centres} centres, {config.draws} draws of weights for each",
        )  # fmt: skip
        run.figure("blow_ups", figure)
    return claims
