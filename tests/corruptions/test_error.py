"""Errors on corrupted images: equal to those of images made first, and the statistics that are made of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.corruptions import CorruptionError, corrupt, corruption_error
from jaxsens.execution import Execution
from tests.corruptions.test_corrupt import KEY, pictures

IMAGES = pictures(16, 16, count=12)
LABELS = np.arange(12) % 3
WEIGHTS = np.random.default_rng(0).normal(size=(16 * 16 * 3, 3)).astype(np.float32)


def scaled(images):
    return images.astype(jnp.float32).reshape(len(images), -1) / 255 - 0.5


def linear(weights, x):
    return x @ weights


MEASURE = corruption_error(
    linear, inputs=scaled, names=["contrast", "impulse_noise"], severities=[1, 4], execution=Execution(chunk=5)
)


@pytest.fixture(scope="module")
def result():
    return MEASURE(KEY, WEIGHTS, (IMAGES, LABELS))


def test_it_equals_classifying_images_that_were_made_first(result):
    for c, name in enumerate(result.names):
        for s, severity in enumerate(result.severities):
            logits = linear(WEIGHTS, np.asarray(scaled(corrupt(KEY, IMAGES, name, severity))))
            np.testing.assert_array_equal(result.wrong[:, c, s], logits.argmax(1) != LABELS)
    np.testing.assert_array_equal(result.wrong_clean, linear(WEIGHTS, scaled(IMAGES)).argmax(1) != LABELS)
    assert result.mean == pytest.approx(result.wrong.mean())
    assert result.accuracy.mean.shape == (2, 2)
    table = result.to_dict()
    assert (table["counts"], table["names"]) == (
        "12 images x 2 corruptions x 2 severities",
        ["contrast", "impulse_noise"],
    )
    rows = result._describe().table()
    assert rows["corruption"].tolist() == ["contrast"] * 2 + ["impulse_noise"] * 2


def test_parts_of_a_data_set_join_to_the_whole_on_any_devices(result, devices):
    measure = corruption_error(
        linear, inputs=scaled, names=MEASURE.names, severities=[1, 4], execution=Execution(chunk=5, devices=devices[:2])
    )
    parts = [measure(KEY, WEIGHTS, (IMAGES[i], LABELS[i]), index=i) for i in (np.arange(5), np.arange(5, 12))]
    joined = CorruptionError.joined(parts)
    np.testing.assert_array_equal(joined.wrong, result.wrong)
    np.testing.assert_array_equal(joined.wrong_clean, result.wrong_clean)


def random_errors(rng, count, rates):
    """Errors of two models that share the difficulty of an image."""
    difficulty = rng.normal(size=(count, 1, 1))
    noise = rng.normal(size=(2, count, len(rates), 5))
    thresholds = np.asarray(rates).reshape(1, -1, 1)
    both = [(difficulty + part > np.float64(shift) + thresholds) for part, shift in zip(noise, (0.0, 0.3), strict=True)]
    return [CorruptionError(w, w[:, 0, 0] & w[:, 1, 0], tuple("abc"), (1, 2, 3, 4, 5), "cifar10") for w in both]


def test_the_mean_corruption_error_is_a_mean_of_ratios_with_paired_intervals():
    model, reference = random_errors(np.random.default_rng(0), 60, [0.2, 0.6, 1.0])
    errors, below = model.wrong.mean((0, 2)), reference.wrong.mean((0, 2))
    ratio = model.relative_to(reference)
    assert ratio.mean == pytest.approx((errors / below).mean())
    clean = model.wrong_clean.mean(), reference.wrong_clean.mean()
    relative = model.relative_to(reference, degradation=True)
    assert relative.mean == pytest.approx(((errors - clean[0]) / (below - clean[1])).mean())
    assert reference.relative_to(reference).interval() == (1, 1)  # pairing: nothing is left to vary
    assert model.minus(reference).mean == pytest.approx(errors.mean() - below.mean())
    # The jackknife over images is another way to the standard error.
    kept = np.arange(60)
    left_out = [
        (model.wrong[kept != i].mean((0, 2)) / reference.wrong[kept != i].mean((0, 2))).mean() for i in range(60)
    ]
    jackknife = np.sqrt(59 / 60 * np.square(np.asarray(left_out) - np.mean(left_out)).sum())
    assert ratio.sem == pytest.approx(jackknife, rel=0.05)


@pytest.mark.slow
def test_intervals_of_the_mean_corruption_error_cover():
    rng = np.random.default_rng(1)
    truth = np.mean([np.divide(*(r.wrong.mean((0, 2)) for r in random_errors(rng, 400_000, [0.2, 0.6, 1.0])))])
    for count in (50, 400):
        found = [
            np.asarray(a.relative_to(b).interval())
            for a, b in (random_errors(rng, count, [0.2, 0.6, 1.0]) for _ in range(2000))
        ]
        assert 0.925 < np.mean([low < truth < high for low, high in found]) < 0.975


def test_bad_calls_name_what_is_wrong():
    for options, match in (
        ({"names": ["blur"]}, "name must be one of .*got 'blur'"),
        ({"names": "fog"}, "names must be a list of at least one, got 'fog'"),
        ({"names": []}, "names must be a list of at least one"),
        ({"names": ["fog", "fog"]}, "names must be different ones"),
        ({"severities": [0]}, "severity must be an integer from 1 to 5, got 0"),
        ({"constants": "x"}, "constants must be one of"),
        ({"inputs": 3}, "inputs must be a function"),
    ):
        with pytest.raises(ValueError, match=match):
            corruption_error(linear, **options)
    for images, labels, match in (
        (IMAGES[:, :8], LABELS, r"images of shape \(8, 16, 3\) do not fit the model"),
        (IMAGES, LABELS + 1, "labels must be classes from 0 to 2, got 3"),
        (IMAGES, LABELS[:5], r"labels must be integers of shape \(12,\)"),
        (IMAGES / 255, LABELS, "images must be uint8"),
        (IMAGES[:0], LABELS[:0], "images must be uint8"),
    ):
        with pytest.raises(ValueError, match=match):
            MEASURE(KEY, WEIGHTS, (images, labels))
    gray = corruption_error(lambda p, x: x.mean((1, 2)) * jnp.ones((1, 2)), names=["saturate"])
    with pytest.raises(ValueError, match="'saturate' needs images in color"):
        gray(KEY, None, (IMAGES[..., :1], LABELS % 2))
    with pytest.raises(FloatingPointError, match="not finite for image 0 as it is"):
        MEASURE(KEY, WEIGHTS * np.nan, (IMAGES, LABELS))


def test_results_of_other_images_or_corruptions_are_not_paired(result):
    for other, match in (
        (CorruptionError(result.wrong[1:], result.wrong_clean[1:], result.names, (1, 4), "cifar10"), "same 12 images"),
        (CorruptionError(result.wrong, result.wrong_clean, ("fog", "snow"), (1, 4), "cifar10"), "names is"),
        (result.estimate, "must be a CorruptionError"),
    ):
        with pytest.raises(ValueError, match=match):
            result.minus(other)
    perfect = CorruptionError(result.wrong & False, result.wrong_clean, result.names, (1, 4), "cifar10")
    with pytest.raises(ValueError, match="reference has no errors for 'contrast'"):
        result.relative_to(perfect)
