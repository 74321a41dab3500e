"""A folder of images in class folders: what is listed, decoded and refused."""

import numpy as np
import pytest
from PIL import Image

from jaxsens.data import images
from jaxsens.data.image_folder import image_folder


def write(root, counts, seed=0, size=(20, 30)):
    """Write PNG files, whose pixels are kept, in class folders; return them by class."""
    rng, written = np.random.default_rng(seed), {}
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        written[name] = rng.integers(0, 256, (count, *size, 3), np.uint8)
        for i, image in enumerate(written[name]):
            Image.fromarray(image).save(root / name / f"{i:03}.png")
    return written


def test_files_are_listed_by_class_and_read_in_batches(tmp_path):
    written = write(tmp_path, {"cat": 3, "dog": 2})
    (tmp_path / "dog" / "notes.txt").write_text("no image")
    folder = image_folder(tmp_path, image_size=10, resize=20)  # the shorter side as it is: a crop, no more
    assert (len(folder), folder.classes, folder.names) == (5, 2, ("cat", "dog"))
    expected = np.concatenate([written["cat"], written["dog"]])[:, 5:15, 10:20]
    batches = list(folder.batches(2, workers=0))
    assert [len(labels) for *_, labels in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part for _, part, _ in batches]), expected)
    np.testing.assert_array_equal(np.concatenate([numbers for numbers, *_ in batches]), np.arange(5))
    np.testing.assert_array_equal(folder.arrays(workers=0)[1], [0, 0, 0, 1, 1])
    pictures, labels = folder.arrays(3, workers=0)
    np.testing.assert_array_equal(labels, [0, 1, 0])
    np.testing.assert_array_equal(pictures, expected[[0, 3, 1]])


def test_processes_decode_the_same_and_only_a_few_batches_ahead(tmp_path):
    write(tmp_path, {"a": 3, "b": 3}, size=(8, 8))
    folder = image_folder(tmp_path, image_size=8, resize=8)
    batches = folder.batches(1, workers=1)
    np.testing.assert_array_equal(next(batches)[1], folder.arrays(1, workers=0)[0])
    for path in folder.files[5:]:
        path.unlink()  # not read yet
    with pytest.raises(ValueError, match=r"image file .*002\.png cannot be decoded"):
        list(batches)


def test_load_takes_a_folder_and_resizes_as_is_usual(tmp_path):
    for split, seed in (("train", 0), ("val", 1)):
        write(tmp_path / split, {"n01": 2, "n02": 2}, seed=seed, size=(16, 24))
    flat = np.full((16, 24), 77, np.uint8)
    Image.fromarray(flat).save(tmp_path / "val" / "n01" / "000.png")  # grayscale
    data = images.load(tmp_path, limit=3, image_size=7)
    assert data.image_shape == (7, 7, 3)
    assert (data.train_labels.tolist(), data.test_labels.tolist(), data.classes) == ([0, 1, 0], [0, 1, 0], 2)
    assert (data.test_images[0] == 77).all()
    picture = Image.open(tmp_path / "train" / "n01" / "000.png").resize((12, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.train_images[0], np.asarray(picture)[0:7, 2:9])  # 8 is 256 / 224 of 7
    assert "shorter side 8, center crop 7" in data.source
    one = images.load(str(tmp_path), limit=2, image_size=7, classes=[1])
    assert (one.train_labels.tolist(), one.classes) == ([0], 1)


def test_bad_folders_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="which is no folder"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="which has none"):
        image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder without images, empty: remove it"):
        image_folder(tmp_path)
    write(tmp_path, {"full": 1})
    (tmp_path / "empty").rmdir()
    with pytest.raises(ValueError, match="resize must be at least image_size, 224, got 9"):
        image_folder(tmp_path, resize=9)
    folder = image_folder(tmp_path)
    with pytest.raises(ValueError, match="workers must be an integer of at least 0"):
        folder.batches(1, workers=-1)
    folder.files[0].write_bytes(b"\x89PNG, cut")
    with pytest.raises(ValueError, match=r"image file .*full.*000\.png cannot be decoded"):
        folder.arrays(workers=0)
    write(tmp_path / "train", {"a": 1, "b": 1})
    write(tmp_path / "val", {"a": 1})
    with pytest.raises(ValueError, match=r"same class folders, only one has \['b'\]"):
        images.load(tmp_path, limit=1)
    write(tmp_path / "val", {"b": 1})
    with pytest.raises(ValueError, match="limit=None is not allowed for a folder, whose 2 training images"):
        images.load(tmp_path)


def test_classes_are_kept_renumbered_or_made_one():
    whole = images.load("digits")
    halves = images.load("digits", classes=[range(5), range(5, 10)], limit=50)
    np.testing.assert_array_equal(halves.test_images, whole.test_images[:50])
    np.testing.assert_array_equal(halves.test_labels, whole.test_labels[:50] >= 5)
    pair = images.load("digits", classes=[7, 1], limit=20)
    kept = np.isin(whole.train_labels, [1, 7])
    np.testing.assert_array_equal(pair.train_images, whole.train_images[kept][:20])
    np.testing.assert_array_equal(pair.train_labels, whole.train_labels[kept][:20] == 1)
    assert (pair.classes, "classes [7, 1]" in pair.source) == (2, True)
    for classes, match in (
        ([3, 10], "classes must be from 0 to 9, got 10"),
        ([3, [3, 4]], "classes must have each class once"),
        ("01", "classes must be a list"),
        ([0.5], "classes must be from 0 to 9, got 0.5"),
    ):
        with pytest.raises(ValueError, match=match):
            images.load("digits", classes=classes)
