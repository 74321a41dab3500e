"""Corruptions of images: deterministic ones against references, random ones by their laws, both by law 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxsens import corruptions
from jaxsens.corruptions import blur, constants, digital, filters, noise, spatter, weather
from jaxsens.corruptions.corrupted_images import Corruption, corrupt
from jaxsens.execution import Execution
from tests.corruptions import references

KEY = jax.random.key(0)
ONE = Execution(backend="jit", chunk=4)


def pictures(height, width, count=4, channels=3):
    """Return smooth images with some texture, with pixels that are black, white and gray among them."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, height, width, channels)), (0, 4, 4, 0), mode="wrap")
    images = 128 + 400 * smooth + rng.normal(0, 12, (count, height, width, channels))
    images[0, :4], images[0, 4:8, :, :] = 0, images[0, 4:8, :, :1]
    images[0, 8:10] = 255
    return np.clip(images, 0, 255).astype(np.uint8)


SMALL, LARGE = pictures(32, 32), pictures(40, 56)
DETERMINISTIC = (
    "gaussian_blur", "defocus_blur", "zoom_blur", "contrast", "brightness", "saturate", "pixelate",
)  # fmt: skip


def made(images, name, severity, benchmark="cifar10", **options):
    return corrupt(KEY, images, name, severity, constants=benchmark, execution=options.pop("execution", ONE), **options)


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize(
    ("benchmark", "images"),
    [pytest.param("cifar10", SMALL, marks=pytest.mark.slow), ("imagenet", LARGE)],
    ids=["cifar10", "imagenet"],
)
def test_deterministic_ones_equal_the_reference(name, benchmark, images):
    """Exactly, but for values so near an integer that float32 may be on its other side."""
    for severity, constant in zip(constants.SEVERITIES, constants.CONSTANTS[benchmark][name], strict=True):
        found = made(images, name, severity, benchmark).astype(int)
        expected = np.stack([getattr(references, name)(image, constant) for image in images])
        sure = np.abs(expected - np.round(expected)) > 2e-3
        difference = np.where(sure, found - np.floor(np.clip(expected, 0, 255)), found - np.round(expected))
        assert set(np.unique(difference)) <= {-1, 0}
        assert (difference[sure] == 0).all()
        assert (difference == 0).mean() > 0.995
        assert (found != images).mean() > 0.02


def test_jpeg_is_as_a_codec_to_a_fraction_of_a_gray_level():
    for benchmark, images in (("cifar10", SMALL), ("imagenet", LARGE)):  # 40 x 56 is no multiple of 16
        for severity, quality in zip(
            constants.SEVERITIES, constants.CONSTANTS[benchmark]["jpeg_compression"], strict=True
        ):
            found = made(images, "jpeg_compression", severity, benchmark).astype(int)
            expected = np.stack([references.jpeg_compression(image, quality) for image in images])
            lost = np.abs(expected.astype(int) - images).mean()
            assert np.abs(found - expected).mean() < 0.05 * lost
    gray = pictures(16, 16, channels=1)
    assert np.abs(made(gray, "jpeg_compression", 5).astype(int) - gray).mean() > 1


def test_glass_blur_follows_the_walk_over_pixels():
    follow = jax.jit(jax.vmap(blur.glass_sources, (0, None)))
    bits = np.random.default_rng(1).integers(0, 2**32, (2, 13, 17), np.uint32)
    for reach in (1, 2, 4):
        expected = [references.glass_walk(one, reach) for one in bits]
        np.testing.assert_array_equal(follow(bits, reach), expected)
    simple = jax.vmap(lambda one: blur.glass_sources(one, 1, chains=False))(bits)
    np.testing.assert_array_equal(simple, [references.glass_walk(one, 1) for one in bits])


def test_motion_plasma_and_bilinear_samples_equal_loops():
    image, weights = LARGE[1].astype(np.float32), blur.motion_weights([(6, 2.0)])[0]
    smear = jax.jit(lambda angle: filters.motion(image, weights, angle, (12, 12, 12, 12)))
    for angle in (-2.2, -0.7, 0.1, 0.6):
        np.testing.assert_allclose(smear(angle), references.moved(image, weights, angle), rtol=0, atol=1e-3)
    heights = np.random.default_rng(2).uniform(-1, 1, (16, 16)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(weather.plasma)(heights, 1.75), references.plasma(heights, 1.75), atol=1e-5)
    places = np.random.default_rng(3).uniform(-9, 60, (2, 30, 20)).astype(np.float32)
    for inside, mode in ((filters.reflected, "reflect"), (filters.mirrored, "mirror")):
        found = jax.jit(lambda a, b, inside=inside: filters.bilinear(image, a, b, inside))(*places)
        expected = [ndimage.map_coordinates(image[..., i], places, order=1, mode=mode) for i in range(3)]
        np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), atol=5e-3)


def test_shot_noise_draws_from_the_laws_of_poisson():
    for photons in (3, 75):
        laws = noise._poisson(photons, 128)
        words = noise.alias_tables(laws)
        stay, alias = (words & (2**23 - 1)) / 2**23, words >> 23
        drawn = stay / 128
        np.add.at(drawn, (np.arange(256)[:, None], alias), (1 - stay) / 128)
        np.testing.assert_allclose(drawn, laws, atol=1e-6)
        expected = stats.poisson.pmf(np.arange(photons), photons * np.arange(256)[:, None] / 255)
        np.testing.assert_allclose(laws[:, :photons], expected, atol=1e-12)
        assert (laws[:, photons + 1 :] == 0).all()


def test_noise_has_the_moments_of_its_law():
    gray = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (60, 128)])
    for severity in (1, 5):
        c = {name: values[severity - 1] for name, values in constants.CONSTANTS["cifar10"].items()}
        spreads = {
            "gaussian_noise": lambda x, c=c: 255 * c["gaussian_noise"],
            "shot_noise": lambda x, c=c: 255 * np.sqrt(x / 255 / c["shot_noise"]),
            "speckle_noise": lambda x, c=c: x * c["speckle_noise"],
        }
        for name, spread in spreads.items():
            found = made(gray, name, severity).astype(float) + (0 if name == "shot_noise" else 0.5)
            for values, x in zip(found, (60, 128), strict=True):
                sigma = spread(x)
                assert values.mean() == pytest.approx(x, abs=5 * sigma / np.sqrt(values.size) + 0.5)
                assert values.std() == pytest.approx(sigma, rel=0.06)
                assert abs(np.corrcoef(values[..., 0].ravel(), values[..., 1].ravel())[0, 1]) < 0.16
        found = made(gray, "impulse_noise", severity)
        for value in (0, 255):
            share = c["impulse_noise"] / 2
            assert (found == value).mean() == pytest.approx(share, abs=5 * np.sqrt(share / found.size))
        assert set(np.unique(found)) == {0, 60, 128, 255}


QUICK = ("shot_noise", "glass_blur", "frost", "elastic_transform", "pixelate")
"""Corruptions that are made in different ways, by a table, indices, spectra, samples and products of matrices."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in corruptions.NAMES]
)
def test_an_image_is_corrupted_alike_in_any_part_and_on_any_device(name, devices):
    """Law 1; and a severity that is an argument of one program is not ignored."""
    images, on = pictures(16, 20, count=5), Execution(chunk=2, devices=devices[:2])
    base = made(images, name, 3, execution=on)
    part = made(images[1:4], name, 3, index=[1, 2, 3], execution=on)  # in other chunks, on the other device
    np.testing.assert_array_equal(part, base[1:4])
    assert (made(images, name, 5, execution=on) != base).any()
    if name not in (*DETERMINISTIC, "jpeg_compression"):
        same = made(images[[2, 2]], name, 3, index=[2, 3], execution=on)
        assert (same[0] != same[1]).any()
    if name in ("shot_noise", "glass_blur", "elastic_transform"):  # a table, indices, samples: the ways to an image
        np.testing.assert_array_equal(made(images, name, 3, execution=Execution(chunk=2, devices=devices[:3])), base)


def test_canny_and_water_equal_opencv():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(5)
    find, show = jax.jit(spatter.edges), jax.jit(spatter.water)
    for sigma in (1.0, 2.0):
        layer = ndimage.gaussian_filter(0.65 + 0.3 * rng.normal(size=(40, 48)), sigma, mode="nearest")
        liquid = (255 * np.where(layer < 0.66, 0, np.clip(layer, 0, 1))).astype(np.uint8)
        marked = cv2.Canny(liquid, 50, 150)
        np.testing.assert_array_equal(find(liquid.astype(np.float32)), marked > 0)
        distance = cv2.distanceTransform(255 - marked, cv2.DIST_L2, 5)
        level = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
        relief = cv2.filter2D(level, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
        expected = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
        found = np.asarray(show(liquid.astype(np.float32)))
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
        assert np.abs(found - expected / expected.max()).mean() < 0.01


def test_bad_calls_name_what_is_wrong():
    image = np.zeros((1, 8, 8, 3), np.uint8)
    for call, match in (
        (lambda: made(image, "blur", 1), "name must be one of gaussian_noise, .*got 'blur'"),
        (lambda: made(image, "fog", 6), "severity must be an integer from 1 to 5, got 6"),
        (lambda: made(image, "fog", True), "severity must be an integer from 1 to 5, got True"),
        (lambda: made(image, "fog", 1, "cifar"), r"constants must be one of \('cifar10', 'imagenet'\), got 'cifar'"),
        (lambda: made(image[..., :1], "saturate", 1), r"'saturate' needs images in color.*np.repeat"),
        (lambda: made(image[..., :2], "fog", 1), "images must be uint8 .* with 1 or 3 channels"),
        (lambda: made(image / 255, "fog", 1), "images must be uint8 .*got float64"),
        (lambda: made(image[0], "fog", 1), r"images must be uint8 \[n h w c\]"),
        (lambda: made(image, "fog", 1, index=[-1]), "index must be a number"),
        (lambda: corrupt(0, image, "fog", 1), "key must be a typed key"),
        (lambda: Corruption("fog", (8, 8)), "shape must be"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_quantization_is_that_of_libjpeg():
    import io

    from PIL import Image

    for quality in (7, 25, 50, 65, 95):
        content = io.BytesIO()
        Image.fromarray(SMALL[0]).save(content, "JPEG", quality=quality)
        written = Image.open(content).quantization
        np.testing.assert_array_equal(digital.quantization(quality), [written[0], written[1]])
    assert jnp.allclose(filters.box_resize(5, 3).sum(1), 1)
