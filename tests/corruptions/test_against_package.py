"""Random corruptions compared with the package imagecorruptions: equal in distribution, image by image.

Skipped where the package is not installed. ``elastic_transform`` is left out, since the package has another one
(without the affine map), and so are those that ``test_corrupt`` compares pixel by pixel.
"""

import numpy as np
import pytest

from experiments.benchmark.micro.corruptions import package, pictures
from tests.corruptions.test_corrupt import made

IMAGES = pictures(12, 64, seed=0)
# Parts that random draws cannot be told apart by, and what remains between two definitions of one corruption.
CLOSE = {
    "gaussian_noise": 0.01, "shot_noise": 0.01, "impulse_noise": 0.01, "speckle_noise": 0.01, "motion_blur": 0.03,
    "glass_blur": 0.03, "fog": 0.03, "snow": 0.05, "spatter": 0.1, "frost": 0.3,
}  # fmt: skip


def described(images):
    """Mean, spread, distance from the clean image, and power of the differences of neighbors and of pixels 4 apart."""
    x, clean = images.astype(float), IMAGES.astype(float)
    near, far = (np.square(x[:, :, step:] - x[:, :, :-step]).mean((1, 2, 3)) for step in (1, 4))
    return np.stack([x.mean((1, 2, 3)), x.std((1, 2, 3)), np.abs(x - clean).mean((1, 2, 3)), near**0.5, far**0.5])


@pytest.mark.parametrize("name", CLOSE)
@pytest.mark.filterwarnings("ignore")
def test_random_ones_have_the_distribution_of_the_package(name):
    corrupt = package()
    if corrupt is None:
        pytest.skip("imagecorruptions is not installed")
    np.random.seed(0)  # noqa: NPY002 (the package draws from it)
    for severity in (1, 3, 5):
        theirs = described(np.stack([corrupt(x, severity=severity, corruption_name=name) for x in IMAGES]))
        ours = described(made(IMAGES, name, severity, "imagenet"))
        difference = ours - theirs
        error = difference.std(1, ddof=1) / np.sqrt(len(IMAGES))
        allowed = 4.5 * error + CLOSE[name] * theirs.mean(1) + 0.3
        assert (np.abs(difference.mean(1)) < allowed).all(), (severity, ours.mean(1), theirs.mean(1), error)
