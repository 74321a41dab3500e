"""Laws of storage: whole or not at all, and no damage unseen. Most are tested through runs (test_runs.py)."""

import os

import numpy as np
import pytest

from experiments.harness import storage

ARRAYS = {"x": np.arange(5.0), "text": np.array("word")}


def test_equal_arrays_give_equal_bytes_and_come_back():
    content = storage.encode(ARRAYS)
    assert content == storage.encode({key: value.copy() for key, value in ARRAYS.items()})
    back = storage.decode(content)
    for key, value in ARRAYS.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value)


def test_no_change_of_one_bit_and_no_shortening_is_unseen():
    content = storage.encode(ARRAYS)
    assert storage.is_whole(content)
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 1 << (i % 8)
        assert not storage.is_whole(bytes(changed)), i
        assert not storage.is_whole(content[:i]), i


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    storage.write(path, b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            storage.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    storage.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_killed_write_left_is_removed(tmp_path):
    (tmp_path / ".tmp-a.npz").write_bytes(b"half")
    (tmp_path / "a.npz").write_bytes(b"whole")
    storage.clean(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_lock_is_free_once_closed(tmp_path):
    lock = storage.acquire(tmp_path)
    with pytest.raises(ValueError, match=f"process {os.getpid()}"):
        storage.acquire(tmp_path)
    os.close(lock)
    os.close(storage.acquire(tmp_path))


@pytest.mark.parametrize("values", [[1], {1: 2}, {"": 1}, {"a\0b": 1}, {"x": np.zeros(2, np.longdouble)}])
def test_what_cannot_be_kept_is_refused(values):
    with pytest.raises(ValueError, match=r"results|key"):
        storage.plain_arrays(values)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.inf)])
def test_the_first_value_that_is_not_finite_is_named(bad):
    values = np.zeros((2, 3), np.asarray(bad).dtype)
    values[1, 1:] = bad
    with pytest.raises(FloatingPointError, match=r"'y' holds .* at index \(1, 1\), the first of 2 .* of 6"):
        storage.require_finite({"x": np.arange(3), "y": values})
    storage.require_finite({"x": np.arange(3), "y": values}, allowed=("y",))
    with pytest.raises(FloatingPointError, match=r"index \(\)"):
        storage.require_finite({"y": np.asarray(bad)})
