"""The corruptions' formulas in NumPy, SciPy and Pillow, of an image in bytes, before fractions are cut off.

Written for the tests, apart from the library: loops where it has matrices, float64 where it has float32.
"""

import io

import numpy as np
from PIL import Image
from scipy import ndimage


def blurred(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest", truncate=4) if sigma else image


def gaussian_blur(image, sigma):
    return blurred(image.astype(float), sigma)


def defocus_blur(image, constants):
    radius, alias = constants
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2) * 1.0
    disk /= disk.sum()  # before the edge is smoothed, as the scripts do
    smooth = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * alias**2))
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, smooth / smooth.sum(), axis, mode="mirror")
    return ndimage.correlate(image.astype(float), disk[..., None], mode="mirror")


def enlarged(image, factor):
    cut = tuple(slice((n - int(np.ceil(n / factor))) // 2, None) for n in image.shape[:2])
    part = image[cut][: int(np.ceil(image.shape[0] / factor)), : int(np.ceil(image.shape[1] / factor))]
    large = ndimage.zoom(part, (factor, factor, 1), order=1)
    top, left = ((big - n) // 2 for big, n in zip(large.shape, image.shape[:2], strict=False))
    return large[top : top + image.shape[0], left : left + image.shape[1]]


def zoom_blur(image, factors):
    image = image.astype(float)
    return (image + sum(enlarged(image, factor) for factor in factors)) / (len(factors) + 1)


def contrast(image, factor):
    mean = image.mean((0, 1), keepdims=True)
    return mean + factor * (image - mean)


def _hsv(image):
    value, least = image.max(-1), image.min(-1)
    span = np.where(value > least, value - least, 1)
    r, g, b = np.moveaxis(image, -1, 0)
    hue = np.where(value == r, (g - b) / span, np.where(value == g, 2 + (b - r) / span, 4 + (r - g) / span)) % 6
    saturation = np.where(value > 0, (value - least) / np.where(value > 0, value, 1), 0)
    return np.where(value > least, hue, 0), saturation, value


def _rgb(hue, saturation, value):
    def channel(offset):
        k = (offset + hue) % 6
        return value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))

    return np.stack([channel(5), channel(3), channel(1)], -1)


def brightness(image, summand):
    hue, saturation, value = _hsv(image / 255)
    return 255 * _rgb(hue, saturation, np.minimum(value + summand, 1))


def saturate(image, constants):
    hue, saturation, value = _hsv(image / 255)
    return 255 * _rgb(hue, np.clip(saturation * constants[0] + constants[1], 0, 1), value)


def pixelate(image, share):
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image, quality):
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def glass_walk(bits, reach):
    """The walk over pixels itself: from which pixel each one's value comes at the end."""
    height, width = bits.shape
    source = np.arange(height * width).reshape(height, width)
    for y in range(height - reach, reach, -1):
        for x in range(width - reach, reach, -1):
            word = int(bits[y, x])
            down, right = ((word >> 16) * 2 * reach >> 16) - reach, ((word & 0xFFFF) * 2 * reach >> 16) - reach
            source[y, x] = source[y + down, x + right]
    return source.ravel()


def moved(image, weights, angle):
    """A smear by sums over pixels, with the border repeated."""
    total = np.zeros(image.shape)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for i, weight in enumerate(weights):
        down, right = np.ceil(i * np.sin(angle) - 0.5), np.ceil(i * np.cos(angle) - 0.5)
        rows, columns = np.clip(y + int(down), 0, len(image) - 1), np.clip(x + int(right), 0, image.shape[1] - 1)
        total += weight * image[rows, columns]
    return total


def plasma(bits, decay):
    """The diamond-square algorithm, point by point."""
    size, step, amount = len(bits), len(bits), 100.0
    height = np.zeros(bits.shape)

    def mean(*places):
        return sum(height[y % size, x % size] for y, x in places) / 4

    while step >= 2:
        half = step // 2
        for y in range(half, size, step):
            for x in range(half, size, step):
                corners = [(y + a, x + b) for a in (-half, half) for b in (-half, half)]
                height[y, x] = mean(*corners) + amount**2 * bits[y, x]
        for y in range(0, size, half):
            for x in range(0, size, half):
                if (y // half + x // half) % 2:
                    nearest = [(y - half, x), (y + half, x), (y, x - half), (y, x + half)]
                    height[y, x] = mean(*nearest) + amount**2 * bits[y, x]
        step, amount = half, amount / decay
    height -= height.min()
    return height / height.max()
