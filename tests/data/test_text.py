"""Texts by name and from files; empty, missing and damaged ones; word frequencies."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tensorflow_datasets.text.glue  # mocked data needs its builder

from jaxsens.data import text, word_frequency


@pytest.fixture(autouse=True)
def no_default_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "default"))


def write_tfds(data_dir, name, records, split="train"):
    """Write records as the TFDS data set ``name``, as real as a stock one."""
    base, _, config = name.partition("/")
    fields = [field for field in records[0] if field != "label"]

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.0" if base == "glue" else "1.0.0")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=config or "plain_text", version=VERSION),)

        def _info(self):
            features = {field: tfds.features.Text() for field in fields}
            features |= {"label": tfds.features.Tensor(shape=(), dtype=np.int64)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples()}

        def _generate_examples(self):
            return iter(enumerate(records))

    Tiny.name = base
    Tiny(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
    return data_dir


RECORDS = {
    "imdb_reviews": [{"text": f"Was für ein Film! {i}\n", "label": i % 2} for i in range(6)],
    "glue/mrpc": [{"sentence1": f"one {i}", "sentence2": f"two {i}", "label": i % 2} for i in range(6)],
}


@pytest.mark.parametrize("name", RECORDS)
def test_prepared_folders_are_read_exactly(name, tmp_path):
    data = text.load(name, data_dir=write_tfds(tmp_path, name, RECORDS[name]))
    fields = [field for field in RECORDS[name][0] if field != "label"]
    texts = [tuple(record[field] for field in fields) for record in RECORDS[name]]
    texts = texts if len(fields) == 2 else [one for (one,) in texts]
    expected = sorted(zip(texts, (record["label"] for record in RECORDS[name]), strict=True))
    assert sorted(zip(data.texts, data.labels.tolist(), strict=True)) == expected  # TFDS shuffles
    assert (data.labels.dtype, data.classes, len(data)) == (np.int32, 2, 6)
    assert name in data.source
    few = text.load(name, data_dir=tmp_path, limit=4)
    assert (few.texts, few.labels.tolist()) == (data.texts[:4], data.labels[:4].tolist())
    with pytest.raises(ValueError, match=r"Unknown split 'test'.*scripts/prepare_data"):
        text.load(name, "test", data_dir=tmp_path)


@pytest.mark.parametrize("name", text.NAMES)
def test_mocked_data_of_every_name(name):
    with tfds.testing.mock_data(num_examples=4):
        data = text.load(name, limit=3)
    assert len(data) == 3
    pairs = name in ("glue/mrpc", "glue/qqp")
    assert all(
        isinstance(one, tuple) == pairs and all(isinstance(x, str) for x in (one if pairs else [one]))
        for one in data.texts
    )


def test_missing_data_names_places_and_command(tmp_path):
    with pytest.raises(ValueError, match=r"'glue/qqp' is not there: looked in .*scripts/prepare_data glue/qqp"):
        text.load("glue/qqp", data_dir=tmp_path)
    with pytest.raises(ValueError, match="known are imdb_reviews, glue/mrpc, glue/qqp, glue/sst2"):
        text.load("imdb")
    with pytest.raises(ValueError, match="limit=0"):
        text.load("imdb_reviews", limit=0)


def test_empty_text_is_named_by_index_or_left_out(tmp_path):
    records = [{"text": ["fine", "  "][i == 2], "label": 0} for i in range(3)]
    write_tfds(tmp_path, "imdb_reviews", records)
    with pytest.raises(ValueError, match=r"texts\[\d\] of 'imdb_reviews' is empty"):
        text.load("imdb_reviews", data_dir=tmp_path)
    data = text.load("imdb_reviews", data_dir=tmp_path, drop_empty=True)
    assert data.texts == ("fine", "fine")
    assert data.source.endswith("1 empty texts left out")


def test_hidden_labels_are_refused(tmp_path):
    write_tfds(tmp_path, "imdb_reviews", [{"text": "a", "label": -1}], split="test")
    with pytest.raises(ValueError, match="hidden"):
        text.load("imdb_reviews", "test", data_dir=tmp_path)


ROWS = [('A film, "good"\nand long', "ja → yes", 2), ("bad", "no", 0), ("so-so", "hm", 0)]


@pytest.fixture
def files(tmp_path):
    quoted = ["\ufefffirst,second,class"] + ['"{}",{},{}'.format(a.replace('"', '""'), b, c) for a, b, c in ROWS]
    (tmp_path / "own.csv").write_text("\r\n".join(quoted), "utf-8", newline="")
    lines = [json.dumps({"first": a, "second": b, "class": c}) for a, b, c in ROWS]
    (tmp_path / "own.jsonl").write_text("\n\n".join(lines), "utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_user_files_are_read(files, name):
    pairs = text.read_file(files / name, text="first", second="second", label="class")
    assert pairs.texts == tuple((a, b) for a, b, _ in ROWS)
    assert (pairs.labels.tolist(), pairs.classes) == ([2, 0, 0], 3)
    alone = text.read_file(files / name, text="second")
    assert alone.texts == tuple(b for _, b, _ in ROWS)
    assert (alone.labels, alone.classes, alone.name) == (None, 0, name)
    with pytest.raises(ValueError, match=r"texts\[0\] of .* has no column 'third'; it has first, second, class"):
        text.read_file(files / name, text="third")
    with pytest.raises(ValueError, match=r"the label of texts\[0\] of .*whole number"):
        text.read_file(files / name, text="first", label="second")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b't\nfine\n" "\n', r"texts\[1\] of 'a.csv' is empty"),
        ("a.csv", b"t,u\nfine,1\nlost\n", r"texts\[1\] .*no column 'u'"),
        ("a.csv", b"t\n\xff\n", "no CSV in UTF-8"),
        ("a.csv", b't\n"open\n', "no CSV"),
        ("a.csv", b"t\n", "has no texts"),
        ("a.csv", b"t,u\nGood, but not great,1\n", r"texts\[0\] of .*1 more fields than the header, '1' .*quoted"),
        ("a.csv", b"t,u,t\na,1,b\n", "has the column 't' twice"),
        ("a.jsonl", b'{"t": "a", "t": "b", "u": 1}', "line 1 of .*the name 't' is there twice"),
        ("a.jsonl", b'{"t": "a \\ud83d", "u": 1}', r"texts\[0\] of 'a.jsonl' is no valid Unicode"),
        ("a.jsonl", b'{"t": "a", "u": true}', "label of .*True"),
        ("a.jsonl", b"[" * 100_000, "line 1 of .* no JSON"),
        ("a.jsonl", b'{"t": "fine", "u": 1}\n{"t": ""}', r"texts\[1\] .*no column 'u'"),
        ("a.jsonl", b'{"t": "fine", "u": 1}\n{"t": 3, "u": 1}', r"texts\[1\] of 'a.jsonl' is empty, or no text: 3"),
        ("a.jsonl", b'{"t": "a", "u": 1}\n{', "line 2 of .* no JSON"),
        ("a.jsonl", b"[1]", "line 1 of .* must be an object"),
        ("a.jsonl", b'{"t": "a", "u": 1.5}', "label of .*1.5"),
        ("a.txt", b"fine", r"must end with \.csv or \.jsonl"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        text.read_file(tmp_path / name, text="t", label="u" if b"u" in content else None)
    with pytest.raises(ValueError, match="is no file"):
        text.read_file(tmp_path / "missing.csv", text="t")


def test_texts_are_chosen_by_number_only():
    data = text.TextData("own", ("a", "b", "c"), np.array([0, 1, 0]), 2, "here")
    assert data.subset(np.array([2, 0])).texts == ("c", "a")
    for index, message in (
        ([True, False, True], "np.flatnonzero makes numbers of booleans"),
        ([-1], "from 0 to 2, got -1"),
        ([3], "from 0 to 2, got 3"),
        ([1.9], "got float64"),
        ([], "of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            data.subset(index)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("hello", None, "must be a tuple of texts, got the single text 'hello'"),
        (("a", ("b", "c", "d")), None, r"texts\[1\] of 'own' is empty, or no text"),
        (("a", "b"), np.array([0.0, 1.0]), "labels must be integers"),
        (("a", "b"), np.array([0, 2]), r"labels must be classes from 0 to 1, got 2 at \[1\]"),
        (("a", "b"), np.array([0, -1]), "hidden, as -1"),
        (("a", "b"), np.array([0]), "must be 2, one for each text, got 1"),
        (("a", "b"), np.ma.masked_array([0, 1], [0, 1]), "masked array"),
    ],
)
def test_texts_and_labels_that_do_not_fit_are_named(texts, labels, message):
    with pytest.raises(ValueError, match=message):
        text.TextData("own", texts, labels, 2, "here")


def test_a_held_out_fraction_is_the_same_for_a_seed_and_loses_nothing():
    data = text.TextData("own", tuple(f"text {i}" for i in range(40)), np.arange(40, dtype=np.int32) % 4, 4, "here")
    kept, held = text.held_out(data, 0.3, seed=5)
    assert (len(kept), len(held)) == (28, 12)
    assert sorted(kept.texts + held.texts) == sorted(data.texts)
    for part in (kept, held):
        places = [data.texts.index(one) for one in part.texts]
        assert places == sorted(places)
        np.testing.assert_array_equal(part.labels, data.labels[places])
        assert "12 of 40 texts held out with seed 5" in part.source
    assert text.held_out(data, 0.3, seed=5)[1].texts == held.texts
    assert text.held_out(data, 0.3, seed=6)[1].texts != held.texts
    for fraction in (0, 1, 0.01, -1):
        with pytest.raises(ValueError, match="fraction"):
            text.held_out(data, fraction)


def test_normalized_log_frequency_goes_from_the_rarest_to_the_most_common():
    tokens = np.array([[3, 1, 1, 0], [1, 2, 1, 0]])
    counted = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool)
    counts = word_frequency.corpus_frequencies(tokens, counted, 5)
    np.testing.assert_array_equal(counts, [0, 4, 1, 1, 0])
    np.testing.assert_array_equal(word_frequency.corpus_frequencies(np.stack([tokens, tokens], -1), counted, 5), counts)
    expected = np.log(1 + counts) / np.log(5)
    np.testing.assert_allclose(word_frequency.normalized_log_frequency(counts), expected)
    np.testing.assert_allclose(word_frequency.normalized_log_frequency([np.nan, 3, 1, 7]), [np.nan, 0.5, 0, 1])
    for wrong in ([1, 1, np.nan], [np.nan], [-1, 2], [1, np.inf]):
        with pytest.raises(ValueError, match="frequencies"):
            word_frequency.normalized_log_frequency(wrong)
    with pytest.raises(ValueError, match="ids from 0 to 2"):
        word_frequency.corpus_frequencies(tokens, counted, 3)
    with pytest.raises(ValueError, match="counted must be booleans"):
        word_frequency.corpus_frequencies(tokens, counted.astype(int), 5)


def test_pieces_and_punctuation_are_no_words():
    shares = {"the": 0.05, "ing": 0.5, "1990": 1e-5}
    strings = ("the", "##ing", "ing", ".", "[CLS]", "zxqv", "1990", "[")
    found = word_frequency.word_frequencies(strings, frequency=lambda word: shares.get(word, 0))
    np.testing.assert_allclose(found, [5e7, np.nan, 5e8, np.nan, np.nan, 0, 1e4, np.nan])
    found = word_frequency.word_frequencies(("Ġthe", "ing", "Ġ."), mark="Ġ", frequency=lambda word: shares[word])
    np.testing.assert_allclose(found, [5e7, np.nan, np.nan])
    with pytest.raises(ValueError, match="mark must be"):
        word_frequency.word_frequencies(strings, mark="")


def test_frequencies_of_english():
    pytest.importorskip("wordfreq")
    the, film, rare, unknown = word_frequency.word_frequencies(("the", "film", "obsidian", "zxqvw"))
    assert the > 1e7 > film > 1e4 > rare > unknown == 0
