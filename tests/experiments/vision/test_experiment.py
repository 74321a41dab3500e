"""Laws of the vision experiment: its tables agree, verdicts follow from differences, training resumes."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from flax import linen as nn
from scipy import special

from experiments.images.bench import Bench
from experiments.images.data import load
from experiments.vision import conditions, experiment, matched, measure
from experiments.vision.claims import claims
from experiments.vision.estimates import QUANTITIES, summarize
from jaxsens.data.images import ImageData

SMOKE = experiment.PRESETS["smoke"]
SEARCHED = replace(SMOKE, seeds=3, learning_rates=(0.03, 0.1, 0.3))


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_means_of_architectures_are_those_of_their_models(smoke_run):
    folder = smoke_run("vision")
    models, architectures = read(folder / "models.csv"), read(folder / "architectures.csv")
    assert len(models) == len(SMOKE.architectures) * SMOKE.seeds
    for row in architectures:
        seeds = [model for model in models if model["architecture"] == row["architecture"]]
        for quantity in QUANTITIES:
            mean = np.mean([float(model[f"{quantity}_mean"]) for model in seeds])
            np.testing.assert_allclose(float(row[f"{quantity}_mean"]), mean, rtol=1e-12)
    means = {row["architecture"]: float(row["sensitivity_mean"]) for row in architectures}
    differences = {(row["subject"], row["reference"], row["quantity"]): row for row in read(folder / "differences.csv")}
    difference = float(differences["vit", "mlp", "sensitivity"]["difference_mean"])
    np.testing.assert_allclose(difference, means["vit"] - means["mlp"], atol=1e-12)
    assert ("vit", "vit_regularized", "output_sharpness") in differences
    assert ("vit", "mlp", "output_sharpness") not in differences, "models of two sizes share no draws of weights"


def test_two_seeds_are_inconclusive_and_the_setting_stands_in_the_manifest(smoke_run):
    folder = smoke_run("vision")
    rows = read(folder / "comparison.csv")
    assert {row["claim"] for row in rows} == {"", "C13"}, "the paper has no claim about the digits"
    assert {row["verdict"] for row in rows if row["claim"]} == {"inconclusive"}
    assert {(row["subject"], row["reference"]) for row in rows} >= {("vit", ""), ("vit_regularized", "vit")}
    assert {row["dataset"] for row in rows} == {"digits"}
    recorded = json.loads((folder / "manifest.json").read_text())["sessions"][0]["recorded"]
    assert "accuracies are not matched" in recorded["setting"]
    assert set(recorded["chunk"]) == set(SMOKE.architectures)


def invented(sensitivity, sharpness=1.0, seeds=3):
    """Results of models with known sensitivities."""
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
            "sensitivity": (rng.random((200, 4)) < sensitivity).astype(float),
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
    findings = summarize(SEARCHED, {"vit": invented(vit), "mlp": invented(mlp), "convmixer": invented(mlp)})
    for dataset, expected in (("fashion_mnist", verdict), ("digits", "")):
        rows = claims(dataset, findings)
        compared = {(row.subject, row.reference): row for row in rows}
        assert compared["vit", "mlp"].verdict == expected
        assert compared["vit", "mlp"].units == (3 if expected else None), "models, not images"
        row = compared["vit", "convmixer"]
        assert (row.claim, row.verdict) == ("", ""), "the paper has no ConvMixer on these"
    assert row.quantity == "token sensitivity, difference of logits"
    np.testing.assert_allclose(row.measured, special.logit(vit) - special.logit(mlp), atol=0.3)


def test_a_rate_of_an_image_is_one_of_its_tokens_times_draws():
    """The mean of a model on the logit scale is that of all its predictions, ``ln((c + 1/2) / (N - c + 1/2))``."""
    config, results = replace(SEARCHED, draws=5), {"vit": invented(0.02), "mlp": invented(0.2)}
    of_models = {}
    for name, models in results.items():
        changed = np.array([5 * model["sensitivity"].sum() for model in models])
        of_models[name] = np.log((changed + 0.5) / (5 * 200 * 4 - changed + 0.5))
    found = summarize(config, results).logits["vit", "mlp"]["sensitivity"].mean
    np.testing.assert_allclose(found, of_models["vit"].mean() - of_models["mlp"].mean(), rtol=1e-12)


def test_the_best_rate_lies_inside_of_the_grid_or_there_is_no_verdict():
    results = {"vit": invented(0.1), "mlp": invented(0.3)}
    for grid, reason in (((0.03, 0.1), "no grid of learning rates of vit: 2 tried"), ((0.03, 0.05, 0.1), "edge")):
        searched = replace(SEARCHED, learning_rates=grid)
        row = claims("fashion_mnist", summarize(searched, results))[-1]
        assert row.verdict == "inconclusive"
        assert reason in row.reason
    grown = {
        name: [model | {"rates_tried": np.array([0.03, 0.05, 0.1, 0.2])} for model in results[name]] for name in results
    }
    assert claims("fashion_mnist", summarize(searched, grown))[-1].verdict == "supported"


def test_flatness_is_judged_with_the_size_of_the_function_divided_out():
    """Half the sharpness at half the logits is a smaller function, not a flatter one."""
    findings = summarize(
        SEARCHED, {"vit": invented(0.1, sharpness=2.0), "vit_regularized": invented(0.1, sharpness=1.0)}
    )
    rows = [row for row in claims("digits", findings) if row.claim == "C13"]
    assert (rows[0].verdict, rows[-1].verdict) == ("supported", "inconclusive")
    assert "Holm's correction for 3 verdicts" in rows[0].rule
    assert "control" in rows[-1].place


@pytest.mark.whole
@pytest.mark.parametrize(("seeds", "folder"), [(1, "mlp-seed0"), (2, "mlp-rate0.003")])
def test_a_training_that_was_stopped_resumes_from_its_checkpoint_to_the_same_tables(
    tmp_path, monkeypatch, seeds, folder
):
    """Of one model, and of two that are trained together."""
    config = replace(SMOKE, architectures=("mlp",), curve_points=3)  # measures at epochs 0, 1 and 2
    config = replace(config, seeds=seeds, models_per_device=seeds)
    whole, out, point = tmp_path / "whole", tmp_path / "stopped", measure._point
    experiment.execute(config, whole)

    def stop_after_the_first_epoch(bench, apply, variables):
        if (out / "units" / "mlp-seed0-epoch1.npz").exists():
            raise KeyboardInterrupt
        return point(bench, apply, variables)

    monkeypatch.setattr(measure, "_point", stop_after_the_first_epoch)
    with pytest.raises(KeyboardInterrupt):
        experiment.execute(replace(config, checkpoints=True), out)
    assert list((out / "checkpoints" / folder).iterdir())
    monkeypatch.undo()
    if seeds > 1:
        with pytest.raises(ValueError, match="was begun with other models_per_device"):
            experiment.execute(replace(config, models_per_device=1), out)
    experiment.execute(replace(config, checkpoints=True), out)
    for table in whole.glob("*.csv"):
        assert (out / table.name).read_bytes() == table.read_bytes(), table.name


def test_a_measurement_lost_behind_a_checkpoint_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"mlp-seed0 at epoch 1 is missing.*delete the folder checkpoints/mlp-seed0"):
        measure._lost("mlp-seed0", 1)


def test_an_accuracy_that_falls_between_two_measurements_is_interpolated_where_it_is_first_reached():
    accuracy, sensitivity = [0.1, 0.5, 0.4, 0.9], np.array([[0.0, 0.2], [0.4, 0.2], [0.6, 0.0], [0.8, 1.0]])
    np.testing.assert_allclose(matched.at_accuracy(accuracy, sensitivity, 0.3), [0.2, 0.2])
    np.testing.assert_allclose(matched.at_accuracy(accuracy, sensitivity, 0.7), [0.72, 0.6])
    fallen = matched.at_accuracy([0.1, 0.6, 0.3, 0.9], np.array([[0.5], [0.1], [0.4], [0.2]]), 0.7)
    np.testing.assert_allclose(fallen, 0.4 - 0.2 * (0.7 - 0.3) / (0.9 - 0.3), err_msg="between the last two points")
    np.testing.assert_allclose(matched.at_accuracy(accuracy, sensitivity, 0.05), [0.0, 0.2])
    with pytest.raises(ValueError, match=r"level must be at most the largest accuracy, 0\.9"):
        matched.at_accuracy(accuracy, sensitivity, 0.95)


def during_training(share, last):
    """Models whose sensitivity is a share of their accuracy, all through their training."""
    models = invented(share * last)
    at = np.linspace(0, last, 6)
    for model in models:
        model["curve_epochs"] = np.arange(6)
        model["curve_sensitivity"] = share * at[:, None] * np.linspace(0.5, 1.5, 40)
        model["curve_accuracy"] = model["curve_train_accuracy"] = np.repeat(at[:, None], 40, 1)
        model["curve_sensitivity"] += 1e-3 * np.random.default_rng(len(models)).random((6, 40))
    models[0]["curve_sensitivity"] *= 1.01
    return models


def test_what_follows_from_accuracy_alone_is_no_difference_at_equal_accuracy():
    for share, verdict in ((0.4, "inconclusive"), (0.1, "supported")):
        results = {"vit": during_training(share, 0.5), "mlp": during_training(0.4, 0.9)}
        compared = matched.compare(results, 4)
        np.testing.assert_allclose(compared["test", "vit", "mlp"].accuracies, 0.5)
        rows = claims("fashion_mnist", summarize(SEARCHED, results), compared)
        found = {row.claim: row for row in rows if row.reference == "mlp"}
        assert found["C1"].verdict == "supported", "it is less sensitive, as it is less accurate"
        for kind in ("training", "test"):
            row = found[f"C1, equal {kind} accuracy"]
            assert (row.verdict, row.units) == (verdict, 3)


def test_depth_heads_and_optimizer_are_compared_with_the_others_and_with_the_plain_transformer():
    results = {"vit": invented(0.1), "vit_depth_4": invented(0.1), "vit_adam": invented(0.5), "mlp": invented(0.3)}
    rows = claims("fashion_mnist", summarize(SEARCHED, results))
    found = {(row.subject, row.reference): row for row in rows if row.claim == "C15"}
    assert {pair: row.verdict for pair, row in found.items()} == {
        ("vit_depth_4", "mlp"): "supported", ("vit_depth_4", "vit"): "supported",
        ("vit_adam", "mlp"): "contradicted", ("vit_adam", "vit"): "contradicted",
    }  # fmt: skip
    assert found["vit_adam", "vit"].rule.startswith("mean within")


def first_pixel(variables, tokens):
    return tokens[:, 0, :2] * np.float32([[1, 0]])


def test_squares_of_another_side_and_the_whole_image_are_the_same_function_of_the_pixels():
    """Only the first pixel decides: of 64, 4 and 1 squares it is in one; noise on any other changes nothing."""
    config = replace(SMOKE, measured=20, squares=(1, 4), whole_variances=(1.0,), test_images=True, variances=(1.0,))
    bench = Bench(config, load(config))
    found = conditions.measure(bench, first_pixel, {}, "first pixel")
    assert set(found) == {
        "sensitivity_train_1_1",
        "sensitivity_train_4_1",
        "sensitivity_train_whole_1",
        "sensitivity_test_2_1",
    }
    whole = found["sensitivity_train_whole_1"].mean()
    assert whole > 0.1
    for square, count in ((1, 64), (4, 4)):
        shares = found[f"sensitivity_train_{square}_1"] * count
        assert set(shares) <= {0.0, 0.5, 1.0}, "two draws, one square"
        assert shares.mean() == pytest.approx(whole, abs=0.3)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, tokens, mask=None, train=False):
        return nn.Dense(2)(tokens.reshape(len(tokens), -1))


def first_pixels(variables, tokens):
    return tokens[:, 0, :2] * variables["scale"]


@pytest.mark.whole
def test_the_users_images_and_models_are_measured_and_others_refused(tmp_path):
    draws = np.random.default_rng(0)
    split = [(draws.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8), np.arange(n) % 2) for n in (40, 10)]
    data = ImageData("mine", *split[0], *split[1], classes=2, source="made here")
    config = replace(
        SMOKE, architectures=("mlp",), seeds=1, patch=2, variance=0.5, train_examples=40, matched=True,
        test_images=True, variances=(2.0,),
    )  # fmt: skip
    models = {"linear": Linear(), "pixels": (first_pixels, {"scale": np.float32(2)})}
    folder = experiment.execute(config, tmp_path / "run", data, models)
    rows = {row["architecture"]: row for row in read(folder / "models.csv")}
    assert list(rows) == ["mlp", "linear", "pixels"]
    assert (rows["pixels"]["parameters"], rows["pixels"]["learning_rate"]) == ("1", "")
    assert rows["linear"]["parameters"] == "34"
    assert {row["dataset"] for row in read(folder / "comparison.csv")} == {"mine"}
    assert {row["architecture"] for row in read(folder / "training.csv")} == {"mlp", "linear"}
    of_pixels = [row for row in read(folder / "conditions.csv") if row["architecture"] == "pixels"]
    assert [(row["images"], row["variance"], row["square"]) for row in of_pixels] == [
        ("train", "0.5", "2"), ("train", "2.0", "2"), ("test", "0.5", "2")
    ]  # fmt: skip
    assert {(row["subject"], row["reference"]) for row in read(folder / "matched.csv")} == {("linear", "mlp")}
    # The first two pixels decide: no noise on another patch changes the prediction.
    apply_map = np.load(folder / "units" / "pixels-given.npz")["sensitivity"]
    assert apply_map[:, 0].any()
    assert not apply_map[:, 1:].any()
    with pytest.raises(ValueError, match="begun with other images"):
        experiment.execute(config, folder, replace(data, train_images=data.train_images[::-1]), models)
    with pytest.raises(ValueError, match="begun with other models"):
        experiment.execute(config, folder, data, models | {"pixels": (first_pixels, {"scale": np.float32(3)})})
