"""Labeled images by name: the UCI digits, TFDS data sets read without TensorFlow, and folders, kept as arrays.

The file is long because one function, ``load``, opens all of them.
"""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from jaxsens.data import array_cache, tfds
from jaxsens.data.image_folder import center_crop, image_folder
from jaxsens.data.patches import from_patches, to_patches
from jaxsens.execution import checks
from jaxsens.labels import require_labels
from jaxsens.results.result import Description, Result, draw
from jaxsens.typing import Array, Axes, Figure

__all__ = ["NAMES", "ImageData", "from_patches", "image_folder", "load", "normalize", "to_patches"]


@dataclasses.dataclass(frozen=True)
class _Stock:
    """Facts about a TFDS data set that are needed before it is opened."""

    classes: int
    test_split: str = "test"
    lossless: bool = True  # the images were published without JPEG compression


_STOCK = {
    "mnist": _Stock(10),
    "fashion_mnist": _Stock(10),
    "cifar10": _Stock(10),
    "svhn_cropped": _Stock(10),
    "imagenet2012": _Stock(1000, test_split="validation", lossless=False),
}
NAMES = ("digits", *_STOCK)
"""The names that ``load`` accepts."""

_FOLDERS = {"train": "train", "test": "val"}
_FEW = 256  # images that are decoded before the processes for it would have started
_IMAGENET_SIZE = 224
_FORMAT = 1  # of the cached arrays: raise it when the same key would give other arrays


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ImageData(Result):
    """Labeled images, all of one size, in the order in which they are stored.

    Attributes:
        name: The data set's name, as given to ``load``.
        train_images: ``[n h w c]`` uint8, 0..255.
        train_labels: ``[n]`` int32, 0..classes-1.
        test_images: ``[n' h w c]`` uint8.
        test_labels: ``[n']`` int32.
        classes: The number of classes.
        source: Where the data came from, to be reported with results.

    Raises:
        ValueError: If a split is empty, or shapes, dtypes or labels do not fit.

    Example:
        >>> images = np.zeros((2, 4, 4, 1), np.uint8)
        >>> ImageData("mine", images, np.array([0, 1]), images, np.array([1, 1]), 2, "here").image_shape
        (4, 4, 1)
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", checks.require_count("classes", self.classes))
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            if isinstance(images, np.ma.MaskedArray):
                raise ValueError(f"{split}_images of {self.name!r} must not be a masked array, its mask would be lost")
            if not isinstance(images, np.ndarray) or not images.ndim:
                raise ValueError(f"{split}_images of {self.name!r} must be an array uint8 [n h w c], got {images!r}")
            if len(images) == 0:
                raise ValueError(f"the data set {self.name!r} has no {split} examples (source: {self.source})")
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.train_images.shape[1:]:
                raise ValueError(
                    f"{split}_images of {self.name!r} must be uint8 [n h w c], of one size for both splits, "
                    f"got {images.dtype} {images.shape} and train_images {self.train_images.shape}"
                )
            try:
                labels = require_labels(labels, self.classes)
            except ValueError as error:
                raise ValueError(f"{split}_labels of {self.name!r}: {error}") from error
            if len(labels) != len(images):
                raise ValueError(f"{split}_labels of {self.name!r} must be {len(images)}, got {len(labels)}")
            object.__setattr__(self, f"{split}_labels", labels)

    _by_shape = ("train_images", "test_images")

    def plot(self, ax: Axes | None = None, *, count: int = 25) -> Figure:
        """Draw the first training images.

        Args:
            ax: Where to draw, by default a new figure.
            count: How many images; all if there are fewer.

        Raises:
            ValueError: If the images have neither one nor three channels.
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        return draw("mosaic", ax, self.train_images[: checks.require_count("count", count)])

    def _describe(self) -> Description:
        sizes = f"{len(self.train_images)} training and {len(self.test_images)} test images"
        height, width, channels = self.image_shape
        labels = np.concatenate([self.train_labels, self.test_labels])
        split = np.repeat(["train", "test"], [len(self.train_labels), len(self.test_labels)])
        numbers = np.concatenate([np.arange(len(a)) for a in (self.train_labels, self.test_labels)])
        table = {"split": split, "number": numbers, "label": labels}
        counts = f"{sizes} of {height} x {width} x {channels}, {self.classes} classes"
        return Description(counts, words=repr(self.name), facts={"source": self.source}, table=lambda: table)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(h, w, c)`` of one image."""
        return self.train_images.shape[1:]


def normalize(images: Array) -> Array:
    """Map bytes to the pixel values that models read and noise is added to: ``(x / 255 - 0.5) / 0.5``.

    One unit of noise is therefore half of the range of a pixel. Vasudeva et al. (ICLR 2025), s.5 and its code: mean
    0.5, standard deviation 0.5 for every channel.

    Args:
        images: uint8, of any shape. The result is a NumPy array if this is one.

    Returns:
        float32 in [-1, 1], of the same shape.

    Raises:
        ValueError: If ``images`` is not uint8 (already normalized, or on another scale).

    Example:
        >>> normalize(np.array([0, 255], np.uint8))
        array([-1.,  1.], dtype=float32)
    """
    if isinstance(images, np.ma.MaskedArray) or not hasattr(images, "dtype"):
        raise ValueError(f"images must be an array of uint8 in 0..255, without a mask, got {type(images).__name__}")
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8 in 0..255, got {images.dtype}")
    return (images.astype(np.float32) / 255 - 0.5) / 0.5


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    image_size: int | None = None,
    classes: Sequence[int | Sequence[int]] | None = None,
) -> ImageData:
    """Load labeled images by the name of the data set.

    ``digits`` are in scikit-learn: 1,437 training and 360 test images (every fifth) of 8 x 8 pixels. The other names
    are TFDS data sets prepared as array_record. ``fashion_mnist`` is also taken from the files of Debian's package
    dataset-fashion-mnist, exactly the same data, if ``data_dir`` does not hold it. Decoded arrays are cached, see
    ``array_cache.folder``.

    Args:
        name: One of ``NAMES``; the test split of imagenet2012 is its ``validation``. Or the path of a folder (with a
            separator, or a ``Path``) that has folders ``train`` and ``val``, each with a folder for each class: files
            are decoded in processes; ``limit`` is required, and takes images from all classes in turn.
        data_dir: TFDS folder; by default ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``. Not used for ``digits``.
        limit: Keep the first ``limit`` examples of each split, in the stored order (TFDS shuffles when preparing);
            required for imagenet2012.
        image_size: Resize the shorter side to this many pixels (Pillow, bilinear with antialiasing) and crop the
            center; by default 224 for imagenet2012, and no change for all others. For a folder see ``image_folder``.
        classes: Which classes to keep, each a class or several that become one: ``[range(5), range(5, 10)]`` asks of
            digits whether they are 5 or more. Labels are then places in this list. By default all, as they are.

    Returns:
        The images and labels of both splits.

    Raises:
        ValueError: If the name is unknown; the data set is not there (says where it was looked for and the command that
            prepares it), damaged or empty; ``limit`` is missing for imagenet2012; or ``limit`` or ``image_size`` is no
            integer of at least 1; ``classes`` are no classes, or one of them twice; see ``image_folder`` for the
            errors of a folder.
        ImportError: If the digits are asked for without scikit-learn; the message names the extra.

    Example:
        >>> load("digits").train_images.shape
        (1437, 8, 8, 1)
    """
    for argument, value in (("limit", limit), ("image_size", image_size)):
        tfds.require_limit(argument, value)
    if classes is not None:
        return _of_classes(name, data_dir, limit, image_size, classes)
    if isinstance(name, os.PathLike) or (isinstance(name, str) and os.sep in name):
        return _of_folder(Path(name).expanduser(), limit, image_size or _IMAGENET_SIZE)
    if name not in NAMES:
        raise ValueError(
            f"name={name!r} is not a known data set; known are {', '.join(NAMES)}, and paths of folders with a "
            "separator in them"
        )
    if name == "digits":
        return _digits(limit, image_size)
    if name == "imagenet2012":
        image_size = image_size or _IMAGENET_SIZE
        if limit is None:
            gigabytes = 1_281_167 * image_size**2 * 3 / 1e9
            raise ValueError(
                f"limit=None is not allowed for imagenet2012: all training images at image_size={image_size} would "
                f"take {gigabytes:.0f} GB of memory; give the number of examples to keep of each split"
            )
    with contextlib.ExitStack() as held:
        sources, origin = _open(name, data_dir, held)
        arrays = _decoded(name, sources, limit, image_size)
        source = origin + _jpeg_remark(name, sources["train"])
    return ImageData(name, **arrays, classes=_STOCK[name].classes, source=source)


def _of_folder(root: Path, limit: int | None, image_size: int) -> ImageData:
    """Return the first images of the folders ``train`` and ``val``."""
    folders = {split: image_folder(root / place, image_size=image_size) for split, place in _FOLDERS.items()}
    names = {split: folder.names for split, folder in folders.items()}
    if names["train"] != names["test"]:
        differ = sorted(set(names["train"]) ^ set(names["test"]))
        raise ValueError(
            f"name={str(root)!r}: train and val must have the same class folders, only one has {differ[:3]}"
        )
    if limit is None:
        raise ValueError(
            f"limit=None is not allowed for a folder, whose {len(folders['train'])} training images need not fit in "
            "memory: give the number of images to keep of each split, or read it in batches, image_folder(path).batches"
        )
    arrays = {}
    for split, folder in folders.items():
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = folder.arrays(limit, workers=_workers(limit))
    resize = folders["train"].resize
    source = f"folder {root.name}, shorter side {resize}, center crop {image_size}"
    return ImageData(root.name, **arrays, classes=folders["train"].classes, source=source)


def _workers(count: int) -> int | None:
    """Return 0, for none, where starting processes would take longer than to decode so few images."""
    return None if count >= _FEW else 0


def _of_classes(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    limit: int | None,
    image_size: int | None,
    classes: Sequence[int | Sequence[int]],
) -> ImageData:
    """Return the data with some classes left out or made one."""
    if isinstance(classes, str) or not isinstance(classes, Sequence) or len(classes) == 0:
        raise ValueError(f"classes must be a list of classes, or of lists of them, got {classes!r}")
    sampled = name == "imagenet2012" or name not in NAMES  # all of them need not fit in memory
    data = load(name, data_dir=data_dir, limit=limit if sampled else None, image_size=image_size)
    place = np.full(data.classes, -1, np.int32)
    for new, old in enumerate(classes):
        members = np.atleast_1d(checks.host_values(list(old) if isinstance(old, range) else old, "classes"))
        if members.dtype.kind not in "iu" or not members.size or members.min() < 0 or members.max() >= data.classes:
            raise ValueError(f"classes must be from 0 to {data.classes - 1}, got {old!r}")
        if (place[members] >= 0).any() or len(set(members.tolist())) < len(members):
            raise ValueError(f"classes must have each class once, got {classes!r}")
        place[members] = new
    arrays = {}
    for split in ("train", "test"):
        labels = place[getattr(data, f"{split}_labels")]
        kept = np.flatnonzero(labels >= 0)[:limit]
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = getattr(data, f"{split}_images")[kept], labels[kept]
    shown = [list(old) if isinstance(old, range) else old for old in classes]
    return ImageData(data.name, **arrays, classes=len(classes), source=f"{data.source}; classes {shown}")


def _digits(limit: int | None, image_size: int | None) -> ImageData:
    try:
        from sklearn.datasets import load_digits  # takes a second to import
    except ImportError as error:
        raise ImportError("the digits need scikit-learn: pip install 'jaxsens[demo]'") from error

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    if image_size is not None:
        images = np.stack([center_crop(image, image_size, image_size) for image in images])
    labels = digits.target.astype(np.int32)
    test = np.arange(len(labels)) % 5 == 0
    return ImageData(
        "digits",
        images[~test][:limit],
        labels[~test][:limit],
        images[test][:limit],
        labels[test][:limit],
        classes=10,
        source="UCI optical digits, the 1,797 in scikit-learn; every fifth is a test image, so that both splits share "
        "writers",
    )


def _open(name: str, data_dir: str | os.PathLike[str] | None, held: contextlib.ExitStack) -> tuple[dict[str, Any], str]:
    """Return the data source of each split and where they come from; ``held`` keeps temporary folders."""
    from jaxsens.data import fashion_mnist_idx  # imports TFDS

    splits = {"train": "train", "test": _STOCK[name].test_split}
    idx_folder = fashion_mnist_idx.DEBIAN_FOLDER if name == "fashion_mnist" else None
    try:
        sources = tfds.open_splits(name, splits, data_dir, other_places=[idx_folder] if idx_folder else [])
    except ValueError:
        if idx_folder is None or not fashion_mnist_idx.is_present(idx_folder):
            raise
    else:
        return sources, f"TFDS {_full_name(sources)}"
    files = [path for pair in fashion_mnist_idx.idx_files(idx_folder).values() for path in pair]
    key = array_cache.digest({"idx": array_cache.fingerprint(files)})
    folder = held.enter_context(array_cache.working_folder(f"tfds-{key}"))
    fashion_mnist_idx.prepare(idx_folder, folder)
    sources = tfds.open_splits(name, splits, folder)
    return sources, f"TFDS {_full_name(sources)}, exact, prepared by jaxsens from the idx files"


def _full_name(sources: Mapping[str, Any]) -> str:
    return sources["train"].dataset_info.full_name


def _jpeg_remark(name: str, source: Any) -> str:
    """Return a remark if images that were published losslessly are stored as JPEG, which changes pixels."""
    record = b""
    with contextlib.suppress(Exception):  # a damaged record is reported when it is decoded
        record = source.data_source[0] if len(source) else b""
    if _STOCK[name].lossless and isinstance(record, bytes) and b"\xff\xd8\xff" in record and b"\x89PNG" not in record:
        return "; images are stored re-encoded as JPEG, so that pixels differ slightly from the published ones"
    return ""


def _decoded(name: str, sources: Mapping[str, Any], limit: int | None, image_size: int | None) -> dict[str, np.ndarray]:
    """Return the arrays of both splits, from the cache if they are in it."""

    def decode() -> dict[str, np.ndarray]:
        arrays = {}
        for split, source in sources.items():
            count = len(source) if limit is None else min(limit, len(source))
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = _decode(source, count, image_size, name, split)
        return arrays

    info = sources["train"].dataset_info
    files = [path for path in Path(info.data_dir).glob("*") if path.is_file()]
    if not files:  # nothing that identifies the data, as under tfds.testing.mock_data
        return decode()
    key = {
        "format": _FORMAT,
        "name": info.full_name,
        "limit": limit,
        "image_size": image_size,
        "files": array_cache.fingerprint(files),
    }
    return array_cache.cached(info.full_name.replace("/", "-"), key, decode)


def _decode(
    source: Sequence, count: int, image_size: int | None, name: str, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the first ``count`` examples; labels may be integers or arrays (mocked data)."""
    labels = np.zeros(count, np.int32)
    if count == 0:
        return np.zeros((0, 1, 1, 1), np.uint8), labels

    def example(index: int) -> tuple[np.ndarray, int]:
        record = tfds.record(source, index, name, split)
        image = np.asarray(record["image"])
        return image if image_size is None else center_crop(image, image_size, image_size), int(record["label"])

    title = f"decode {name} {split}"
    images = np.zeros((count, *example(0)[0].shape), np.uint8)
    with ThreadPool(os.cpu_count()) as pool:  # Pillow decodes and resizes outside of the interpreter's lock
        decoded = pool.imap(example, range(count), chunksize=64)
        for index, (image, label) in enumerate(tqdm(decoded, title, count, delay=2, leave=False)):
            if image.shape != images.shape[1:]:
                raise ValueError(
                    f"image {index} has shape {image.shape}, image 0 has {images.shape[1:]} ({title}); "
                    f"give image_size to make all images one size"
                )
            images[index], labels[index] = image, label
    return images, labels


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
