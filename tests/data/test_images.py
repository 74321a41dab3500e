"""Data sets of images: what is loaded, from which files, and what is refused.

The file is long because its tests share the data sets that they write.
"""

import gzip
import importlib.util
import io
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from jaxsens.data import array_cache, fashion_mnist_idx, images

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "prepare_data"
FIELDS = ("train_images", "train_labels", "test_images", "test_labels")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no default TFDS folder, and no Debian files, whatever this machine has."""
    monkeypatch.setenv("JAXSENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(fashion_mnist_idx, "DEBIAN_FOLDER", tmp_path / "debian")
    return tmp_path / "cache"


def random_split(seed, count, shape):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, 10, count)


def write_tfds(data_dir, name, splits, encoding="png", size=None):
    """Write ``splits`` {split: (images, labels)} as the TFDS data set ``name``, as real as a stock one."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.builder_cls(name).VERSION

        def _info(self):
            shape = next(iter(splits.values()))[0][0].shape if size is None else size
            image = tfds.features.Image(shape=shape, encoding_format=encoding)
            label = tfds.features.ClassLabel(num_classes=1000)
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*data) for split, data in splits.items()}

        def _generate_examples(self, pictures, labels):
            for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
                content = io.BytesIO()
                Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(content, encoding)
                yield index, {"image": io.BytesIO(content.getvalue()), "label": int(label)}

    Tiny.name = name
    Tiny(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    return data_dir


def cifar(data_dir, seed=0, encoding="png"):
    splits = {"train": random_split(seed, 5, (32, 32, 3)), "test": random_split(seed + 100, 3, (32, 32, 3))}
    return write_tfds(data_dir, "cifar10", splits, encoding), splits


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion(folder, seed=0, counts=(6, 4)):
    splits = {}
    for (split, (images_path, labels_path)), count in zip(
        fashion_mnist_idx.idx_files(folder).items(), counts, strict=True
    ):
        pictures, labels = random_split(seed, count, (28, 28))
        write_idx(images_path, pictures)
        write_idx(labels_path, labels.astype(np.uint8))
        splits[split] = pictures[..., None], labels
    return splits


def assert_same(one, other):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def assert_holds(data, splits):
    """TFDS shuffles: the pairs of image and label are the same, in whatever order."""
    for split, (pictures, labels) in splits.items():
        found = zip(getattr(data, f"{split}_images"), getattr(data, f"{split}_labels"), strict=True)
        expected = zip(pictures, labels, strict=True)
        assert sorted((x.tobytes(), int(y)) for x, y in found) == sorted((x.tobytes(), int(y)) for x, y in expected)


def no_decoding(*arguments):
    raise AssertionError("decoded again")


# Digits and the pixel space


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsens\[demo\]'"):
        images.load("digits")


def test_digits_are_split_by_index_and_nothing_is_lost_or_shared():
    data, raw = images.load("digits"), load_digits()
    assert data.image_shape == (8, 8, 1)
    assert (len(data.train_images), len(data.test_images), data.classes) == (1437, 360, 10)
    assert data.train_labels.dtype == data.test_labels.dtype == np.int32
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    is_test = np.arange(1797) % 5 == 0
    whole = np.empty((1797, 8, 8, 1), np.uint8)
    whole[is_test], whole[~is_test] = data.test_images, data.train_images
    np.testing.assert_array_equal(whole[..., 0], np.round(raw.images * 255 / 16))
    assert (whole.min(), whole.max()) == (0, 255)
    np.testing.assert_array_equal(data.test_labels, raw.target[is_test])
    np.testing.assert_array_equal(data.train_labels, raw.target[~is_test])
    assert_same(data, images.load("digits"))


def test_limit_keeps_the_first_of_each_split():
    data, few = images.load("digits"), images.load("digits", limit=400)
    assert (len(few.train_images), len(few.test_images)) == (400, 360)
    np.testing.assert_array_equal(few.train_images, data.train_images[:400])
    np.testing.assert_array_equal(few.train_labels, data.train_labels[:400])
    assert len(images.load("digits", limit=7).test_labels) == 7


def test_normalize_maps_bytes_onto_minus_one_to_one():
    every_byte = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    pixels = images.normalize(every_byte)
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (-1, 1)
    np.testing.assert_allclose(pixels, 2 * every_byte.astype(np.float64) / 255 - 1, atol=1e-7)
    on_device = images.normalize(jnp.asarray(every_byte))
    np.testing.assert_allclose(on_device, pixels, rtol=0, atol=2e-7)  # XLA multiplies by 1 / 255
    with pytest.raises(ValueError, match="float32"):
        images.normalize(pixels)


# TFDS data sets


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mnist", (28, 28, 1), 10),
        ("fashion_mnist", (28, 28, 1), 10),
        ("cifar10", (32, 32, 3), 10),
        ("svhn_cropped", (32, 32, 3), 10),
        ("imagenet2012", (24, 24, 3), 1000),
    ],
)
def test_mocked_data_of_every_name(name, shape, classes, cache):
    size = {"image_size": 24} if name == "imagenet2012" else {}
    with tfds.testing.mock_data(num_examples=4):
        data = images.load(name, limit=3, **size)
    assert data.image_shape == shape
    assert len(data.train_images) == len(data.test_images) == 3
    assert data.classes == classes
    assert name in data.source
    assert not cache.exists(), "mocked arrays must never be kept"


def test_every_name_is_tested_and_patches_are_reachable_here():
    assert images.NAMES == ("digits", "mnist", "fashion_mnist", "cifar10", "svhn_cropped", "imagenet2012")
    assert images.from_patches(images.to_patches(np.eye(4)[..., None], 2), 2, (4, 4, 1)).shape == (4, 4, 1)


def test_prepared_folder_is_read_exactly(tmp_path):
    folder, splits = cifar(tmp_path / "tfds")
    data = images.load("cifar10", data_dir=folder)
    assert_holds(data, splits)
    assert data.train_labels.dtype == np.int32
    assert "cifar10/3.0.2" in data.source
    assert "JPEG" not in data.source


def test_jpeg_images_are_named_in_the_source(tmp_path):
    folder, splits = cifar(tmp_path / "tfds", encoding="jpeg")
    data = images.load("cifar10", data_dir=folder)
    assert "JPEG" in data.source
    assert (data.train_images != splits["train"][0]).any()
    photographs = {"train": random_split(0, 1, (8, 8, 3)), "validation": random_split(1, 1, (8, 8, 3))}
    write_tfds(folder, "imagenet2012", photographs, "jpeg", size=(None, None, 3))
    assert "JPEG" not in images.load("imagenet2012", data_dir=folder, limit=1).source, "ImageNet was published so"


def test_imagenet_is_cropped_to_the_center_after_resizing_the_shorter_side(tmp_path):
    rng = np.random.default_rng(0)
    wide, tall, same = (rng.integers(0, 256, (*size, 3), np.uint8) for size in [(8, 16), (13, 8), (8, 8)])
    flat = np.full((24, 40, 3), 77, np.uint8)
    splits = {"train": ([wide, tall, same, flat], [0, 1, 2, 3]), "validation": ([same], [999])}
    folder = write_tfds(tmp_path / "tfds", "imagenet2012", splits, size=(None, None, 3))
    data = images.load("imagenet2012", data_dir=folder, limit=10, image_size=8)
    by_label = dict(zip(data.train_labels.tolist(), data.train_images, strict=True))
    np.testing.assert_array_equal(by_label[0], wide[:, 4:12])  # the shorter side is 8 already: a crop, no more
    np.testing.assert_array_equal(by_label[1], tall[2:10])
    np.testing.assert_array_equal(by_label[2], same)
    np.testing.assert_array_equal(by_label[3], np.full((8, 8, 3), 77))
    np.testing.assert_array_equal(data.test_labels, [999])
    assert "JPEG" not in data.source
    assert images.load("imagenet2012", data_dir=folder, limit=1).image_shape == (224, 224, 3)


# Errors


def test_missing_data_set_names_places_and_command(tmp_path):
    for name in ("mnist", "fashion_mnist"):
        for data_dir in (tmp_path / "nowhere", None):
            root = data_dir or tmp_path / "default"
            with pytest.raises(ValueError, match="is not there") as caught:
                images.load(name, data_dir=data_dir)
            message = str(caught.value)
            assert str(root / name) in message
            assert message.endswith(f"python scripts/prepare_data {name} --data-dir {root}")
            assert (str(tmp_path / "debian") in message) == (name == "fashion_mnist")
    assert os.access(SCRIPT, os.X_OK)


def test_folder_that_cannot_be_read_says_so(tmp_path):
    folder, _ = cifar(tmp_path / "tfds")
    shutil.move(folder / "cifar10" / "3.0.2", folder / "cifar10" / "1.0.0")
    with pytest.raises(ValueError, match=r"is there, but not as array_record.*prepare_data cifar10"):
        images.load("cifar10", data_dir=folder)


def test_a_split_that_is_not_there_is_an_error(tmp_path):
    folder = write_tfds(tmp_path / "tfds", "cifar10", {"train": random_split(0, 2, (32, 32, 3))})
    with pytest.raises(ValueError, match="prepare_data cifar10"):
        images.load("cifar10", data_dir=folder)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"name='cifar'.*digits, mnist, fashion_mnist, cifar10"):
        images.load("cifar")
    for argument in ("limit", "image_size"):
        with pytest.raises(ValueError, match=f"{argument}=0 must be an integer of at least 1"):
            images.load("digits", **{argument: 0})
    with pytest.raises(ValueError, match=r"limit=None .* 193 GB of memory"):
        images.load("imagenet2012", data_dir=tmp_path)


def test_fewer_records_in_the_description_than_in_the_files_are_an_error(tmp_path):
    cifar(tmp_path)
    (path,) = tmp_path.rglob("dataset_info.json")
    path.write_text(path.read_text().replace('"5"', '"2"'))
    match = r"split 'train' of data set 'cifar10' is damaged, in .*prepare_data cifar10.*lists 2 records, .*hold 5"
    with pytest.raises(ValueError, match=match):
        images.load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_records_name_data_set_and_command(tmp_path, damage):
    cifar(tmp_path)
    path = next(tmp_path.rglob("*train.array_record*"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw if damage == "flipped" else raw[: len(raw) // 2])
    match = r"of split 'train' of data set 'cifar10' is damaged, in .*cifar10.*prepare it again with: .*prepare_data"
    with pytest.raises(ValueError, match=match):
        images.load("cifar10", data_dir=tmp_path)


def test_empty_data_set_is_refused():
    with tfds.testing.mock_data(num_examples=0), pytest.raises(ValueError, match="'mnist' has no train examples"):
        images.load("mnist")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_images": np.zeros((0, 2, 2, 1), np.uint8), "test_labels": np.zeros(0, np.int32)}, "no test examples"),
        ({"train_images": np.zeros((3, 2, 2, 1), np.float32)}, "float32"),
        ({"test_images": np.zeros((2, 4, 2, 1), np.uint8)}, "one size"),
        ({"train_labels": np.zeros(2, np.int32)}, "must be 3, got 2"),
        (
            {"train_labels": np.array([0, 1, 5], np.int32)},
            r"train_labels of 'x': labels must be classes from 0 to 4, got 5 at \[2\]",
        ),
        ({"train_labels": np.array([0, 1, np.nan])}, "train_labels of 'x': labels must be integers"),
        (
            {"test_labels": np.array([0, -1], np.int32)},
            r"test_labels of 'x': labels must be classes from 0 to 4, got -1 at \[1\]",
        ),
    ],
)
def test_image_data_checks_itself(change, message):
    fields = {
        "train_images": np.zeros((3, 2, 2, 1), np.uint8),
        "train_labels": np.zeros(3, np.int32),
        "test_images": np.zeros((2, 2, 2, 1), np.uint8),
        "test_labels": np.zeros(2, np.int32),
    }
    images.ImageData("x", **fields, classes=5, source="here")
    with pytest.raises(ValueError, match=message):
        images.ImageData("x", **(fields | change), classes=5, source="here")


# The cache


def test_second_load_is_equal_and_does_not_decode(tmp_path, monkeypatch, cache):
    folder, _ = cifar(tmp_path / "tfds")
    first = images.load("cifar10", data_dir=folder)
    few = images.load("cifar10", data_dir=folder, limit=2)
    small = images.load("cifar10", data_dir=folder, image_size=8)
    monkeypatch.setattr(images, "_decode", no_decoding)
    assert_same(images.load("cifar10", data_dir=folder), first)
    assert_same(images.load("cifar10", data_dir=folder, limit=2), few)
    assert_same(images.load("cifar10", data_dir=folder, image_size=8), small)
    assert len(few.train_images) == 2
    assert small.image_shape == (8, 8, 3)
    assert sorted(path.suffix for path in cache.iterdir()) == [".npz"] * 3, "nothing half-written is left"


@pytest.mark.parametrize("damage", ["truncated", "one byte", "text", "empty"])
def test_damaged_cache_is_made_again(tmp_path, monkeypatch, cache, damage, caplog):
    folder, _ = cifar(tmp_path / "tfds")
    first = images.load("cifar10", data_dir=folder)
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:999], "one byte": content, "text": b"what?", "empty": b""}[damage])
    assert_same(images.load("cifar10", data_dir=folder), first)
    assert "making them again" in caplog.text
    monkeypatch.setattr(images, "_decode", no_decoding)
    assert_same(images.load("cifar10", data_dir=folder), first)


def test_other_data_of_the_same_name_is_not_mistaken(tmp_path):
    """Another folder, with files of the same names, sizes and times; then the same folder with later files."""
    (here, splits), (there, other_splits) = cifar(tmp_path / "a", 1), cifar(tmp_path / "b", 2)
    for path in [path for folder in (here, there) for path in folder.rglob("*")]:
        os.utime(path, (1e9, 1e9))
    assert_holds(images.load("cifar10", data_dir=here), splits)
    assert_holds(images.load("cifar10", data_dir=there), other_splits)
    shutil.rmtree(here)
    shutil.copytree(there, here)  # keeps the times
    for path in here.rglob("*"):
        os.utime(path, (2e9, 2e9))
    assert_holds(images.load("cifar10", data_dir=here), other_splits)


def test_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch, caplog):
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("JAXSENS_CACHE", str(blocked))
    folder, splits = cifar(tmp_path / "tfds")
    assert_holds(images.load("cifar10", data_dir=folder), splits)
    assert "JAXSENS_CACHE" in caplog.text
    splits = write_fashion(tmp_path / "debian")
    assert_holds(images.load("fashion_mnist", data_dir=tmp_path / "nowhere"), splits)


def test_writing_is_whole_or_not_at_all(monkeypatch, cache):
    def torn(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", torn)
    with pytest.raises(KeyboardInterrupt):
        array_cache.cached("x", {}, lambda: {"a": np.arange(3)})
    assert list(cache.iterdir()) == []


def test_cache_never_unpickles(cache):
    array_cache.cached("x", {}, lambda: {"a": np.arange(3)})
    (path,) = cache.iterdir()
    np.savez(path, a=np.array([{"an": "object"}]))
    np.testing.assert_array_equal(array_cache.cached("x", {}, lambda: {"a": np.arange(3)})["a"], np.arange(3))


def test_cache_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    assert array_cache.folder() == tmp_path / "cache"
    monkeypatch.setenv("JAXSENS_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert array_cache.folder() == tmp_path / "xdg" / "jaxsens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert array_cache.folder() == tmp_path / "home" / ".cache" / "jaxsens"


# Fashion-MNIST from idx files


def test_idx_round_trip_through_the_stock_name(tmp_path):
    splits = write_fashion(tmp_path / "idx")
    fashion_mnist_idx.prepare(tmp_path / "idx", tmp_path / "tfds")
    data = images.load("fashion_mnist", data_dir=tmp_path / "tfds")
    assert_holds(data, splits)
    stock = tfds.data_source("fashion_mnist", split="train", data_dir=str(tmp_path / "tfds"), download=False)
    assert stock.dataset_info.features["label"].num_classes == 10


def test_debian_files_are_read_only_if_the_folder_is_absent(tmp_path, monkeypatch):
    splits = write_fashion(tmp_path / "debian", seed=1)
    data = images.load("fashion_mnist", data_dir=tmp_path / "nowhere")
    assert_holds(data, splits)
    assert "idx files" in data.source
    with monkeypatch.context() as patched:
        patched.setattr(images, "_decode", no_decoding)
        assert_same(images.load("fashion_mnist", data_dir=tmp_path / "nowhere"), data)
    later = write_fashion(tmp_path / "debian", seed=2)
    assert_holds(images.load("fashion_mnist", data_dir=tmp_path / "nowhere"), later)
    other = write_fashion(tmp_path / "idx", seed=3)
    fashion_mnist_idx.prepare(tmp_path / "idx", tmp_path / "tfds")
    chosen = images.load("fashion_mnist", data_dir=tmp_path / "tfds")
    assert_holds(chosen, other)
    assert "idx files" not in chosen.source
    with pytest.raises(ValueError, match="'mnist' is not there"):
        images.load("mnist", data_dir=tmp_path / "tfds")


def test_damaged_idx_files_are_named(tmp_path):
    write_fashion(tmp_path / "idx")
    path = tmp_path / "idx" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    plain = gzip.decompress(whole)
    for content, message in [
        (whole[:-20], "not a whole gzip file"),
        (b"plain", "not a whole gzip file"),
        (gzip.compress(b"\0\0\x0d" + plain[3:]), "not an idx file"),
        (gzip.compress(plain[:6]), "not an idx file"),
        (gzip.compress(plain[:-1]), r"holds 4703 values, but its header says \(6, 28, 28\)"),
        (gzip.compress(plain + b"\0"), "holds 4705 values"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"train-images.*{message}"):
            fashion_mnist_idx.read_idx(path)
    path.write_bytes(whole)
    write_idx(tmp_path / "idx" / "train-labels-idx1-ubyte.gz", np.zeros(5, np.uint8))
    with pytest.raises(ValueError, match="does not fit"):
        fashion_mnist_idx.prepare(tmp_path / "idx", tmp_path / "tfds")
    with pytest.raises(ValueError, match="does not hold the idx files"):
        fashion_mnist_idx.prepare(tmp_path, tmp_path / "tfds")
    with pytest.raises(ValueError, match=r"is not there|is there, but"):
        images.load("fashion_mnist", data_dir=tmp_path / "tfds")


# The script, and what is imported


def test_script_prepares_fashion_mnist_without_tensorflow(tmp_path):
    splits = write_fashion(tmp_path / "idx")
    command = [sys.executable, SCRIPT, "fashion_mnist", "--data-dir", "made here", "--idx-dir", "idx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "fashion_mnist is prepared in made here\n"
    assert_holds(images.load("fashion_mnist", data_dir=tmp_path / "made here"), splits)


def test_script_says_what_is_missing(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(SCRIPT))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tensorflow" else find_spec(name, *rest)
    )
    for name in ("mnist", "fashion_mnist"):
        with pytest.raises(SystemExit, match=f"{name} needs TensorFlow once: pip install tensorflow-cpu") as caught:
            script["main"]([name, "--data-dir", str(tmp_path)])
        assert ("dataset-fashion-mnist" in str(caught.value)) == (name == "fashion_mnist")
    with pytest.raises(SystemExit):
        script["main"](["mnist", "--data-dir", str(tmp_path), "--idx-dir", str(tmp_path)])
    assert "--idx-dir is for fashion_mnist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script["main"](["mnist"])


def test_script_prepares_stock_sets_as_array_record(tmp_path, monkeypatch):
    passed = {}

    class Builder:
        def download_and_prepare(self, *, download_config):
            passed["manual_dir"] = download_config.manual_dir

    def builder(name, **arguments):
        passed.update(arguments, name=name)
        return Builder()

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "there")
    monkeypatch.setattr(tfds, "builder", builder)
    runpy.run_path(str(SCRIPT))["main"](["mnist", "--data-dir", str(tmp_path), "--manual-dir", "archives"])
    assert passed == {
        "name": "mnist",
        "data_dir": str(tmp_path),
        "file_format": "array_record",
        "manual_dir": "archives",
    }


def test_tfds_is_imported_late_and_tensorflow_never(tmp_path):
    write_fashion(tmp_path / "debian")
    cifar(tmp_path / "tfds")
    program = f"""
import sys, pathlib
from jaxsens.data import images
assert "tensorflow_datasets" not in sys.modules and "sklearn" not in sys.modules
images.load("digits")
assert "tensorflow_datasets" not in sys.modules
images.load("cifar10", data_dir={str(tmp_path / "tfds")!r})
from jaxsens.data import fashion_mnist_idx
fashion_mnist_idx.DEBIAN_FOLDER = pathlib.Path({str(tmp_path / "debian")!r})
assert "idx files" in images.load("fashion_mnist", data_dir={str(tmp_path / "nowhere")!r}).source
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, check=True)


# Real data, where it is: JAXSENS_TFDS names a prepared TFDS folder


@pytest.mark.skipif("JAXSENS_TFDS" not in os.environ, reason="JAXSENS_TFDS does not name a TFDS folder")
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_real_data_is_whole_and_balanced(name, monkeypatch):
    data_dir = os.environ["JAXSENS_TFDS"]
    data = images.load(name, data_dir=data_dir)
    per_class = len(data.train_images) // 10
    np.testing.assert_array_equal(np.bincount(data.train_labels), [per_class] * 10)
    np.testing.assert_array_equal(np.bincount(data.test_labels), [1000] * 10)
    assert per_class == {"fashion_mnist": 6000, "cifar10": 5000}[name]
    assert len({image.tobytes() for image in data.train_images}) > 0.99 * len(data.train_images)
    few = images.load(name, data_dir=data_dir, limit=10)
    np.testing.assert_array_equal(few.train_images, data.train_images[:10])
