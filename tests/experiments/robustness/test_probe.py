"""Laws of linear probes: features are those of the model, the fit is by least squares, images keep their pixels."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.images import data as image_data
from experiments.images.bench import Bench
from experiments.robustness import experiment, probe
from jaxsens import models
from jaxsens.data import images

CONFIG = replace(
    experiment.PRESETS["smoke"], corruptions=("contrast",), severities=(1,), second_dataset="digits",
    probe_examples=300, corrupted=100,
)  # fmt: skip


@pytest.mark.whole
def test_a_model_with_its_own_head_is_itself_and_with_the_identity_gives_the_heads_input():
    for name in ("mlp", "vit_small_data", "vit_imagenet", "convmixer"):
        module = models.build(name, "small", image_shape=(8, 8, 1), classes=10, patch=4)
        variables = models.init(module, jax.random.key(0))
        tokens = np.random.default_rng(0).normal(size=(3, 4, 16)).astype(np.float32)
        head = variables["params"]["classifier" if name == "vit_imagenet" else "head"]
        same, own = probe.with_head(module, variables, head["kernel"], head["bias"])
        assert same == module
        expected = models.evaluation(module)(variables, tokens)
        np.testing.assert_allclose(models.evaluation(same)(own, tokens), expected, rtol=1e-6)
        width = head["kernel"].shape[0]
        inner, inner_variables = probe.with_head(module, variables, np.eye(width), np.zeros(width))
        features = models.evaluation(inner)(inner_variables, tokens)
        again = np.asarray(features) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
        np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="second_dataset needs models whose last layer is a dense one"):
        probe.with_head(module, {"params": {"last": {}}}, np.eye(2), np.zeros(2))


def test_the_fit_is_that_of_least_squares_and_separates_what_is_separable():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, 400)
    features = np.eye(3)[labels] + 0.05 * draws.normal(size=(400, 3))
    kernel, bias = probe.ridge(features, labels, 3)
    assert (features @ kernel + bias).argmax(1).tolist() == labels.tolist()
    design = np.column_stack([features, np.ones(400)])
    expected = np.linalg.lstsq(design, np.eye(3)[labels], rcond=None)[0]
    np.testing.assert_allclose(np.vstack([kernel, bias]), expected, atol=0.05)


def test_images_keep_their_pixels_in_the_shape_of_the_first_data_set():
    gray = np.random.default_rng(0).integers(1, 256, (2, 28, 28, 1), dtype=np.uint8)
    shaped = probe.in_shape(gray, (32, 32, 3))
    np.testing.assert_array_equal(shaped[:, 2:30, 2:30], np.repeat(gray, 3, -1))
    assert (shaped > 0).sum() == 3 * gray.size
    for shape in ((8, 8, 1), (28, 27, 1)):
        with pytest.raises(ValueError, match="which do not fit into"):
            probe.in_shape(gray, shape)
    with pytest.raises(ValueError, match="which do not fit into"):
        probe.in_shape(shaped, (32, 32, 1))


def test_a_probe_of_a_random_network_learns_the_digits_and_its_errors_are_those_of_its_logits():
    bench = Bench(CONFIG, image_data.load(CONFIG))
    second = probe.load(CONFIG, (8, 8, 1))
    variables = models.init(bench.module("mlp"), jax.random.key(0))
    found = probe.measure(bench, second, "mlp", variables, "mlp")
    assert found["probe_wrong"].shape == (100, 1, 1)
    assert found["probe_wrong_clean"].mean() < 0.5, "chance is 0.9"
    assert found["probe_wrong"].mean() >= found["probe_wrong_clean"].mean() - 0.05
    assert probe.load(replace(CONFIG, second_dataset=None), (8, 8, 1)) is None
    with pytest.raises(ValueError, match="second_dataset = None"):
        probe.load(replace(CONFIG, second_dataset=None), (8, 8, 1), images.load("digits"))
