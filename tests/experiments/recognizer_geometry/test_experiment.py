"""Laws of the experiment: fits find what was planted, influences are the library's, runs keep their tables."""

import csv
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import harness
from experiments.recognizer_geometry import claims as judging
from experiments.recognizer_geometry import counts, experiment, fits, report
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS
from jaxsens.boolean import blow_up
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers
from jaxsens.statistics import estimate

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("quick_compiling")

SMOKE = experiment.PRESETS["smoke"]
TABLES = (
    "blow_up_bound", "influences", "influence_slopes", "margins", "margin_lengths", "blow_ups", "blow_up_decay",
    "counts", "count_growth", "count_models", "comparison",
)  # fmt: skip
FIGURES = ("influence", "margins", "blow_ups", "counts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return experiment.execute(SMOKE, tmp_path_factory.mktemp("geometry") / "run")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".png")}


def test_a_run_leaves_what_it_promises_and_resumes_to_the_same_bytes(folder, monkeypatch, capsys):
    before = contents(folder)
    assert {f"{name}.csv" for name in TABLES} | {f"{name}.png" for name in FIGURES} == set(before)
    for name in FIGURES:
        assert len(before[f"{name}.png"]) > 10_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["sessions"][0]["compiling"]["seconds"] > 0
    lost = [folder / "units" / f"{name}.npz" for name in ("blow-up-1-4-uniform-4", "margin-first-0-4")]
    for path in lost:
        path.unlink()

    def again(*args):
        raise AssertionError(f"computed again: {args[1:]}")

    for name in ("influences", "counts", "bound"):
        monkeypatch.setattr(experiment, name, again)
    experiment.execute(SMOKE, folder)
    assert contents(folder) == before
    printed = capsys.readouterr().out
    assert "Cor. 3.4" in printed
    assert "programs compiled in" in printed


def test_claims_say_what_was_measured(folder):
    rows = read(folder / "comparison.csv")
    assert {"C21", "C22", "Lem. 3.2", "Cor. 3.4", "Lem. 4.2"} <= {row["claim"] for row in rows}
    for row in rows:
        if row["claim"] and row["measured"] != "":
            assert float(row["low"]) <= float(row["measured"]) <= float(row["high"])
    bound = next(row for row in rows if row["claim"] == "Lem. 3.2")
    assert bound["verdict"] == "supported"
    assert all(float(row["largest"]) <= 1 + 1e-9 for row in read(folder / "blow_up_bound.csv"))
    lost = {
        (row["construction"], row["epsilon"], row["margin"]): row["longest_kept"]
        for row in read(folder / "margin_lengths.csv")
    }
    assert lost["parity", "0.0", "0.5"] == "12"
    assert lost["parity", "0.01", "0.5"] == "2"
    assert lost["majority", "0.01", "0.5"] == "7"
    for row in rows:
        if row["claim"] == "Cor. 3.4":
            assert row["verdict"] == ("inconclusive" if "first-growing" in row["quantity"] else "supported")
            unbounded = any(name in row["quantity"] for name in report.UNBOUNDED)
            assert ("p(n) has no bound" in row["note"]) == unbounded
            assert "first order in epsilon" in row["note"]


def test_positions_without_a_bound_are_known():
    for name, build in CONSTRUCTIONS.items():
        short, long = (np.abs(build(0.0).variables(n)["positions"]).max() for n in (100, 10_000))
        assert (long > short) == (name in report.UNBOUNDED)


def test_influences_equal_the_librarys(float64):
    architecture = SMOKE.architecture(2, 4, 1e-2)
    models = experiment.uniform_models(architecture, jax.random.key(3), 1.0, 2, np.float64)
    bits = experiment.bits_of(SMOKE, 2, 3, 6)
    states, logits, _ = parallel.map_items(
        experiment.Influences(architecture), (models, bits), execution=Execution(chunk=1)
    )
    measure = blow_up.influences(recognizers.internals(architecture), positions=(-1,), execution=Execution(chunk=21))
    for i in range(2):
        expected = measure(jax.tree.map(lambda a, i=i: a[i], models), bits[i])
        np.testing.assert_allclose(states[i], expected.states[..., 0], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(logits[i], expected.logits, rtol=1e-8, atol=1e-12)


def test_positions_may_be_left_out():
    assert SMOKE.normalised == [("none", 1e-2)]
    laptop = experiment.PRESETS["laptop"].normalised
    assert laptop == [("sinusoidal", 1e-5), ("sinusoidal", 0.1), ("none", 0.1)]
    found = experiment.influences(SMOKE, "none", 1e-2, 0.5, 4)
    other = experiment.influences(SMOKE, "sinusoidal", 1e-2, 0.5, 4)
    assert not np.allclose(found["activation_mean"], other["activation_mean"])


def test_no_finite_length_refutes_what_is_said_of_all():
    one = harness.Claim("C21", "slope", None, "", -0.5, 0.1, -0.7, -0.3, "contradicted", "note")
    assert judging.at_finite_lengths(one).verdict == "inconclusive"
    assert "not so at these lengths" in judging.at_finite_lengths(one).note
    held = replace(one, verdict="supported")
    assert judging.at_finite_lengths(held) == held


def test_a_slope_holds_only_if_minus_one_is_in_its_interval_or_above():
    assert judging.slope_verdict(-1.02, -0.98, 40) == "supported"
    assert judging.slope_verdict(-2.0, -1.5, 40) == "supported"
    assert judging.slope_verdict(-0.93, -0.91, 40) == "contradicted", "a steady N^-.92 is not O(1/N)"
    assert judging.slope_verdict(-1.2, -0.85, 40) == "inconclusive"
    assert judging.slope_verdict(-2.0, -1.5, 2) == "inconclusive"


def test_a_margin_that_no_length_keeps_is_not_lost():
    assert [judging.longest_verdict(n, 64) for n in (0, 10, 64)] == ["inconclusive", "supported", "inconclusive"]


def test_undecided_models_neither_confirm_nor_refute():
    def verdict(*found, above=judging.NEARLY):
        return judging.share_claim("C22", "share", None, "", found, "", above=above).verdict

    assert verdict(40, 0, 40) == "supported"
    assert verdict(39, 1, 40) == verdict(0, 40, 40) == "inconclusive"
    assert verdict(20, 0, 40) == "contradicted"
    assert verdict(20, 18, 40) == "inconclusive"
    assert verdict(39, 1, 40, above=judging.MOST) == "supported"


def test_a_single_blow_up_above_its_bound_refutes_the_lemma(tmp_path):
    """A theorem on all models: the largest decides, and those built by hand are judged too."""
    fine = {(1, 1.0): {"ratio": np.full((40, 2), 0.5)}}
    one_of_many = {(1, 1.0): {"ratio": np.where(np.arange(80).reshape(40, 2) == 7, 1.01, 0.5)}}
    built = {("first", 1.0, 4): {"blow_up_ratio": np.array(1.0)}, ("first", 0.0, 4): {"blow_up_ratio": np.array(9.0)}}
    broken = built | {("parity", 1.0, 4): {"blow_up_ratio": np.array(1.01)}}
    cases = {"fine": (fine, built), "drawn": (one_of_many, built), "by-hand": (fine, broken)}
    for name, (drawn, by_hand) in cases.items():
        with harness.Run.open(tmp_path / name, SMOKE, experiment="test") as run:
            claim = report._bound(run, SMOKE, drawn, by_hand)[0]
        assert claim.verdict == ("supported" if name == "fine" else "contradicted")
        assert claim.measured == (1.0 if name == "fine" else 1.01)


def test_a_construction_that_fails_is_an_error_that_says_so(tmp_path):
    fits.require_margin("first", 0.01, 64, 0.1502, 0.1520)
    for margin, closed_form in ((-0.1, 0.15), (0.0, 0.15), (0.12, 0.15), (float("nan"), 0.15)):
        with pytest.raises(FloatingPointError, match=r"construction first at epsilon = 0\.01, N = 64"):
            fits.require_margin("first", 0.01, 64, margin, closed_form)
    with pytest.raises(FloatingPointError, match="within 1e-06"):
        fits.require_margin("first", 0.0, 64, 0.999, 1.0)
    unit = {"margin": np.array(-1e-3), "closed_form": np.array(0.9), "strings": np.array(16), "blow_up_ratio": 0.0}
    with (
        harness.Run.open(tmp_path / "run", SMOKE, experiment="test") as run,
        pytest.raises(FloatingPointError, match=r"parity at epsilon = 0\.01, N = 4"),
    ):
        report._margins(run, SMOKE, {("parity", 0.01, 4): unit}, {})


def test_models_of_influence_zero_are_left_out_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    found = {}
    for n in SMOKE.lengths:
        values = rng.uniform(0.9, 1.1, 6) / n
        values[2] = 0 if n == SMOKE.lengths[-1] else values[2]
        unit = {quantity: values for quantity in report.QUANTITIES} | {"span": np.ones(6)}
        found["none", 1e-2, 0.5, n] = unit
    with harness.Run.open(tmp_path / "run", SMOKE, experiment="test") as run:
        claims = report._influence(run, SMOKE, found)
    assert all("1 of 6 models left out" in claim.note for claim in claims)
    assert all(row["models_of_zero"] == "1" for row in read(tmp_path / "run" / "influence_slopes.csv"))
    np.testing.assert_allclose(claims[0].measured, -1, atol=0.3)
    silent = {key: unit | dict.fromkeys(report.QUANTITIES, np.zeros(6)) for key, unit in found.items()}
    with harness.Run.open(tmp_path / "silent", SMOKE, experiment="test") as run:
        claims = report._influence(run, SMOKE, silent)
    assert {claim.verdict for claim in claims} == {"inconclusive"}


def test_models_fill_their_parameter_space_and_share_embeddings():
    architecture = SMOKE.architecture(1, 8, 0.0)
    wide, narrow = (experiment.uniform_models(architecture, jax.random.key(0), a, 5, np.float32) for a in (1.0, 0.25))
    for a, b in zip(
        jax.tree.leaves(wide["params"]["layers"]), jax.tree.leaves(narrow["params"]["layers"]), strict=True
    ):
        np.testing.assert_allclose(b, a / 4)
        assert 0.8 < np.abs(a).max() <= 1
    np.testing.assert_array_equal(wide["params"]["embedding"], narrow["params"]["embedding"])
    assert not np.array_equal(wide["params"]["embedding"][0], wide["params"]["embedding"][1])
    few = experiment.uniform_models(architecture, jax.random.key(0), 1.0, 2, np.float32)
    shapes = jax.tree.map(lambda spec: (2, *spec.shape), architecture.specs)
    assert jax.tree.map(np.shape, few["params"]) == shapes
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(wide), strict=True):
        np.testing.assert_array_equal(a, b[:2], err_msg="model i hangs on i alone")


def test_lines_recover_planted_slopes():
    rng = np.random.default_rng(0)
    n, slopes = np.array([8, 16, 32, 64, 128.0]), rng.normal(size=6)
    exact = slopes[:, None] * np.log(n)[None] + np.arange(6.0)[:, None]
    found, offsets, residuals = fits.line(np.log(n), exact)
    np.testing.assert_allclose(found, slopes)
    np.testing.assert_allclose(offsets, np.arange(6), atol=1e-12)
    np.testing.assert_allclose(residuals, 0, atol=1e-20)
    with pytest.raises(ValueError, match="two different values"):
        fits.line(np.ones(3), np.ones((1, 3)))


def test_decays_recover_planted_exponents_and_their_intervals_cover():
    rng, lengths = np.random.default_rng(1), np.array([8, 16, 32, 64])
    covered, found = [], []
    for _ in range(300):
        own = rng.uniform(0.1, 0.9, (20, 1))  # centres differ
        rates = rng.binomial(400, own * lengths[None] ** -0.8) / 400
        exponent, offset, _ = fits.decay(lengths, rates)
        low, high = exponent.interval()
        covered.append(low <= -0.8 <= high)
        found.append((float(exponent.mean), offset))
    assert 0.9 < np.mean(covered) < 0.99
    np.testing.assert_allclose(np.mean(found, 0), [-0.8, np.log(0.5)], atol=0.02)
    rates[2:, 1:] = 0
    assert fits.decay(lengths, rates) is None, "one length with enough events is no line"


def test_counts_without_a_string_are_neither_one_nor_many():
    logs = fits.log2_counts(np.array([[0], [1], [200]]), np.array([200]), np.array([100]))
    np.testing.assert_allclose(logs[:, 0], [np.nan, 100 - np.log2(200), 100])
    low, high = fits.log2_limits(np.array([0, 1, 16]), 16, 4, exact=True)
    np.testing.assert_array_equal(low, [-np.inf, 0, 4])
    np.testing.assert_array_equal(high, low, err_msg="all strings were evaluated: K_0 is known, 0 included")
    low, high = fits.log2_limits(np.array([0, 1, 200]), 200, 100, exact=False)
    shares = estimate.clopper_pearson(np.array([0, 1, 200]), 200, comparisons=3)
    assert low[0] == -np.inf
    np.testing.assert_allclose(low[1:], 100 + np.log2(shares[0][1:]))
    np.testing.assert_allclose(high, 100 + np.log2(shares[1]))


def test_lines_go_through_what_is_known_alone():
    x = np.array([4, 6, 8, 10, 12.0])
    y = np.array([1.0, 2.0, 3.0])[:, None] * x[None] + 5
    y[1, [1, 4]], y[2, :3] = np.nan, np.nan
    slopes, offsets, residuals, known = fits.lines_where_known(x, y)
    np.testing.assert_allclose(slopes, [1, 2, np.nan])
    np.testing.assert_allclose(offsets, [5, 5, np.nan])
    np.testing.assert_allclose(residuals[:2], 0, atol=1e-20)
    np.testing.assert_array_equal(known, [5, 3, 2])


def test_margins_are_followed_to_where_they_end():
    assert fits.kept_until(lambda n: 10 / n, 0.1) == 100
    assert fits.kept_until(lambda n: 0 * n + 1, 0.5) is None
    assert fits.floor_exponent(1, 16) == 2.5
    assert fits.floor_exponent(2, 8) < 0
    for end in (0, 1, 5, 97, 98, 400):
        for start in (0, 1, 98, 300):
            assert fits.last_kept(lambda n, end=end: n <= end, start) == end
    with pytest.raises(ValueError, match="too far"):
        fits.last_kept(lambda n: True, 98)
    with pytest.raises(ValueError, match="start must be at least 0"):
        fits.last_kept(lambda n: True, -1)


def test_the_end_of_a_margin_is_the_models_own():
    """To first order in epsilon it would be 98."""
    smallest = CONSTRUCTIONS["first"](0.01).smallest
    assert fits.kept_until(smallest, 0.1) == 98
    assert experiment.margin_end("first", 0.01, 0.1, 98)["kept"] == 97


def planted(tmp_path, count, models=40, strings=None, width=16):
    """Write the report of planted counts ``count(n, model)``, and return the claims and the table of its models."""
    config = replace(SMOKE, count_shapes=((1, width),), exhaustive_lengths=(8, 10), sampled_lengths=(12, 20))
    found = {
        (1, width, n): {
            "zero": np.array([count(n, i) for i in range(models)]),
            "strings": np.array(2**n if strings is None or n <= 10 else strings),
            "constant": np.zeros(models, bool),
        }
        for n in (8, 10, 12, 20)
    }
    with harness.Run.open(tmp_path, config, experiment="test") as run:
        claims = counts.write(run, config, found)
    return {claim.quantity.split(",")[0].split(" from N")[0]: claim for claim in claims}, tmp_path


FASTER, BETTER = "share of models whose log2 K_0 grows faster than the floor's", "share of models whose K_0"


def of(claims, words):
    return next(claim for quantity, claim in claims.items() if quantity.startswith(words))


@pytest.mark.parametrize("name", ["half", "power"])
def test_exponential_and_polynomial_counts_are_told_apart(tmp_path, name):
    """Planted counts: half of all strings, and a power of the length that is lower than the floor's."""
    grows = {"half": lambda n, _: 2 ** (n - 1), "power": lambda n, _: 20 * n}
    claims, folder = planted(tmp_path / name, grows[name])
    assert of(claims, BETTER).measured == (name == "half")
    assert of(claims, FASTER).verdict == ("supported" if name == "half" else "contradicted")
    row = read(folder / "count_models.csv")[0]
    assert (row["faster"], row["slower"]) == (("40", "0") if name == "half" else ("0", "40"))


def test_models_that_show_no_such_string_are_a_category_of_their_own(tmp_path):
    """One model whose longest sample holds none: it is counted, and changes neither slopes nor the choice of law."""
    claims, folder = planted(
        tmp_path / "run", lambda n, i: 0 if (n, i) == (20, 3) else 50 if n > 10 else 2 ** (n - 2), strings=200
    )
    row = read(folder / "count_models.csv")[0]
    assert (row["faster"], row["unseen"], row["slower"]) == ("39", "1", "0")
    growth = {row["quantity"]: row for row in read(folder / "count_growth.csv") if row["group"] == "all models"}
    np.testing.assert_allclose(float(growth["bits_a_position"]["mean"]), 1)
    assert growth["bits_a_position"]["with_gaps"] == "1"
    assert growth["late_bits_a_position"]["models"] == "39"
    assert float(growth["exponential_better"]["mean"]) == 1
    assert "1 unseen" in of(claims, FASTER).note
    assert of(claims, FASTER).verdict == "supported", "of most models"
    rows = read(folder / "counts.csv")
    assert rows[-1]["none_seen"] == "1"
    assert float(rows[-1]["log2_low"]) == float(rows[-1]["log2_high"]) == 18, "no zero is put in its place"


def test_the_floor_is_judged_by_models_that_are_decided_and_only_if_it_promises_something(tmp_path):
    def half(n, _):
        return 2 ** (n - 1)

    def some(n, i):
        return half(n, i) if i % 2 else 1

    share = "share of models with K_0 at least the floor"
    held, _ = planted(tmp_path / "supported", half)
    assert of(held, share).verdict == "supported"
    unseen, _ = planted(tmp_path / "unseen", lambda n, i: 0 if n > 10 else 2, strings=200)
    assert of(unseen, share).verdict == "inconclusive"
    assert "40 undecided" in of(unseen, share).note
    assert "not so" not in of(unseen, share).note
    below, _ = planted(tmp_path / "below", some)
    assert of(below, share).verdict == "inconclusive"
    assert "not so at these lengths" in of(below, share).note, "no finite length refutes it"
    nothing, _ = planted(tmp_path / "nothing", half, width=8)
    assert of(nothing, share).verdict == ""
    assert of(nothing, share).measured is None
    assert "promises nothing" in of(nothing, share).note


BAD = {
    "models must be at least 1": {"models": 0},
    "lengths must be two or more rising": {"lengths": (8, 4)},
    "exhaustive_lengths must be at most 20": {"exhaustive_lengths": (4, 8)},
    "tail must be from 2": {"tail": 3},
    "epsilons must be positive": {"epsilons": (0.0,)},
    "margin_epsilons must be at least 0": {"margin_epsilons": (-1.0,)},
    "zeta must lie strictly between": {"shapes": ((2, 5),)},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_settings_are_named(match):
    with pytest.raises(ValueError, match=match):
        replace(SMOKE, **BAD[match])


def test_flags_reach_the_configuration():
    words = ["--preset", "smoke", "--lengths", "4,8,16", "--models", "7"]
    found = harness.parse("recognizer_geometry", experiment.PRESETS, words)
    assert found.config == replace(SMOKE, lengths=(4, 8, 16), models=7)
