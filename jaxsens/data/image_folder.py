"""Images in a folder for each class, such as ImageNet's: decoded in processes, batch by batch, never all in memory."""

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsens.data.tfds import require_limit
from jaxsens.execution import checks, threads

__all__ = ["SUFFIXES", "ImageFolder", "center_crop", "decode", "image_folder"]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
"""Files that are images, in any case; all others are passed over."""

_AT_ONCE = 16  # files that a process decodes for one message


@dataclass(frozen=True)
class ImageFolder:
    """Image files with labels; nothing is decoded until ``batches`` or ``arrays`` is called.

    Attributes:
        files: Paths, class by class, by name within a class.
        labels: int32 ``[n]``: the place of the file's folder among the folders by name.
        names: Names of the class folders, in order.
        image_size: Side of the images in pixels.
        resize: The shorter side before the crop, in pixels.

    Example:
        >>> ImageFolder((), np.zeros(0, np.int32), ("cat", "dog"), 224, 256).classes
        2
    """

    files: tuple[Path, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    image_size: int
    resize: int

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    def __len__(self) -> int:
        return len(self.files)

    def batches(
        self, size: int, *, limit: int | None = None, workers: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield numbers uint32 ``[b]``, images uint8 ``[b s s 3]`` and labels int32 ``[b]``, in the order of ``files``.

        Images are decoded ahead of their use, at most four batches of them. The numbers are those of the files, for
        measures that take ``index``, so that what is random does not depend on the batches.

        Args:
            size: Images in a batch; the last may have fewer.
            limit: Stop after so many images, taken from all classes in turn; by default all, class by class.
            workers: Processes that decode, by default one for each core; 0 decodes in this one. A program that starts
                processes needs ``if __name__ == "__main__":`` around what it runs.

        Raises:
            ValueError: If a number is no count, or a file cannot be decoded; the message names the file.
        """
        size = checks.require_count("size", size)
        require_limit("limit", limit)
        workers = threads.cores() if workers is None else checks.require_count("workers", workers, 0)
        chosen = self.chosen(limit)
        return self._decoded([chosen[i : i + size] for i in range(0, len(chosen), size)], workers)

    def chosen(self, limit: int | None) -> np.ndarray:
        """Return the numbers of the first ``limit`` files, taken from all classes in turn; of all by default.

        Example:
            >>> files = tuple(Path(name) for name in ("a/1", "a/2", "a/3", "b/1"))
            >>> ImageFolder(files, np.array([0, 0, 0, 1]), ("a", "b"), 8, 8).chosen(3).tolist()
            [0, 3, 1]
        """
        if limit is None:
            return np.arange(len(self))
        place = np.arange(len(self)) - np.searchsorted(self.labels, self.labels)  # within the class
        return np.lexsort((self.labels, place))[:limit]

    def arrays(self, limit: int | None = None, *, workers: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 ``[n s s 3]`` and labels ``[n]``, all of them in memory; see ``batches``."""
        batches = list(self.batches(64, limit=limit, workers=workers))
        return np.concatenate([images for _, images, _ in batches]), np.concatenate([labels for *_, labels in batches])

    def _decoded(self, batches: list[np.ndarray], workers: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        pool: contextlib.AbstractContextManager = (
            # A fork of a process with JAX's threads may hang.
            concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            if workers
            else concurrent.futures.ThreadPoolExecutor(threads.cores())
        )
        with pool as executor:
            waiting, remaining = collections.deque(), iter(batches)
            try:
                for batch in itertools.chain(remaining, [None] * 4):
                    if batch is not None:
                        parts = [batch[i : i + _AT_ONCE] for i in range(0, len(batch), _AT_ONCE)]
                        paths = [[self.files[i] for i in part] for part in parts]
                        waiting.append(
                            (batch, [executor.submit(decode, part, self.image_size, self.resize) for part in paths])
                        )
                    if waiting and (batch is None or len(waiting) > 3):
                        numbers, parts = waiting.popleft()
                        images = np.concatenate([part.result() for part in parts])
                        yield numbers.astype(np.uint32), images, self.labels[numbers]
            finally:
                executor.shutdown(wait=True, cancel_futures=True)


def image_folder(path: str | os.PathLike[str], *, image_size: int = 224, resize: int | None = None) -> ImageFolder:
    """List the images of a folder that has a folder for each class; labels are in the order of the folders' names.

    ImageNet's folders are named by synset, ``n01440764`` and so on, in the order of its 1,000 classes. Images are
    decoded by Pillow, made RGB (a grayscale file gives three equal channels), resized to a shorter side of ``resize``
    pixels (bilinear with antialiasing), and cropped to the center.

    Args:
        path: The folder of class folders.
        image_size: Side of the images in pixels.
        resize: The shorter side before the crop, by default 256 for each 224 of ``image_size``, as is usual.

    Raises:
        ValueError: If a size is no count, or ``resize`` is below ``image_size``; there is no such folder, it has no
            class folders, or a class folder has no image.

    Example:
        >>> image_folder("nowhere")
        Traceback (most recent call last):
        ValueError: path must be a folder with a folder for each class, got nowhere, which is no folder
    """
    image_size = checks.require_count("image_size", image_size)
    resize = round(image_size * 256 / 224) if resize is None else checks.require_count("resize", resize)
    if resize < image_size:
        raise ValueError(f"resize must be at least image_size, {image_size}, got {resize}: the crop would not fit")
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be a path of a folder, got {path!r}")
    root = Path(path).expanduser()
    rule = f"path must be a folder with a folder for each class, got {root}, which"
    if not root.is_dir():
        raise ValueError(f"{rule} is no folder")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise ValueError(f"{rule} has none")
    files, labels = [], []
    for label, folder in enumerate(folders):
        images = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if not images:
            raise ValueError(f"{rule} has a folder without images, {folder.name}: remove it, or add {SUFFIXES} files")
        files += images
        labels += [label] * len(images)
    names = tuple(folder.name for folder in folders)
    return ImageFolder(tuple(files), np.asarray(labels, np.int32), names, image_size, resize)


def decode(files: list[Path], image_size: int, resize: int) -> np.ndarray:
    """Return images of files, uint8 ``[n s s 3]``; see ``image_folder``.

    Raises:
        ValueError: If a file cannot be decoded; the message names it.

    Example:
        >>> decode([Path("missing.png")], 8, 8)
        Traceback (most recent call last):
        ValueError: image file missing.png cannot be decoded: ...
    """
    from PIL import Image

    images = np.empty((len(files), image_size, image_size, 3), np.uint8)
    for image, file in zip(images, files, strict=True):
        try:
            with Image.open(file) as picture:
                image[:] = center_crop(np.asarray(picture.convert("RGB")), image_size, resize)
        except Exception as error:  # of Pillow or of the file system, depending on the damage
            raise ValueError(f"image file {file} cannot be decoded: {error or type(error).__name__}") from error
    return images


def center_crop(image: np.ndarray, size: int, resize: int) -> np.ndarray:
    """Resize the shorter side to ``resize`` and crop the center: ``[h w c]`` uint8 to ``[size size c]``.

    Example:
        >>> center_crop(np.zeros((6, 9, 3), np.uint8), 2, 3).shape
        (2, 2, 3)
    """
    from PIL import Image

    height, width, channels = image.shape
    scale = resize / min(height, width)
    rows, columns = max(resize, round(height * scale)), max(resize, round(width * scale))
    if (rows, columns) != (height, width):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        image = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR)).reshape(rows, columns, channels)
    top, left = (rows - size) // 2, (columns - size) // 2
    return image[top : top + size, left : left + size]
