"""Laws of the robustness experiment: its tables agree, verdicts follow from paired differences and partial ranks."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from experiments.harness import verdicts
from experiments.robustness import experiment
from experiments.robustness.claims import claims, uses
from experiments.robustness.estimates import summarize, units
from experiments.robustness.quantities import quantities
from jaxsens.corruptions import COMMON, CorruptionError
from jaxsens.data import images
from jaxsens.statistics.correlation import rank_correlation

SMOKE = experiment.PRESETS["smoke"]
RATES = (0.001, 0.003, 0.01)
INVENTED = replace(SMOKE, learning_rates=RATES, severities=(1, 2), corruptions=("gaussian_noise", "fog", "contrast"))


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_agree(smoke_run, smoke_config):
    folder, config = smoke_run("robustness"), smoke_config("robustness")
    models = read(folder / "models.csv")
    assert [row["model"] for row in models] == ["mlp"] * 3 + ["mlp_regularized"] * 3
    levels = {(row["model"], row["quantity"]): row for row in read(folder / "treatments.csv")}
    differences = {row["quantity"]: row for row in read(folder / "differences.csv")}
    assert {(row["subject"], row["reference"]) for row in differences.values()} == {("mlp_regularized", "mlp")}
    for quantity in quantities(config):
        means = {
            name: np.mean([float(row[quantity]) for row in models if row["model"] == name])
            for name in ("mlp", "mlp_regularized")
        }
        for name, mean in means.items():
            np.testing.assert_allclose(float(levels[name, quantity]["mean"]), mean, rtol=1e-9, atol=1e-12)
        expected = means["mlp_regularized"] - means["mlp"]
        np.testing.assert_allclose(float(differences[quantity]["mean"]), expected, rtol=1e-6, atol=1e-9)
    accuracies = [float(row["accuracy"]) for row in read(folder / "corruptions.csv") if row["model"] == "mlp"]
    assert len(accuracies) == len(config.corruptions) * len(config.severities)
    np.testing.assert_allclose(1 - np.mean(accuracies), float(levels["mlp", "corruption_error"]["mean"]))
    assert float(levels["mlp", "relative_corruption_error"]["mean"]) == pytest.approx(1), "it is its own reference"


def invented(sensitivity, corrupted, clean=0.2, seeds=3, key=0):
    """Results of models with known rates; the models of a seed see the same images, harder by what is random of it."""
    rng = np.random.default_rng(key)
    models = []
    for seed in range(seeds):
        hard = np.linspace(0, 1, 400)[:, None, None] + 0.02 * np.random.default_rng(seed).normal(size=(1, 3, 2))
        models.append(
            {
                "parameters": np.int64(10),
                "learning_rate": np.float64(0.003),
                "losses": np.ones(2),
                "train_correct": np.ones(50),
                "test_correct": np.linspace(0, 1, 500) > clean + 0.002 * seed,
                "sensitivity": (rng.random((200, 4)) < sensitivity).astype(float),
                "wrong": hard > 1 - corrupted,
                "wrong_clean": np.linspace(0, 1, 400) > 1 - clean,
                "output_sharpness": 1 + 0.01 * rng.normal(size=6),
                "prediction_sharpness": 0.1 * rng.random(6),
                "scale": np.float64(1.0),
            }
        )
    return models


def judged(results, claim, config=INVENTED):
    """Return the verdicts of a claim by subject, reference and quantity."""
    rows = claims(config, "cifar10", summarize(config, results))
    return {(row.subject, row.reference, row.quantity.partition(",")[0]): row for row in rows if row.claim == claim}


@pytest.mark.parametrize(
    ("treated", "verdict"),
    [((0.1, 0.3), "supported"), ((0.5, 0.6), "contradicted"), ((0.3, 0.4), "inconclusive")],
)
def test_verdicts_follow_the_difference_paired_over_seeds(treated, verdict):
    results = {"vit": invented(0.3, 0.4), "vit_regularized": invented(*treated, key=verdict == "inconclusive")}
    for row in judged(results, "C11").values():
        assert (row.verdict, row.units) == (verdict, 3), row.quantity
    assert not judged(results, "C12")
    errors = judged(results, "C11")["vit_regularized", "vit", "error on corrupted images"]
    np.testing.assert_allclose(errors.measured, treated[1] - 0.4, atol=0.005)
    assert errors.rule.startswith("mean below 0")


def test_a_rate_of_an_image_is_one_of_its_tokens_times_draws():
    config, results = replace(INVENTED, draws=5), {"vit": invented(0.2, 0.4), "vit_regularized": invented(0.02, 0.4)}
    of_models = {}
    for name, models in results.items():
        changed = np.array([5 * model["sensitivity"].sum() for model in models])
        of_models[name] = np.log((changed + 0.5) / (5 * 200 * 4 - changed + 0.5))
    found = summarize(config, results).logits["vit_regularized", "vit"].mean
    np.testing.assert_allclose(found, of_models["vit_regularized"].mean() - of_models["vit"].mean(), rtol=1e-12)


def test_a_rate_that_was_not_searched_with_a_treatment_decides_nothing_of_it():
    results = {"vit": invented(0.3, 0.4), "vit_regularized": invented(0.1, 0.3)}
    for shared, verdict in ((False, "supported"), (True, "inconclusive")):
        config = replace(INVENTED, shared_rate=shared)
        assert {row.verdict for row in judged(results, "C11", config).values()} == {verdict}
        design = uses(replace(config, architectures=("vit",)))["C11"].design
        assert bool(design.reason()) == shared
    row = judged(results, "C11", config)["vit_regularized", "vit", "error on corrupted images"]
    assert row.reason.startswith("no grid of learning rates of vit_regularized: 1 tried")
    for model in results["vit_regularized"]:
        model["learning_rate"] = np.float64(RATES[-1])
    row = judged(results, "C11")["vit_regularized", "vit", "error on corrupted images"]
    assert row.reason.startswith("best learning rate of vit_regularized, 0.01, is at the edge")


def test_a_control_decides_only_at_equal_clean_accuracy():
    results = {"vit": invented(0.3, 0.4), "vit_regularized": invented(0.1, 0.3), "vit_mixup": invented(0.3, 0.4)}
    pair = ("vit_regularized", "vit_mixup", "error on corrupted images")
    assert judged(results, "C11, control")[pair].verdict == "supported"
    results["vit_mixup"] = invented(0.3, 0.4, clean=0.25)
    row = judged(results, "C11, control")[pair]
    assert (row.verdict, row.reason) == ("inconclusive", "clean accuracies differ by 0.050; 0.02 is allowed")


def test_clean_accuracy_is_taken_out_of_the_rank_correlation():
    """What goes with sensitivity through the clean error only is no evidence; what is left beside it is."""
    names = [f"model{i}" for i in range(16)]
    quality = np.linspace(0.1, 0.4, len(names))
    noise = 0.02 * np.random.default_rng(3).normal(size=(2, len(names)))
    through = {
        name: invented(q + a, q + 0.2 + b, clean=q, key=i)
        for i, (name, q, a, b) in enumerate(zip(names, quality, *noise, strict=True))
    }
    beside = {
        name: invented(q, q + 0.2, clean=0.2 + 0.001 * (7 * i % 16), key=i)
        for i, (name, q) in enumerate(zip(names, quality, strict=True))
    }
    for results, verdict in ((through, "inconclusive"), (beside, "supported")):
        rows = [
            row for row in claims(INVENTED, "cifar10", summarize(INVENTED, results))
            if (row.claim, row.subject) == ("C10", "between architectures")
        ]  # fmt: skip
        assert [row.verdict for row in rows] == ["supported", verdict]
        assert rows[0].units == len(names), "the seeds of an architecture are one unit"
        assert rows[1].rule.startswith("partial rank correlation above 0")


def test_models_of_an_architecture_or_of_a_treatment_are_one_unit():
    """Sixteen models in perfect order are four architectures and four treatments: too few for a verdict."""
    names = [f"{plain}{treatment}" for plain in ("vit", "mlp", "cnn", "resnet") for treatment in ENDINGS]
    results = {name: invented(0.1 + 0.02 * i, 0.3 + 0.02 * i, key=i) for i, name in enumerate(names)}
    rows = [row for row in claims(INVENTED, "cifar10", summarize(INVENTED, results)) if row.claim == "C10"]
    assert [(row.subject, row.units, row.verdict) for row in rows] == [
        (f"between {scope}", 4, "inconclusive") for scope in ("architectures", "treatments") for _ in range(2)
    ]
    assert rows[0].reason.startswith("4 independent units; 10 are needed")
    assert [row.note.partition(",")[0] for row in rows[::2]] == ["12 models", "48 models"]


def test_units_keep_what_architectures_or_treatments_have_and_leave_out_the_other():
    effects = np.random.default_rng(0).normal(size=(2, 3, 5))
    values = {(f"a{i}", f"t{j}" if j else ""): a + 10 * effects[1, 0, j] for i, a in enumerate(effects[0, 0])
              for j in range(5)}  # fmt: skip
    found = units(values)
    np.testing.assert_array_equal(rankdata(found["architectures"]), rankdata(effects[0, 0]))
    np.testing.assert_array_equal(found["treatments"], rankdata(effects[1, 0]))
    given = units(values | {("given", ""): 0.5})
    assert given["architectures"][-1] == 0.5
    np.testing.assert_array_equal(given["treatments"], found["treatments"], "it was trained in one way only")


@pytest.mark.slow
def test_level_of_rank_correlations_where_architectures_and_treatments_have_effects(capsys):
    """Under the null of C10, "supported" is rare; it is not with every model as a unit. Shares are printed with -s."""
    repeats, count = 1000, 12
    keys = [(f"a{i}", f"t{j}" if j else "") for i in range(count) for j in range(count)]
    for architecture, treatment in ((1, 0), (0, 1), (1, 1)):
        rng, hits = np.random.default_rng(0), dict.fromkeys(("architectures", "treatments", "given", "models"), 0)
        for _ in range(repeats):
            rows = architecture * rng.normal(size=(3, count, 1)) + treatment * rng.normal(size=(3, 1, count))
            drawn = rows + 0.5 * rng.normal(size=(3, count, count))
            x, y, z = (units(dict(zip(keys, one.ravel(), strict=True))) for one in drawn)
            for scope in ("architectures", "treatments"):
                judged = verdicts.correlation(x[scope], y[scope], design=verdicts.NOT_TRAINED)
                hits[scope] += judged.name == "supported"
            partial = verdicts.correlation(
                x["treatments"], y["treatments"], covariate=z["treatments"], design=verdicts.NOT_TRAINED
            )
            hits["given"] += partial.name == "supported"
            every = rank_correlation(*(one.ravel() for one in drawn[:2]))
            hits["models"] += every[1] > 0
        shares = {name: number / repeats for name, number in hits.items()}
        with capsys.disabled():
            print(f"\neffects of architectures {architecture}, of treatments {treatment}: {shares}", end="")
        assert shares.pop("models") > 0.1
        assert max(shares.values()) <= 0.03 + 3 * np.sqrt(0.03 * 0.97 / repeats)


ENDINGS = ("", "_regularized", "_augmented", "_mixup")


def test_accuracies_beside_the_published_ones_are_means_without_gaussian_noise():
    """The paper has 14 of the 15 corruptions; a run with others has nothing to be compared with."""
    for names, published in ((COMMON, 0.567), (("gaussian_noise", "fog"), None)):
        config, results = replace(INVENTED, corruptions=names), {"resnet": invented(0.3, 0.4)}
        wrong = np.random.default_rng(0).random((3, 400, len(names), 2)) < np.linspace(0.1, 0.9, len(names))[:, None]
        for model, one in zip(results["resnet"], wrong, strict=True):
            model["wrong"] = one
        rows = claims(config, "cifar10", summarize(config, results))
        (row,) = [row for row in rows if row.quantity.startswith("accuracy")]
        assert row.quantity == f"accuracy, mean over {len(names) - 1} corruptions without gaussian_noise, severity 2"
        np.testing.assert_allclose(row.measured, 1 - wrong[:, :, 1:, 1].mean())
        assert row.published == published


def test_relative_errors_are_those_of_the_result_of_the_library():
    results = {"vit": invented(0.3, 0.4), "mlp": invented(0.3, 0.6)}
    relative = summarize(INVENTED, results).relative
    kinds = (INVENTED.corruptions, INVENTED.severities, "cifar10")
    pairs = [
        [CorruptionError(results[name][seed]["wrong"], results[name][seed]["wrong_clean"], *kinds) for name in results]
        for seed in range(3)
    ]
    expected = np.mean([mlp.relative_to(vit).mean for vit, mlp in pairs])
    np.testing.assert_allclose(relative["mlp"][0].mean, expected)
    expected = np.mean([mlp.relative_to(vit, degradation=True).mean for vit, mlp in pairs])
    np.testing.assert_allclose(relative["mlp"][1].mean, expected)
    perfect = {"vit": invented(0.3, 0.0, clean=0.0), "mlp": invented(0.3, 0.6)}
    assert summarize(INVENTED, perfect).relative["mlp"] == (None, None), "no ratio to a model without errors"


def test_the_papers_rates_are_those_of_its_interventions():
    paper = experiment.PRESETS["paper"]
    rates = {name: paper.rates(name)[0] for name in ("vit_small_data", "resnet_mixup", "vit_small_data_regularized")}
    assert rates == {"vit_small_data": 0.1, "resnet_mixup": 0.001, "vit_small_data_regularized": 0.16}
    assert paper.rates("vit_small_data_augmented") == (0.2,)
    assert SMOKE.searched("vit_mixup") == "vit_mixup", "every treatment has its own search"
    assert replace(SMOKE, shared_rate=True).searched("vit_mixup") == "vit"
    assert paper.searched("vit_mixup") == "vit_mixup"


def pixels(variables, tokens):
    return tokens.reshape(len(tokens), -1)[:, :10] * variables["scale"]


@pytest.mark.whole
def test_the_users_models_and_images_are_measured_and_what_does_not_fit_is_refused(tmp_path):
    digits = images.load("digits")
    config = replace(SMOKE, treatments=(), seeds=1, patch=2, variance=1.0, corruptions=("contrast",), reference="fixed")
    models = {"fixed": (pixels, {"scale": np.float32(2)})}
    folder = experiment.execute(config, tmp_path / "run", digits, models)
    rows = {row["model"]: row for row in read(folder / "models.csv")}
    assert list(rows) == ["mlp", "fixed"]
    assert (rows["fixed"]["parameters"], rows["fixed"]["learning_rate"]) == ("1", "")
    for match, change, given in (
        ("'saturate' needs images in color", {"corruptions": ("saturate",)}, models),
        ("reference must be one of mlp", {}, {}),
        ("mlp has no dropout", {"treatments": ("dropout",)}, models),
    ):
        with pytest.raises(ValueError, match=match):
            experiment.execute(replace(config, **change), tmp_path / "other", digits, given)
    for match, change in {
        "corruptions must be of": {"corruptions": ("rain",)},
        "severities must be below 6": {"severities": (6,)},
        "treatments must be of": {"treatments": ("cutout",)},
    }.items():
        with pytest.raises(ValueError, match=match):
            replace(config, **change)
