"""Files of results: all kinds of values, damaged files, and a failure while writing."""

import dataclasses
import io
import json
import typing
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsens import results
from jaxsens.results import Description, Result, ResultFileError, files
from jaxsens.statistics import estimate


@results.part
class Part(typing.NamedTuple):
    number: int
    ratio: float


@dataclasses.dataclass(frozen=True, repr=False)
class Anything(Result):
    value: object

    def _describe(self):
        return Description("1 value")


def loaded(value, path):
    Anything(value).save(path)
    return results.load(path).value


def test_values_of_all_kinds_come_back(tmp_path):
    path = tmp_path / "file"
    narrow = jnp.array([1.5, jnp.nan, -jnp.inf], jnp.bfloat16)
    found = loaded({"bfloat16": narrow, 3: np.float32(0.1), ("a", 1): None}, path)
    assert list(found) == ["bfloat16", 3, ("a", 1)]
    assert found["bfloat16"].dtype == jnp.bfloat16
    assert found["bfloat16"].tobytes() == np.asarray(narrow).tobytes()
    assert type(found[3]) is np.float32
    odd = np.array([np.nan, -0.0, np.inf, 5e-324])
    assert loaded(odd, path).tobytes() == odd.tobytes()
    for number in (0.1, np.inf, 2**200, True, "text", None):
        assert loaded(number, path) == number
        assert type(loaded(number, path)) is type(number)
    assert np.isnan(loaded(np.nan, path))
    assert loaded(Part(1, 0.5), path) == Part(1, 0.5)
    assert loaded([(), [1, "a"]], path) == [(), [1, "a"]]
    for shape in ((), (0, 3)):
        assert loaded(np.zeros(shape, np.int8), path).shape == shape
    assert loaded(np.array(["a", "bc"]), path).tolist() == ["a", "bc"]
    keys = jax.random.split(jax.random.key(3, impl="rbg"), 2)
    again = loaded(keys, path)
    assert again.dtype == keys.dtype
    np.testing.assert_array_equal(jax.random.key_data(again), jax.random.key_data(keys))


def test_what_cannot_be_saved_is_named_and_leaves_no_file(tmp_path):
    path = tmp_path / "file"
    for value, name in (
        ({"a": [object()]}, r"Anything.value\['a'\]\[0\] is a object"),
        (np.array([None]), "Anything.value has the dtype object"),
        (lambda: 0, "Anything.value is a function"),
    ):
        with pytest.raises(ValueError, match=name):
            Anything(value).save(path)
    with pytest.raises(ValueError, match="traced by jit"):
        jax.jit(lambda x: Anything(x).save(path))(1.0)
    assert not list(tmp_path.iterdir())


def test_a_failure_while_writing_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    Anything(np.arange(3)).save(path)

    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        Anything(np.arange(4)).save(path)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
    assert results.load(path).value.tolist() == [0, 1, 2]


def test_damaged_files_are_refused(tmp_path):
    """A changed byte either raises the named error, or is where the archive means nothing by it."""
    path = tmp_path / "file"
    whole = estimate.from_values(np.arange(40.0))
    whole.save(path)
    content = path.read_bytes()
    refused = 0
    for at in range(0, len(content), 3):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        try:
            found = estimate.Estimate.load(path)
        except ResultFileError:
            refused += 1
        else:
            assert found.values.tobytes() == whole.values.tobytes()
            assert (found.mean, found.sem, found.count, found.unit) == (whole.mean, whole.sem, whole.count, "units")
    assert refused > len(content) / 6
    for rest in (b"", b"text", content[: len(content) // 2], content[:-1]):
        path.write_bytes(rest)
        with pytest.raises(ResultFileError, match="file is no result that can be read, or is damaged"):
            results.load(path)
    with pytest.raises(FileNotFoundError):
        results.load(tmp_path / "other")


def changed(path, change):
    """Write the file again with another header."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["header.json"])
    change(header)
    members["header.json"] = json.dumps(header).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=files.VERSION + 1), "its version is 2, and this jaxsens reads up to 1"),
        (lambda h: h.update(format="other"), "its format is 'other'"),
        (lambda h: h["result"].update({"is": "Path", "module": "pathlib"}), "Path is no class of results"),
        (lambda h: h["result"].update({"is": "Unknown"}), "Unknown is no class of results"),
        (lambda h: h["result"]["fields"].pop("value"), r"Anything has the fields \['value'\], and the file has \[\]"),
        (lambda h: h["result"]["fields"].update(other=1), r"and the file has \['other', 'value'\]"),
        (lambda h: h["result"]["fields"]["value"].update(name="array7"), "KeyError"),
        (lambda h: h.pop("result"), "KeyError"),
    ],
)
def test_headers_that_do_not_fit_are_refused(tmp_path, change, message):
    path = tmp_path / "file"
    Anything(np.arange(3)).save(path)
    changed(path, change)
    with pytest.raises(ResultFileError, match=message):
        results.load(path)


def test_a_result_of_another_type_is_refused(tmp_path):
    path = tmp_path / "file"
    Anything(1).save(path)
    with pytest.raises(ResultFileError, match="holds a Anything, not a Estimate"):
        estimate.Estimate.load(path)


def test_classes_of_one_name_are_told_apart(tmp_path):
    own = dataclasses.make_dataclass("Estimate", ["value"], bases=(Result,), frozen=True, repr=False)
    own(1).save(tmp_path / "own")
    estimate.from_values([1.0, 2.0]).save(tmp_path / "theirs")
    assert type(results.load(tmp_path / "own")) is own
    assert type(results.load(tmp_path / "theirs")) is estimate.Estimate


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "file"
    Anything(np.arange(3)).save(path)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Part], object), allow_pickle=True)
    with zipfile.ZipFile(path) as archive:
        header = archive.read("header.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", header)
        archive.writestr("array0.npy", buffer.getvalue())
    with pytest.raises(ResultFileError, match="allow_pickle"):
        results.load(path)
