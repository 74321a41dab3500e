"""Laws of the experiment on length and sharpness: what is trained on what, planted growth is found, runs resume."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import harness
from experiments.length_and_sharpness import claims as judging
from experiments.length_and_sharpness import config as setting
from experiments.length_and_sharpness import experiment, report
from jaxsens.boolean import strings
from jaxsens.training import many_models

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("quick_compiling")

SMOKE = experiment.PRESETS["smoke"]
TABLES = ("models", "lengths", "slopes", "pairs", "tradeoff", "random_functions", "training_sizes", "comparison")
FIGURES = ("lengths", "tradeoff", "training_sizes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return experiment.execute(SMOKE, tmp_path_factory.mktemp("lengths") / "run")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".png")}


def test_targets_are_the_functions():
    bits = np.asarray(strings.exhaustive(5))
    signs = 2 * bits - 1
    np.testing.assert_array_equal(setting.targets("parity", bits), np.prod(-signs, 1))
    np.testing.assert_array_equal(setting.targets("first", bits), signs[:, 0])
    np.testing.assert_array_equal(setting.targets("majority", bits), np.sign(signs.sum(1)))
    np.testing.assert_allclose(setting.targets("mean", bits), signs.mean(1), rtol=1e-6)
    assert setting.targets("majority", np.array([[0, 1]])) == -1, "a tie is rejected"
    assert [report.exact_sensitivity(f, 5) for f in setting.FUNCTIONS] == [5, 2 * 3 * 10 / 32, 1, 2 * 3 * 10 / 32]
    with pytest.raises(ValueError, match="function must be one of"):
        setting.targets("median", bits)


class Captured(Exception):
    pass


@pytest.fixture
def captured(monkeypatch):
    """Return what a unit would train, in place of training it."""

    def capture(config, variables, members, data, watched, key, steps, checkpoint, label):
        raise Captured(variables, members, data, watched, steps)

    def call(unit, *args):
        with pytest.raises(Captured) as error:
            unit(*args)
        return error.value.args

    monkeypatch.setattr(experiment, "_trained", capture)
    return call


def test_functions_of_a_seed_are_paired_and_strings_are_fresh(captured):
    config = dataclasses.replace(SMOKE, seeds=2)
    variables, members, data, watched, _ = captured(experiment.by_length, config, 4)
    weights = variables["params"]["layers"]["query"]
    assert (weights[:4] == weights[:1]).all()
    assert (weights[4] != weights[0]).any()
    for epoch in (0, 1):
        bits, wanted = data(epoch)
        assert bits.shape == (8, config.epoch_strings, 4)
        assert (bits[:4] == bits[:1]).all()
        assert (bits[4] != bits[0]).any()
        for i, function in enumerate(setting.FUNCTIONS * 2):
            np.testing.assert_array_equal(wanted[i], setting.targets(function, bits[i]))
    assert (data(0)[0] != data(1)[0]).any()
    assert members.dataset.tolist() == list(range(8))
    assert watched[0].shape == (8, 16, 4)
    assert len(np.unique(watched[0][0], axis=0)) == 16, "all strings, as they are few"
    alone = captured(experiment.by_length, SMOKE, 4)[0]["params"]["layers"]["query"]
    np.testing.assert_array_equal(alone, weights[:4])


def test_models_of_the_tradeoff_differ_in_rate_and_decay_and_do_not_hang_on_their_group(captured):
    config = dataclasses.replace(SMOKE, tradeoff_models=60, tradeoff_group=60)
    variables, members, data, _, _ = captured(experiment.tradeoff, config, 0)
    for values, ends in (
        (members.learning_rate, config.tradeoff_rates),
        (members.weight_decay, config.tradeoff_decays),
    ):
        assert ends[0] <= values.min() < values.mean() < values.max() <= ends[1]
        assert values.mean() == pytest.approx(np.mean(ends), rel=0.2)
        assert len(np.unique(values)) == 60
    assert abs(np.corrcoef(members.learning_rate, members.weight_decay)[0, 1]) < 0.4
    second = dataclasses.replace(config, tradeoff_group=30)
    other, own, *_ = captured(experiment.tradeoff, second, 1)
    np.testing.assert_array_equal(own.learning_rate, members.learning_rate[30:])
    np.testing.assert_array_equal(other["params"]["embedding"], variables["params"]["embedding"][30:])
    bits, wanted = data(0)
    np.testing.assert_array_equal(wanted, setting.targets("parity", bits))


def test_training_sets_of_random_functions_are_nested_and_labelled_by_them(captured):
    config = dataclasses.replace(SMOKE, function_seeds=3)
    _, members, (bits, wanted), (every, labels), steps = captured(experiment.random_functions, config)
    assert bits.shape == (4, SMOKE.epoch_strings, 4)
    assert steps == SMOKE.function_steps
    assert members.dataset.tolist() == [d for d in range(4) for _ in range(3)]
    seen = [{tuple(s) for s in one.tolist()} for one in bits]
    assert [len(one) for one in seen] == [8, 16, 8, 16]
    assert seen[0] < seen[1]
    assert (labels[0] == labels[1]).all()
    assert (labels[0] != labels[2]).any()
    assert all(len(np.unique(one, axis=0)) == 16 for one in every)
    for d in range(4):
        table = dict(zip(map(tuple, every[d].tolist()), labels[d], strict=True))
        assert [table[tuple(s)] for s in bits[d].tolist()] == wanted[d].tolist()


def test_what_is_learned_of_a_random_function_is_judged_on_the_right_strings(monkeypatch):
    bits = np.asarray(strings.exhaustive(4))
    labels = bits.sum(1) % 2 == 0
    seen = np.array([3, 5, 6, 9])
    trained = many_models.Trained(
        {"params": {"a": np.zeros(2)}}, np.array([many_models.TRAINING, many_models.DIVERGED]), *[None] * 3
    )
    outputs = {"right": setting.signs(labels), "constant": np.ones(16)}
    for name, expected in (("right", (1, 0, 1, 4)), ("constant", (1, 0, 4 / 12, 0))):
        monkeypatch.setattr(experiment, "_outputs_on", lambda *args, name=name: outputs[name])
        found = experiment._learned(SMOKE, trained, 0, bits, labels, seen)
        assert labels[seen].all()
        assert tuple(found[k] for k in ("train_accuracy", "train_loss", "unseen_accuracy", "sensitivity")) == expected
        assert found["target_sensitivity"] == 4
    lost = experiment._learned(SMOKE, trained, 1, bits, labels, seen)
    assert np.isnan(lost["sensitivity"])


def test_measures_of_a_constant_model():
    specs = SMOKE.architecture
    zero = experiment.jax.tree.map(np.zeros_like, experiment.recognizer.init(specs, SMOKE.key("length", "weights", 0)))
    zero["params"]["readout"]["bias"] = np.float32(0.5)
    zero["params"]["layers"]["mlp_offset"] = np.full((2, 8), 2, np.float32)
    bits = np.asarray(strings.exhaustive(4), np.uint8)
    wanted = setting.targets("parity", bits)
    still = dataclasses.replace(SMOKE, noise=1e-12)
    found = experiment.measure(still, "length", 4, zero, bits, wanted)
    assert found["loss"] == pytest.approx((0.5**2 + 1.5**2) / 2)
    assert found["accuracy"] == 0.5
    assert found["weight_norm"] == pytest.approx(np.sqrt(0.25 + 16 * 4))
    assert found["sensitivity"] == found["sensitivity_sem"] == 0
    assert found["sharpness"] == pytest.approx(0, abs=1e-9)
    noisy = experiment.measure(SMOKE, "length", 4, zero, bits, wanted)
    assert noisy["sharpness"] != 0, "noise moves the weights"
    exact = experiment.measure(dataclasses.replace(still, exact_length=4), "length", 4, zero, bits, wanted)
    assert exact == found


def planted(power, seeds=4, lengths=(4, 8, 16, 32), learned=True):
    """Return results whose sharpness grows as a power of the length, by function, but for a little noise."""
    generator = np.random.default_rng(0)
    config = dataclasses.replace(SMOKE, lengths=lengths, seeds=seeds)
    found = {}
    for n in lengths:
        function = np.array(setting.FUNCTIONS * seeds)
        sharpness = np.array([0.01 * (1 + i) * n ** power[f] for i, f in enumerate(setting.FUNCTIONS)] * seeds)
        sharpness *= np.exp(0.01 * generator.normal(size=len(function)))
        unit = {name: np.ones(len(function)) for name in report.MEASURED}
        unit |= {"function": function, "seed": np.repeat(np.arange(seeds), 4), "sharpness": sharpness}
        unit |= {"loss": np.where(function == "mean", 1e-4, sharpness / 10), "status": np.zeros(len(function), int)}
        unit |= {"accuracy": np.where((function == "parity") & (not learned), 0.5, 1.0), "epochs": unit["seed"]}
        found[n,] = unit
    return config, {"length": found}


GROWING = {"parity": 2.0, "majority": 0.0, "first": -0.5, "mean": 0.0}


def test_planted_growth_is_found_and_its_absence_too():
    config, results = planted(GROWING)
    table = {(r["quantity"], r["function"], r["models"]): r for r in judging.slope_rows(config, results)}
    for name, slope in GROWING.items():
        assert table["sharpness", name, "converged"]["mean"] == pytest.approx(slope, abs=0.03)
    assert table["sharpness", "parity - first", "all"]["mean"] == pytest.approx(2.5, abs=0.03)
    claims = judging.slope_claims(list(table.values()), 64)
    assert {c.verdict for c in claims} == {"supported"}
    assert len(claims) == 14
    flat = judging.slope_claims(judging.slope_rows(*planted({**GROWING, "parity": -0.5, "majority": 2.0})), 64)
    wrong = {c.quantity for c in flat if c.verdict == "contradicted" and "sharpness" in c.claim}
    kind = "slope of ln sharpness against ln n, {}, converged models"
    assert {kind.format(name) for name in ("parity", "majority", "parity - majority", "parity - mean")} <= wrong


def test_models_that_did_not_converge_judge_no_sharpness():
    config, results = planted(GROWING, learned=False)
    claims = judging.slope_claims(judging.slope_rows(config, results), 64)
    verdicts = {c.quantity: c.verdict for c in claims}
    assert verdicts["slope of ln sharpness against ln n, parity, converged models"] == "inconclusive"
    assert verdicts["slope of ln sharpness against ln n, majority, converged models"] == "supported"
    assert verdicts["slope of ln loss against ln n, parity, all models"] == "supported"
    pairs = judging.pair_claims(judging.pair_rows(config, results))
    assert {c.verdict for c in pairs if "parity" in c.quantity} == {"inconclusive"}
    shorter = judging.slope_rows(*planted(GROWING, lengths=(4, 8)))
    assert all(row["low"] is None and row["seeds"] == 0 for row in shorter), "two lengths would fit any law"


def test_pairs_are_compared_within_a_seed():
    config, results = planted(GROWING)
    for row, unit in zip(judging.pair_rows(config, results)[::2], results["length"].values(), strict=True):
        by = {f: unit["sharpness"][unit["function"] == f] for f in setting.FUNCTIONS}
        assert (row["sharper"], row["flatter"], row["pairs"]) == ("parity", "majority", 4)
        assert row["mean"] == pytest.approx((by["parity"] - by["majority"]).mean())
    verdicts = {c.quantity: c.verdict for c in judging.pair_claims(judging.pair_rows(config, results))}
    assert verdicts["sharpness of parity minus that of majority, n = 32"] == "supported"
    assert verdicts["sharpness of majority minus that of first, n = 4"] == "supported"


def test_diverged_models_are_counted_and_not_averaged():
    config, results = planted(GROWING)
    unit = results["length"][8,]
    unit["status"][0] = many_models.DIVERGED
    for name in report.MEASURED:
        unit[name][0] = np.nan
    found = {(r["length"], r["function"], r["quantity"]): r for r in report.length_rows(config, results)}
    row = found[8, "parity", "loss"]
    assert (row["models"], row["converged"], row["diverged"], row["used"]) == (4, 3, 1, 3)
    assert row["mean"] == pytest.approx(np.nanmean(unit["loss"][unit["function"] == "parity"]))
    share = found[8, "parity", "converged_share"]
    assert share["low"] < share["mean"] == 0.75 < share["high"]
    lost = {
        "accuracy": np.ones(2),
        "loss": np.zeros(2),
        "status": np.array([many_models.TRAINING, many_models.DIVERGED]),
    }
    assert judging.converged(lost, "parity").tolist() == judging.converged(lost, "mean").tolist() == [True, False]
    slope = next(r for r in judging.slope_rows(config, results) if r["function"] == "parity")
    assert slope["seeds"] == 4, "the other lengths of the seed are still there"


def test_the_tradeoff_and_the_training_sizes_are_judged():
    count = 40
    norm = np.linspace(10, 20, count)
    found = {"weight_norm": norm, "blow_up_median": 1e4 / norm**2, "accuracy": np.ones(count), "loss": norm}
    found |= {"status": np.zeros(count, int)}
    assert [c.verdict for c in judging.tradeoff_claims(SMOKE, found)] == ["supported", ""]
    found["blow_up_median"] = norm
    assert judging.tradeoff_claims(SMOKE, found)[0].verdict == "contradicted"
    found["accuracy"] = np.full(count, 0.99)
    assert judging.tradeoff_claims(SMOKE, found)[0].verdict == "inconclusive"
    functions, size = (a.ravel() for a in np.meshgrid(np.arange(4), SMOKE.function_sizes, indexing="ij"))
    few = size == 8
    learned = {"function": functions, "size": size, "train_accuracy": np.ones(8), "status": np.zeros(8, int)}
    learned |= {"target_sensitivity": 2 + functions / 4, "sensitivity": 2 + functions / 4 - few}
    learned |= {"unseen_accuracy": np.where(few, 0.5, np.nan)}
    table = judging.size_rows(SMOKE, learned)
    assert [c.verdict for c in judging.size_claims(SMOKE, table)] == ["supported", ""]
    assert table[0]["difference_mean"] == -1
    learned["train_accuracy"][few] = 0.9
    assert judging.size_claims(SMOKE, judging.size_rows(SMOKE, learned))[0].verdict == "inconclusive"


def test_a_run_leaves_what_it_promises(folder):
    assert {f"{name}.csv" for name in TABLES} | {f"{name}.png" for name in FIGURES} == set(contents(folder))
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"
    assert not (folder / "checkpoints").exists()
    models = rows(folder / "models.csv")
    assert [row["function"] for row in models] == list(setting.FUNCTIONS)
    means = {(row["function"], row["quantity"]): row["mean"] for row in rows(folder / "lengths.csv")}
    for row in models:
        for name in ("loss", "sharpness", "weight_norm", "sensitivity"):
            assert float(means[row["function"], name]) == pytest.approx(float(row[name]))
    first = next(row for row in models if row["function"] == "first")
    assert first["converged"] == "True"
    assert float(first["sensitivity"]) == 1, "a function that is learned has its sensitivity on every string"
    assert len(rows(folder / "tradeoff.csv")) == len(rows(folder / "random_functions.csv")) == 4
    for row in rows(folder / "comparison.csv"):
        assert row["verdict"] in harness.claims.VERDICTS
        if row["low"]:
            assert float(row["low"]) <= float(row["measured"]) <= float(row["high"])


def test_a_run_killed_after_training_goes_on_from_its_checkpoint_to_the_same_bytes(folder, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    for name in ("length-4", "random"):
        (again / "units" / f"{name}.npz").unlink()
    (again / "lengths.csv").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "measure", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            experiment.execute(SMOKE, again)
    assert (again / "checkpoints" / "length-4").is_dir()
    experiment.execute(SMOKE, again)
    assert contents(again) == contents(folder)
    assert not (again / "checkpoints").exists()


def test_members_that_diverge_are_recorded():
    found = experiment.by_length(dataclasses.replace(SMOKE, learning_rate=1e30), 4)
    assert (found["status"] == many_models.DIVERGED).all()
    assert np.isnan(found["sharpness"]).all()
    assert not judging.converged(found, found["function"]).any()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seeds", 0), ("lengths", (8, 4)), ("noise", 0.0), ("weight_decay", -1.0), ("scheme", "kaiming"), ("steps", 65),
        ("tradeoff_group", 3), ("tradeoff_rates", (1e-3, 1e-4)), ("function_sizes", (8, 32)), ("function_sizes", (3,)),
        ("function_length", 17),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(SMOKE, **{field: value})
