"""Laws of what the image experiments share: settings, models, the choice of a learning rate, the user's own inputs."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import linen as nn
from tqdm import tqdm

from experiments.flatness.config import PRESETS as FLATNESS
from experiments.images import data as image_data
from experiments.images.bench import Bench, function_scale, logits
from experiments.images.config import CHANGED, CHANGES, PUBLISHED_RATES, TREATMENTS, Intervention
from experiments.images.labels import dataset_label, model_label
from experiments.vision.config import PRESETS
from jaxsens import models, plots, training
from jaxsens.data.images import ImageData

SMOKE, PAPER = PRESETS["smoke"], PRESETS["paper"]


def no_images(name, shape=(28, 28, 1)):
    return image_data.Data(name, "", shape, 10, *[(np.zeros((1, 4, 4)), np.zeros(1, int))] * 3)


def test_bad_settings_are_named():
    for match, change in {
        "dataset must be of digits": {"dataset": "cifar100"},
        "architectures must be of vit": {"architectures": ("vit", "alexnet")},
        "architectures must hold different": {"architectures": ("vit", "vit")},
        "draws must be at least 1": {"draws": 0},
        "validation must be below 1": {"validation": 1.0},
        "variance must be at least 0": {"variance": -1.0},
        "architectures is empty, and the paper trains none on digits": {"architectures": ()},
        "learning_rates must hold different": {"learning_rates": (0.1, 0.1)},
    }.items():
        with pytest.raises(ValueError, match=match):
            replace(SMOKE, **change)
    with pytest.raises(ValueError, match="learning_rates must have at least 1"):
        replace(FLATNESS["smoke"], learning_rates=())


def test_models_of_the_papers_sizes_are_built_for_its_data_sets():
    vit = Bench(PAPER, no_images("fashion_mnist")).module("vit")
    assert (vit.config.depth, vit.config.heads, vit.config.hidden) == (2, 8, 256)
    for variant in ("paper", "small"):
        bench = Bench(replace(PAPER, variant=variant), no_images("fashion_mnist"))
        assert bench.module("vit_patch_norm").config.normalize_patches
        assert not bench.module("vit").config.normalize_patches
    for name in ("mnist", "fashion_mnist", "cifar10", "svhn_cropped"):
        without = {"convnext", "vit_imagenet"} if name.endswith("mnist") else set()
        without |= {"vit_simple"} if name != "cifar10" else set()
        names = [one for one in TREATMENTS if one.removesuffix("_regularized") not in without]
        Bench(replace(PAPER, dataset=name, learning_rates=(0.1,)), no_images(name, SHAPES[name])).require_built(names)
    bench = Bench(replace(PAPER, dataset="digits", architectures=("vit",)), no_images("digits", (8, 8, 1)))
    with pytest.raises(ValueError, match="variant must be 'small' for vit on digits"):
        bench.require_built(["vit"])


SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3), "svhn_cropped": (32, 32, 3)}


def test_the_default_configuration_trains_the_published_models_at_the_published_rates():
    """App. D: models, rates, plain SGD, batches of 100; sizes by their numbers of parameters, in millions."""
    config = replace(PAPER, dataset="cifar10")
    bench = Bench(config, no_images("cifar10", SHAPES["cifar10"]))
    rates = {"vit_small_data": 0.1, "vit_small_data_regularized": 0.16, "vit_simple": 0.2, "resnet": 0.001}
    rates |= {"densenet": 0.005, "convmixer": 0.06}
    assert {name: config.rates(name) for name in config.names} == {name: (rate,) for name, rate in rates.items()}
    assert (config.optimizer, config.schedule, config.batch, config.token, config.noise) == (
        "sgd", "constant", 100, 4, 1.0
    )  # fmt: skip
    millions = {"vit_small_data": 4.5, "vit_simple": 2.0, "resnet": 11.2, "densenet": 7.0, "convmixer": 0.12}
    for name, expected in millions.items():
        module = bench.module(name)
        shapes = jax.eval_shape(lambda key, module=module: models.init(module, key), jax.random.key(0))
        assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"])) / 1e6 == pytest.approx(
            expected, rel=0.05
        )
    for dataset, published in PUBLISHED_RATES.items():
        Bench(replace(PAPER, dataset=dataset), no_images(dataset, SHAPES[dataset])).require_built(list(published))
    with pytest.raises(ValueError, match=r"learning rate only for vit_small_data, .*got 'cnn': give the rates"):
        bench.require_built(["cnn"])


def test_images_that_do_not_fit_the_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="patch=3 does not divide"):
        image_data.load(replace(SMOKE, patch=3))
    with pytest.raises(ValueError, match="train_examples must leave a batch"):
        image_data.load(replace(SMOKE, train_examples=20))
    with pytest.raises(ValueError, match="looked in"):
        image_data.load(replace(SMOKE, dataset="svhn_cropped", data_dir=str(tmp_path)))
    mine = ImageData("mine", *[np.zeros((30, 4, 4, 1), np.uint8), np.zeros(30, int)] * 2, classes=2, source="here")
    with pytest.raises(ValueError, match="patch=None, variance=None: set both"):
        image_data.load(SMOKE, mine)
    random = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    colored = ImageData("mine", *[random, np.zeros(30, int)] * 2, classes=2, source="here")
    tokens = image_data.load(replace(SMOKE, patch=2, variance=0.5, test_examples=30), colored)
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_array_equal(image_data.pixels(tokens, tokens.test[0]), random[order], "bytes, from tokens")
    halved, whole = (image_data.load(replace(SMOKE, halves=halves)) for halves in (True, False))
    np.testing.assert_array_equal(halved.test[1], whole.test[1] >= 5)
    assert halved.classes == 2
    with pytest.raises(ValueError, match="halves=True is for a named data set"):
        image_data.load(replace(SMOKE, patch=2, variance=0.5, halves=True), mine)
    loaded = image_data.load(replace(SMOKE, patch=2, variance=0.5), mine)
    assert (loaded.name, loaded.image_shape, loaded.train[0].shape[1:]) == ("mine", (4, 4, 1), (4, 4))


class Unrecorded:
    """A run that keeps nothing."""

    def unit(self, name, compute):
        return compute()


def test_the_learning_rate_with_the_highest_validation_accuracy_is_chosen(monkeypatch):
    accuracies = {0.1: 0.2, 0.2: 0.9, 0.3: 0.0}
    bench = Bench(replace(SMOKE, learning_rates=tuple(accuracies)), None)
    monkeypatch.setattr(
        Bench, "validation_accuracy", lambda self, name, rate: {"validation_accuracy": accuracies[rate]}
    )
    assert bench.best_rate(Unrecorded(), "mlp", tqdm(disable=True)) == (0.2, (0.1, 0.2, 0.3))
    accuracies.update(dict.fromkeys(accuracies, 0.0))
    with pytest.raises(FloatingPointError, match="mlp diverged at every learning rate"):
        bench.best_rate(Unrecorded(), "mlp", tqdm(disable=True))
    growing = Bench(replace(SMOKE, learning_rates=(0.2, 0.3), added_rates=5), None)
    accuracies.update({0.3: 0.4, 0.45: 0.6, 0.675: 0.1})
    assert growing.best_rate(Unrecorded(), "mlp", tqdm(total=2, disable=True)) == (0.45, (0.2, 0.3, 0.45, 0.675))
    alone = Bench(replace(SMOKE, learning_rates=(0.3,)), None)
    assert alone.best_rate(None, "mlp", tqdm(disable=True)) == (0.3, (0.3,))


def test_a_learning_rate_that_diverges_has_accuracy_zero(monkeypatch):
    def diverge(*_, **__):
        raise FloatingPointError("nan")

    monkeypatch.setattr(Bench, "train", diverge)
    assert Bench(SMOKE, None).validation_accuracy("mlp", 1e9) == {"validation_accuracy": 0.0, "diverged": True}


def test_only_regularized_models_have_the_regularizer_and_all_start_alike(monkeypatch):
    seen = []

    def fit(key, apply, variables, *data, objective, **_):
        seen.append((jax.random.key_data(key), variables, objective))
        return variables, np.zeros(1)

    monkeypatch.setattr(training, "fit", fit)
    bench = Bench(SMOKE, image_data.load(SMOKE))
    for name in ("mlp", "mlp_regularized"):
        bench.train(name, 0.1, 1, name)
    (key, variables, plain), (same_key, same_variables, regularized) = seen
    assert plain is None
    assert regularized == training.NoiseConsistency(variance=SMOKE.noise)
    np.testing.assert_array_equal(key, same_key)
    jax.tree.map(np.testing.assert_array_equal, variables, same_variables)


def test_interventions_change_the_loss_the_optimizer_or_the_model(monkeypatch):
    seen = {}

    def fit(key, apply, variables, tokens, labels, config, *, progress, objective, **_):
        seen[progress] = (objective, config.optimizer)
        return variables, np.zeros(1)

    monkeypatch.setattr(training, "fit", fit)
    mixup = training.Mixup()
    changes = {"mixup": Intervention(mixup), "weight_decay": Intervention(weight_decay=0.1)}
    bench = Bench(SMOKE, image_data.load(SMOKE), interventions=changes | {"dropout": Intervention(dropout=0.3)})
    for name in ("mlp", "mlp_mixup", "mlp_weight_decay"):
        bench.train(name, 0.1, 0, name)
    assert seen["mlp"] == (None, training.Optimizer("adam", schedule="cosine"))
    assert seen["mlp_mixup"] == (mixup, training.Optimizer("adam", schedule="cosine"))
    assert seen["mlp_weight_decay"] == (None, training.Optimizer("adamw", weight_decay=0.1, schedule="cosine"))
    assert bench.module("vit_dropout").config.dropout == 0.3
    assert Bench(SMOKE, bench.data).module("vit_dropout").config.dropout == 0.1
    with pytest.raises(ValueError, match="mlp has no dropout"):
        bench.module("mlp_dropout")
    with pytest.raises(ValueError, match=r"'mlp_augmented' must end with one of \['dropout', 'mixup'"):
        bench.module("mlp_augmented")


class Linear(nn.Module):
    @nn.compact
    def __call__(self, tokens, mask=None, train=False):
        return nn.Dense(3)(tokens.reshape(len(tokens), -1))


def test_the_users_models_are_used_and_other_names_refused():
    module, pair = Linear(), (lambda variables, tokens: tokens[:, 0] * variables, 2.0)
    bench = Bench(SMOKE, no_images("mine"), {"linear": module, "scaled": pair})
    assert bench.module("linear") is bench.module("linear_regularized") is module
    assert bench.fixed("scaled") is pair
    assert bench.fixed("linear") is bench.fixed("mlp") is None
    variables = bench.initial_variables("linear_regularized", jax.random.key(0))
    assert variables["params"]["Dense_0"]["kernel"].shape == (16, 3)
    for name in ("vit", "Mine", "mine_regularized", ""):
        with pytest.raises(ValueError, match="models has the name"):
            Bench(SMOKE, None, {name: module})


def test_function_scale_ignores_a_shift_of_all_logits():
    values = np.random.default_rng(0).normal(size=(5, 3))
    expected = np.abs(values - values.mean(1, keepdims=True)).sum(1).mean()
    assert function_scale(values + 7) == pytest.approx(expected)


def test_logits_are_those_of_the_model():
    apply, tokens = models.evaluation(Linear()), np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    variables = Linear().init(jax.random.key(0), tokens)
    np.testing.assert_allclose(logits(apply, variables, tokens), apply(variables, tokens), rtol=1e-6)


def test_labels_are_for_readers():
    assert model_label("vit_patch_norm") == "ViT, patches normalized"
    assert model_label("convmixer_regularized") == "ConvMixer, regularized"
    assert model_label("mine") == "mine"
    assert model_label("resnet_weight_decay") == "ResNet, weight decay"
    changed = {f"{plain}_{change}" for plain in CHANGED for change in CHANGES}
    plots.style([model_label(name) for name in set(TREATMENTS) - changed if "regularized" not in name])  # or it warns
    assert model_label("vit_small_data_depth_4") == "ViT, small data, depth 4"
    assert dataset_label("fashion_mnist") == "Fashion-MNIST"
