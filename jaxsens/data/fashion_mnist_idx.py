"""Fashion-MNIST from its four idx files, as Debian ships them, into an array_record folder that TFDS reads.

TFDS's own builder needs TensorFlow and refuses Debian's files, whose gzip headers were altered; the contents are the
same. The folder made here has the name, version, features and order of the stock data set, so that
``tfds.data_source("fashion_mnist", data_dir=...)`` reads it as its own.

This file imports tensorflow_datasets at the top: import it only when the data set is asked for.
"""

import contextlib
import gzip
import math
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

__all__ = ["DEBIAN_FOLDER", "idx_files", "is_present", "prepare", "read_idx"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

_PREFIXES = {"train": "train", "test": "t10k"}
_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the paths of ``(images, labels)`` per split, whether or not they exist."""
    return {
        split: (folder / f"{prefix}-images-idx3-ubyte.gz", folder / f"{prefix}-labels-idx1-ubyte.gz")
        for split, prefix in _PREFIXES.items()
    }


def is_present(folder: Path) -> bool:
    """Return whether all four idx files are in the folder."""
    return all(path.is_file() for pair in idx_files(folder).values() for path in pair)


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: two zeros, type 8, the rank, the big-endian sizes, the values.

    Args:
        path: The ``.gz`` file.

    Returns:
        A uint8 array of the shape given in the file.

    Raises:
        ValueError: If it is not such a file, or holds more or fewer values than its header says.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is not an idx file of unsigned bytes: it starts with {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path} holds {len(content) - start} values, but its header says {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def prepare(source: Path, data_dir: Path) -> None:
    """Write ``data_dir/fashion_mnist/3.0.1`` as array_record from the idx files in ``source``; exact, no TensorFlow.

    An existing folder is not changed, and an interrupted run leaves none.

    Raises:
        ValueError: If an idx file is missing, or damaged, or its images and labels do not fit together.
    """
    if not is_present(source):
        needed = ", ".join(path.name for pair in idx_files(source).values() for path in pair)
        raise ValueError(f"the folder {source} does not hold the idx files of Fashion-MNIST; needed are {needed}")
    builder = _FashionMnistIdx(data_dir=str(data_dir), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(source), try_download_gcs=False)
    with contextlib.redirect_stdout(sys.stderr):  # TFDS prints; standard output belongs to the caller's results
        builder.download_and_prepare(download_config=config)


class _FashionMnistIdx(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The stock data set, built from other files; unregistered, because the stock builder has the name."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version("3.0.1")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Install Debian's package dataset-fashion-mnist."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Fashion-MNIST, prepared by jaxsens from the idx files; pixels and labels are exact.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        pairs = idx_files(Path(dl_manager.manual_dir))
        return {split: self._generate_examples(*pair) for split, pair in pairs.items()}

    def _generate_examples(self, images_path: Path, labels_path: Path) -> Iterator[tuple[int, dict]]:
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(f"{images_path} of shape {images.shape} does not fit {labels_path} of {labels.shape}")
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            # TFDS orders examples by a hash of their key: the stock builder's key gives the stock order.
            yield index, {"image": Image.fromarray(image), "label": int(label)}
