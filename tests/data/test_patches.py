import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens.data.patches import from_patches, to_patches

SHAPES = [((8, 8, 1), 2), ((6, 4, 3), 2), ((4, 12, 2), 4), ((5, 5, 3), 5), ((3, 7, 1), 1)]


def numbered(shape, dtype=np.int32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_inverses_both_ways(shape, patch, leading):
    height, width, channels = shape
    images = numbered((*leading, *shape))
    tokens = to_patches(images, patch)
    assert tokens.shape == (*leading, height * width // patch**2, patch**2 * channels)
    np.testing.assert_array_equal(from_patches(tokens, patch, shape), images)
    other = numbered(tokens.shape)[..., ::-1, ::-1]
    np.testing.assert_array_equal(to_patches(from_patches(other, patch, shape), patch), other)


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_token_is_its_block_of_the_image_row_major(shape, patch):
    images = numbered((2, *shape))
    tokens = to_patches(images, patch)
    for token in range(tokens.shape[1]):
        row, column = divmod(token, shape[1] // patch)
        block = images[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        np.testing.assert_array_equal(tokens[:, token], block.reshape(2, -1))


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_one_changed_token_changes_all_pixels_of_one_patch_and_no_other(shape, patch):
    height, width, channels = shape
    clean = np.zeros((height * width // patch**2, patch**2 * channels), np.float32)
    touched = np.zeros(shape, np.int32)
    for token in range(len(clean)):
        changed = clean.copy()
        changed[token] = 1
        pixels = from_patches(changed, patch, shape) != 0
        rows, columns = np.nonzero(pixels.any(-1))
        assert pixels.sum() == patch**2 * channels
        assert np.ptp(rows) == np.ptp(columns) == patch - 1
        assert rows.min() % patch == columns.min() % patch == 0
        touched += pixels
    np.testing.assert_array_equal(touched, 1)


def test_numpy_stays_numpy_and_jax_agrees_under_jit_and_vmap():
    images = numbered((3, 4, 6, 2), np.float32)
    tokens = to_patches(images, 2)
    assert type(tokens) is np.ndarray
    assert type(from_patches(tokens, 2, (4, 6, 2))) is np.ndarray
    assert to_patches(images.astype(np.uint8), 2).dtype == np.uint8
    on_device = jax.jit(jax.vmap(lambda image: to_patches(image, 2)))(jnp.asarray(images))
    assert isinstance(on_device, jax.Array)
    np.testing.assert_array_equal(on_device, tokens)
    back = jax.jit(jax.vmap(lambda image: from_patches(image, 2, (4, 6, 2))))(on_device)
    np.testing.assert_array_equal(back, images)


@pytest.mark.parametrize("patch", [3, 8, 0, -2])
def test_a_patch_that_does_not_divide_is_refused_with_those_that_do(patch):
    message = rf"patch={patch} does not divide images of 8 x 4 pixels; allowed are \[1, 2, 4\]"
    with pytest.raises(ValueError, match=message):
        to_patches(np.zeros((1, 8, 4, 3)), patch)
    with pytest.raises(ValueError, match=message):
        from_patches(np.zeros((1, 8, 12)), patch, (8, 4, 3))


def test_patch_that_divides_only_one_side_is_refused():
    with pytest.raises(ValueError, match="patch=8"):
        to_patches(np.zeros((8, 4, 3)), 8)
    with pytest.raises(ValueError, match="patch=3"):
        to_patches(np.zeros((8, 6, 3)), 3)


def test_shapes_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        to_patches(np.zeros((8, 8)), 2)
    with pytest.raises(ValueError, match=r"\(16, 13\).*\(16, 12\)"):
        from_patches(np.zeros((16, 13)), 2, (8, 8, 3))
    with pytest.raises(ValueError, match=r"\(12, 16\).*\(16, 12\)"):
        from_patches(np.zeros((12, 16)), 2, (8, 8, 3))
