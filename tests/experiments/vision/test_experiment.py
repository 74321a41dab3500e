import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import harness
from experiments.images import config as image_setting
from experiments.images import training
from experiments.vision import experiment, report

pytestmark = pytest.mark.usefixtures("quick_compiling")

SMOKE = experiment.PRESETS["smoke"]
TABLES = ("models", "architectures", "training", "differences", "comparison")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return experiment.execute(SMOKE, tmp_path_factory.mktemp("vision") / "run")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_what_it_promises(folder, capsys):
    for name in TABLES:
        assert read(folder / f"{name}.csv")
    for name in ("training", "sensitivity", "sharpness", "map"):
        assert (folder / f"{name}.png").stat().st_size > 10_000
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    recorded = manifest["sessions"][0]["recorded"]
    assert recorded["budget_bytes"] > 0
    assert set(recorded["chunk"]) == set(SMOKE.architectures)
    experiment.execute(SMOKE, folder)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*SMOKE.architectures, "token sensitivity", "prediction sharpness"))


def test_tables_hang_together(folder):
    models, architectures = read(folder / "models.csv"), read(folder / "architectures.csv")
    assert len(models) == len(SMOKE.architectures) * SMOKE.seeds
    for row in architectures:
        own = [model for model in models if model["architecture"] == row["architecture"]]
        for quantity in report.QUANTITIES:
            mean = np.mean([float(model[f"{quantity}_mean"]) for model in own])
            np.testing.assert_allclose(float(row[f"{quantity}_mean"]), mean, rtol=1e-12)
            assert float(row[f"{quantity}_low"]) <= mean <= float(row[f"{quantity}_high"])
    means = {row["architecture"]: float(row["sensitivity_mean"]) for row in architectures}
    pair = next(
        row
        for row in read(folder / "differences.csv")
        if (row["first"], row["second"], row["quantity"]) == ("vit", "mlp", "sensitivity")
    )
    np.testing.assert_allclose(float(pair["difference_mean"]), means["vit"] - means["mlp"], atol=1e-12)
    columns = {column for name in TABLES for row in read(folder / f"{name}.csv") for column in row}
    assert not [name for name in columns if "seconds" in name or "time" in name], "timings belong into the manifest"


def test_claims_are_judged_with_seeds_only(folder):
    rows = read(folder / "comparison.csv")
    assert {row["claim"] for row in rows} == {"", "C13"}, "the paper says nothing of the digits"
    assert {row["verdict"] for row in rows if row["claim"]} == {"inconclusive"}, "two seeds cannot tell"
    assert all("digits" in row["quantity"] and "accuracies are not matched" in row["note"] for row in rows)


def fake(sensitivities, sharpness=1.0, seeds=3):
    """Results of models whose sensitivities are known."""
    rng = np.random.default_rng(0)
    return [
        {
            "learning_rate": np.float64(0.1),
            "parameters": np.int64(10),
            "losses": np.ones(2),
            "test_correct": rng.random(50) < 0.9,
            "curve_epochs": np.arange(2),
            "curve_sensitivity": rng.random((2, 5)),
            "curve_accuracy": rng.random((2, 5)) < 0.5,
            "sensitivity": (rng.random((200, 4)) < sensitivities).astype(float),
            "output_sharpness": sharpness * (1 + 0.01 * rng.normal(size=6)),
            "prediction_sharpness": 0.1 * sharpness * rng.random(6),
            "scale": np.float64(sharpness),
        }
        for _ in range(seeds)
    ]


@pytest.mark.parametrize(
    ("vit", "mlp", "verdict"), [(0.1, 0.3, "supported"), (0.3, 0.1, "contradicted"), (0.2, 0.2, "inconclusive")]
)
def test_verdicts_follow_the_paired_difference(vit, mlp, verdict):
    config = replace(SMOKE, seeds=3)
    results = {"vit": fake(vit), "mlp": fake(mlp), "convmixer": fake(mlp)}
    table = {name: {q: report.overall(found, q) for q in report.QUANTITIES} for name, found in results.items()}
    for dataset, expected in (("fashion_mnist", verdict), ("digits", "")):
        claims = report._claims(replace(config, dataset=dataset), DATA, results, table)
        row = next(claim for claim in claims if "vit minus mlp" in claim.quantity)
        assert row.verdict == expected
        row = next(claim for claim in claims if "vit minus convmixer" in claim.quantity)
        assert (row.claim, row.verdict) == ("", ""), "the paper has no ConvMixer on these"
    np.testing.assert_allclose(row.measured, vit - mlp, atol=0.03)


def test_flatness_is_judged_with_the_size_of_the_function_divided_out():
    """Half the sharpness at half the logits is a smaller function, not a flatter one."""
    results = {"vit": fake(0.1, sharpness=2.0), "vit_regularised": fake(0.1, sharpness=1.0)}
    rows = report._flatness(replace(SMOKE, seeds=3), results, "")
    assert rows[0]["verdict"] == "supported"
    assert rows[-1]["verdict"] == "inconclusive"
    assert "control" in rows[-1]["place"]


DATA = image_setting.Data("", (28, 28, 1), 10, *[(np.zeros(0), np.zeros(0))] * 3)

BAD = {
    "dataset must be one of": {"dataset": "cifar100"},
    "architectures must be some of": {"architectures": ("vit", "resnet")},
    "architectures must differ": {"architectures": ("vit", "vit")},
    "draws must be at least 1": {"draws": 0},
    "validation must lie": {"validation": 1.0},
    "variance must be": {"variance": -1.0},
    "learning_rates must be positive": {"learning_rates": ()},
    "learning_rates must differ": {"learning_rates": (0.1, 0.1)},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_settings_are_named(match):
    with pytest.raises(ValueError, match=match):
        replace(SMOKE, **BAD[match])


def test_what_cannot_run_says_so_at_once(folder, tmp_path):
    with pytest.raises(ValueError, match="patch=3 does not divide"):
        experiment.execute(replace(SMOKE, patch=3), tmp_path / "a")
    with pytest.raises(ValueError, match="train_examples must leave a batch"):
        experiment.execute(replace(SMOKE, train_examples=20), tmp_path / "b")
    with pytest.raises(ValueError, match="looked in"):
        experiment.execute(replace(SMOKE, dataset="svhn_cropped", data_dir=str(tmp_path)), tmp_path / "c")
    with pytest.raises(ValueError, match="variant must be 'small' for vit on digits"):
        experiment.execute(replace(SMOKE, variant="paper"), tmp_path / "d")
    with pytest.raises(ValueError, match=r"another configuration.*draws: 2, now 3"):
        experiment.execute(replace(SMOKE, draws=3), folder)


def test_the_papers_sizes_are_built_for_the_papers_data():
    config = replace(experiment.PRESETS["paper"], dataset="fashion_mnist")
    module = training.build(config, DATA, "vit")
    assert (module.config.depth, module.config.heads, module.config.hidden) == (2, 8, 256)
    for variant in ("paper", "small"):
        sized = replace(config, variant=variant)
        assert training.build(sized, DATA, "vit_patch_norm").config.normalize_patches
        assert not training.build(sized, DATA, "vit").config.normalize_patches
    for dataset in ("mnist", "fashion_mnist", "cifar10", "svhn_cropped"):
        for architecture in image_setting.TREATMENTS:
            training.build(replace(config, dataset=dataset), DATA, architecture)


def test_a_rate_that_diverges_is_not_chosen(monkeypatch):
    def explode(*args, **kwargs):
        raise training.training.Diverged("nan")

    monkeypatch.setattr(training, "train", explode)
    assert training.try_rate(SMOKE, None, "mlp", 1e9) == {"validation_accuracy": 0.0, "diverged": True}


def test_the_rate_with_the_best_validation_accuracy_is_chosen(tmp_path, monkeypatch):
    accuracies = {0.1: 0.2, 0.2: 0.9, 0.3: 0.0}
    monkeypatch.setattr(
        training,
        "try_rate",
        lambda config, data, name, rate: {"validation_accuracy": accuracies[rate], "diverged": False},
    )
    config = replace(SMOKE, architectures=("mlp",), learning_rates=tuple(accuracies), seeds=1)
    experiment.execute(config, tmp_path / "run")
    assert {row["learning_rate"] for row in read(tmp_path / "run" / "models.csv")} == {"0.2"}


def test_other_images_of_the_same_name_are_refused(tmp_path, monkeypatch):
    config = replace(SMOKE, architectures=("mlp",), seeds=1)
    experiment.execute(config, tmp_path / "run")
    data = image_setting.load(config)
    monkeypatch.setattr(experiment, "load", lambda config: replace(data, test=(data.test[0] + 1e-3, data.test[1])))
    with pytest.raises(ValueError, match="data_dir holds other images of digits"):
        experiment.execute(config, tmp_path / "run")


def command(out, cache, *flags):
    words = [sys.executable, "-m", "experiments.vision", "--preset", "smoke", "--out", str(out), *flags]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "XLA_FLAGS": ""}
    root = Path(__file__).parents[3]
    return subprocess.Popen(words, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed_when(process, happened):
    while process.poll() is None:
        if happened():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.002)
    pytest.fail("the run ended before it could be killed")


def check_killed_runs_end_the_same(tmp_path, flags, moments):
    """Kill when the named file appears, start again, and so on; then compare with a run that was left alone."""
    cache = tmp_path / "cache"
    assert command(tmp_path / "whole", cache, *flags).wait() == 0
    out = tmp_path / "killed"
    for moment in moments:
        killed_when(command(out, cache, *flags), lambda moment=moment: any(out.glob(moment)))
    assert command(out, cache, *flags).wait() == 0
    for name in TABLES:
        if (tmp_path / "whole" / f"{name}.csv").exists():
            assert (out / f"{name}.csv").read_bytes() == (tmp_path / "whole" / f"{name}.csv").read_bytes()
    sessions = json.loads((out / "manifest.json").read_text())["sessions"]
    assert [session["status"] for session in sessions] == ["killed"] * len(moments) + ["finished"]


def test_killed_and_started_again_a_run_ends_with_the_same_bytes(tmp_path):
    flags = ["--architectures", "mlp", "--checkpoints"]
    moments = ["checkpoints/mlp-seed0/1", "units/mlp-seed1-epoch1.npz", "models.csv"]
    check_killed_runs_end_the_same(tmp_path, flags, moments)


@pytest.mark.slow
def test_killed_and_started_again_transformers_too(tmp_path):
    flags = ["--architectures", "vit,cnn,convmixer", "--checkpoints"]
    moments = ["units/vit-rate*", "checkpoints/vit-seed0/1", "units/cnn-seed0*", "checkpoints/convmixer-seed1/2"]
    check_killed_runs_end_the_same(tmp_path, flags, moments)


def test_flags_reach_the_configuration():
    words = ["--preset", "smoke", "--architectures", "vit,mlp", "--learning-rates", "0.1,0.2", "--seed", "7"]
    found = harness.parse("vision", experiment.PRESETS, words, out_fields=("dataset",))
    assert found.config == replace(SMOKE, architectures=("vit", "mlp"), learning_rates=(0.1, 0.2), seed=7)
    assert found.out == Path("runs/vision-smoke-digits")
