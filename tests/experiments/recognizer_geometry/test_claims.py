"""Laws of the verdicts: what supports or contradicts a theorem at the lengths that were measured."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments import harness
from experiments.harness.verdicts import NOT_TRAINED
from experiments.recognizer_geometry import claims, report
from experiments.recognizer_geometry.config import PRESETS
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from experiments.recognizer_geometry.counts import all_counts
from experiments.recognizer_geometry.estimates import QUANTITIES, influence_slopes
from experiments.recognizer_geometry.figures import influence_panels
from jaxsens.statistics import estimate

SMOKE = PRESETS["smoke"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_unbounded_positions_are_listed():
    for name, build in CONSTRUCTIONS.items():
        short, long = (np.abs(build(0.0).variables(n)["positions"]).max() for n in (100, 10_000))
        assert (long > short) == (name in claims.UNBOUNDED)


@pytest.mark.parametrize(("slope", "verdict"), [(-1, "supported"), (-2, "supported"), (-0.96, "inconclusive"),
                                                (-0.9, "contradicted")])  # fmt: skip
def test_an_influence_is_judged_where_the_range_of_scores_leaves_a_bound(slope, verdict):
    """``e^range / N`` is at most 1 at N = 128 up to a range of 4.85 nats."""
    slopes = estimate.from_values(slope + 0.1 * np.random.default_rng(0).normal(size=40))
    found = claims.influence_verdict(slopes, 4.8, 128)
    assert (found.name, found.reason, found.units) == (verdict, "", 40)
    wide = claims.influence_verdict(slopes, 4.9, 128)
    assert (wide.name, wide.error) == ("inconclusive", 1)
    assert "scores range over 4.9 nats, more than ln 128 = 4.85" in wide.reason


def test_a_margin_that_no_length_keeps_is_not_lost_and_one_that_all_keep_contradicts():
    cases = [(0, 64, 12), (10, 64, 10), (64, 64, None), (64, 64, 80)]
    found = [claims.margin_verdict(*case) for case in cases]
    assert [one.name for one in found] == ["inconclusive", "supported", "contradicted", "inconclusive"]
    assert "the last one is 80" in found[3].reason


def test_undecided_models_neither_confirm_nor_refute():
    def verdict(rule, holding, undecided):
        return rule(holding, 40, undecided=undecided, design=NOT_TRAINED).name

    assert verdict(claims.AT_FLOOR, 40, 0) == "supported"
    assert verdict(claims.AT_FLOOR, 39, 1) == verdict(claims.AT_FLOOR, 0, 40) == "inconclusive"
    assert verdict(claims.AT_FLOOR, 20, 0) == "contradicted"
    assert verdict(claims.AT_FLOOR, 20, 18) == "inconclusive"
    assert verdict(claims.FASTER, 39, 1) == "supported"


def test_a_single_blow_up_above_its_bound_refutes_the_lemma():
    """A theorem on all models: one exception decides, those built by hand are judged too, but are no sample."""
    fine = {(depth, epsilon): {"ratio": np.full((40, 2), 0.5)} for depth in (1, 2) for epsilon in (0.1, 1.0)}
    one_of_many = fine | {(1, 0.1): {"ratio": np.where(np.arange(80).reshape(40, 2) == 7, 1.01, 0.5)}}
    built = {("first", 1.0, 4): {"blow_up_ratio": np.array(1.0)}, ("first", 0.0, 4): {"blow_up_ratio": np.array(9.0)}}
    broken = built | {("parity", 1.0, 4): {"blow_up_ratio": np.array(1.01)}}
    few = {(1, 1.0): fine[1, 1.0]}
    for drawn, by_hand, verdict, units in ((fine, built, "supported", 80), (one_of_many, built, "contradicted", 80),
                                           (fine, broken, "contradicted", 80), (few, built, "inconclusive", 40),
                                           (few, broken, "contradicted", 40)):  # fmt: skip
        row, found = claims.bound_claims(SMOKE, drawn, by_hand)[0]
        assert (found.name, found.units) == (verdict, units)
        assert row.measured == (1.01 if verdict == "contradicted" else 1.0)


def test_models_of_influence_zero_are_left_out_and_counted():
    rng = np.random.default_rng(0)
    units = {}
    for n in SMOKE.lengths:
        values = rng.uniform(0.9, 1.1, 6) / n
        values[2] = 0 if n == SMOKE.lengths[-1] else values[2]
        units["none", 1e-2, 0.5, n] = dict.fromkeys(QUANTITIES, values) | {"span": np.ones(6)}
    slopes = influence_slopes(SMOKE, units)
    rows = harness.corrected(claims.influence_claims(units, slopes))
    assert all("1 of 6 models left out" in row.note for row in rows)
    assert {report.slope_row(slope)["models_with_zero"] for slope in slopes} == {1}
    np.testing.assert_allclose(rows[0].measured, -1, atol=0.3)
    silent = {key: unit | dict.fromkeys(QUANTITIES, np.zeros(6)) for key, unit in units.items()}
    slopes = influence_slopes(SMOKE, silent)
    rows = harness.corrected(claims.influence_claims(silent, slopes))
    assert {(row.verdict, row.reason) for row in rows} == {
        ("inconclusive", "fewer than two models have an influence above 0 at every N")
    }
    assert {report.slope_row(slope)["mean"] for slope in slopes} == {None}
    assert influence_panels(SMOKE, silent, slopes) == {}


def planted(tmp_path, count, models=40, strings=None, width=16):
    """Return the claims of planted counts ``count(n, model)`` by their quantity, and the folder of the tables."""
    config = replace(SMOKE, count_shapes=((1, width),), exhaustive_lengths=(8, 10), sampled_lengths=(12, 20))
    units = {
        (1, width, n): {
            "zero": np.array([count(n, i) for i in range(models)]),
            "strings": np.array(2**n if strings is None or n <= 10 else strings),
            "constant": np.zeros(models, bool),
        }
        for n in (8, 10, 12, 20)
    }
    (counts,) = all_counts(config, units)
    with harness.Run.open(tmp_path, config, experiment="test") as run:
        report.write_counts(run, [counts])
    rows = harness.corrected(claims.growth_claims([counts])) + harness.corrected(claims.floor_claims([counts]))
    rows = [row for row in rows if "not constant" not in row.subject]
    return {row.quantity: row for row in rows}, tmp_path


FASTER = "share of models with log2 K_0 growing faster than the floor"
BETTER = "share of models with K_0 fitted better by an exponential than by a power of N"
FLOOR = "share of models with K_0 at least the floor"


@pytest.mark.parametrize("name", ["half", "power"])
def test_exponential_and_polynomial_counts_are_distinguished(tmp_path, name):
    """Planted counts: half of all strings, and a power of the length that is lower than the floor's."""
    grows = {"half": lambda n, _: 2 ** (n - 1), "power": lambda n, _: 20 * n}
    rows, folder = planted(tmp_path / name, grows[name])
    assert rows[BETTER].measured == (name == "half")
    assert rows[FASTER].verdict == ("supported" if name == "half" else "contradicted")
    row = read(folder / "count_models.csv")[0]
    assert (row["faster"], row["slower"]) == (("40", "0") if name == "half" else ("0", "40"))


def test_models_without_an_observed_string_are_a_separate_category(tmp_path):
    """The longest sample of one model has none: it is counted, and changes neither slopes nor the choice of law."""
    rows, folder = planted(
        tmp_path / "run", lambda n, i: 0 if (n, i) == (20, 3) else 50 if n > 10 else 2 ** (n - 2), strings=200
    )
    row = read(folder / "count_models.csv")[0]
    assert (row["faster"], row["unseen"], row["slower"]) == ("39", "1", "0")
    growth = {row["quantity"]: row for row in read(folder / "count_growth.csv") if row["group"] == "all models"}
    np.testing.assert_allclose(float(growth["bits_a_position"]["mean"]), 1)
    assert growth["bits_a_position"]["with_gaps"] == "1"
    assert growth["late_bits_a_position"]["models"] == "39"
    assert float(growth["exponential_better"]["mean"]) == 1
    assert "1 without such a string" in rows[FASTER].note
    assert rows[FASTER].verdict == "supported", "of most models"
    counts = read(folder / "counts.csv")
    assert (counts[-1]["n_observed_zero"], counts[-1]["n_proven_zero"]) == ("1", "0")
    assert float(counts[-1]["log2_low"]) == float(counts[-1]["log2_high"]) == 18, "no zero is put in its place"


def test_no_string_among_all_is_proven_and_among_a_sample_only_observed(tmp_path):
    _, folder = planted(tmp_path / "run", lambda n, i: 0 if i < 3 else 1)
    assert [(row["n_proven_zero"], row["n_observed_zero"]) for row in read(folder / "counts.csv")] == [
        ("3", "0"), ("3", "0"), ("0", "3"), ("0", "3"),
    ]  # fmt: skip


def test_the_floor_is_judged_by_decided_models_and_only_if_its_exponent_is_positive(tmp_path):
    def half(n, _):
        return 2 ** (n - 1)

    supported, _ = planted(tmp_path / "supported", half)
    assert supported[FLOOR].verdict == "supported"
    unseen, _ = planted(tmp_path / "unseen", lambda n, i: 0 if n > 10 else 2, strings=200)
    assert unseen[FLOOR].verdict == "inconclusive"
    assert "40 undecided" in unseen[FLOOR].note
    below, _ = planted(tmp_path / "below", lambda n, i: half(n, i) if i % 2 else 1)
    assert below[FLOOR].verdict == "contradicted", "at this length"
    nothing, _ = planted(tmp_path / "nothing", half, width=8)
    assert (nothing[FLOOR].verdict, nothing[FLOOR].measured) == ("", None)
    assert "promises nothing" in nothing[FLOOR].note
