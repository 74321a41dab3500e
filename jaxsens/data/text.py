"""Labeled texts, or pairs of texts: TFDS data sets by name, and your own CSV or JSONL files.

Messages that name the faulty text make it long.
"""

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsens.data import tfds
from jaxsens.execution import checks
from jaxsens.labels import require_labels
from jaxsens.results.result import Description, Result

__all__ = ["NAMES", "Text", "TextData", "held_out", "load", "read_file"]

Text = str | tuple[str, str]
"""A text, or a pair of texts."""


@dataclasses.dataclass(frozen=True)
class _Stock:
    """A TFDS data set: the fields of its texts, and the number of classes."""

    fields: tuple[str, ...]
    classes: int = 2


_STOCK = {
    "imdb_reviews": _Stock(("text",)),
    "glue/mrpc": _Stock(("sentence1", "sentence2")),
    "glue/qqp": _Stock(("question1", "question2")),
    "glue/sst2": _Stock(("sentence",)),
}
NAMES = tuple(_STOCK)
"""The names that ``load`` accepts."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TextData(Result):
    """Texts in the order in which they are stored.

    Attributes:
        name: The data set's name, or the file's.
        texts: Texts, or pairs of texts, ``n`` of them; none is empty.
        labels: ``[n]`` int32, 0 .. classes - 1; None if the texts have no labels.
        classes: The number of classes; 0 without labels.
        source: Where the texts came from, to be reported with results.

    Raises:
        ValueError: If there is no text, one is empty, no text or no valid Unicode (its index is named), or labels do
            not fit.

    Example:
        >>> data = TextData("mine", ("good", "bad", "fine"), np.array([1, 0, 1]), 2, "here")
        >>> data.subset([2, 0]).texts
        ('fine', 'good')
    """

    name: str
    texts: tuple[Text, ...]
    labels: np.ndarray | None
    classes: int
    source: str

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise ValueError(f"texts of {self.name!r} must be a tuple of texts, got the single text {self.texts!r}")
        if not isinstance(self.texts, Iterable):
            raise ValueError(f"texts of {self.name!r} must be a tuple of texts, got {self.texts!r}")
        object.__setattr__(self, "texts", tuple(self.texts))
        least = 0 if self.labels is None else 1
        object.__setattr__(self, "classes", checks.require_count("classes", self.classes, least))
        if not self.texts:
            raise ValueError(f"the data set {self.name!r} has no texts (source: {self.source})")
        for index, text in enumerate(self.texts):
            _require_text(self.name, index, text)
        if self.labels is None:
            return
        try:
            labels = require_labels(self.labels, self.classes)
        except ValueError as error:
            raise ValueError(
                f"labels of {self.name!r}: {error} (the labels of GLUE's test splits are hidden, as -1)"
            ) from error
        if len(labels) != len(self.texts):
            raise ValueError(f"labels of {self.name!r} must be {len(self.texts)}, one for each text, got {len(labels)}")
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.texts)

    def _describe(self) -> Description:
        pairs = isinstance(self.texts[0], tuple)
        columns = zip(*self.texts, strict=True) if pairs else [self.texts]
        texts = {f"text_{i}" if pairs else "text": list(column) for i, column in enumerate(columns)}
        table = texts if self.labels is None else {**texts, "label": self.labels}
        counts = f"{len(self)} {'pairs of texts' if pairs else 'texts'}"
        counts += f", {self.classes} classes" if self.classes else ", no labels"
        facts = {"source": self.source, "first": " / ".join(self.texts[0]) if pairs else self.texts[0]}
        return Description(counts, words=repr(self.name), facts=facts, table=lambda: table)

    def subset(self, index: Iterable[int]) -> "TextData":
        """Return the texts of these numbers, in this order.

        Raises:
            ValueError: If a number is none of 0 .. n - 1; if booleans are given, ``numpy.flatnonzero`` makes numbers of
                them.
        """
        if not isinstance(index, Iterable):
            raise ValueError(f"index must be numbers of texts, [n], got {index!r}")
        index = checks.host_values(index if isinstance(index, np.ndarray) else list(index), "index")
        if index.ndim != 1 or not index.size or not np.issubdtype(index.dtype, np.integer):
            hint = "; np.flatnonzero makes numbers of booleans" if index.dtype == bool else ""
            raise ValueError(f"index must be numbers of texts, [n], got {index.dtype} of shape {index.shape}{hint}")
        outside = index[(index < 0) | (index >= len(self))]
        if outside.size:
            raise ValueError(f"index must be numbers from 0 to {len(self) - 1}, got {outside[0]}")
        texts = tuple(self.texts[i] for i in index)
        return dataclasses.replace(self, texts=texts, labels=None if self.labels is None else self.labels[index])


def load(
    name: str,
    split: str = "train",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    drop_empty: bool = False,
) -> TextData:
    """Load a TFDS data set that was prepared as array_record; TensorFlow is not needed.

    ``imdb_reviews`` has the splits train and test, ``glue/mrpc`` train, validation and test, ``glue/qqp`` and
    ``glue/sst2`` train and validation (the labels of their test splits are hidden). MRPC and QQP hold pairs.

    Args:
        name: One of ``NAMES``.
        split: Name of a split; a missing one is never replaced by another, ``held_out`` makes one.
        data_dir: TFDS folder; by default ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
        limit: Keep the first ``limit`` texts in the stored order (TFDS shuffles when preparing).
        drop_empty: Whether to leave out empty texts, which are an error otherwise; ``source`` counts them.

    Raises:
        ValueError: If the name is unknown, the data set or the split is not there (says where it was looked for and the
            command that prepares it), its files are damaged, ``limit`` is no integer of at least 1, or a text is empty,
            naming its index.

    Example:
        ``load("imdb_reviews", "test", limit=1000)`` gives 1,000 reviews with their labels.

        >>> load("nothing")
        Traceback (most recent call last):
        ValueError: name='nothing' is not a known data set; known are imdb_reviews, glue/mrpc, ...
    """
    if name not in NAMES:
        raise ValueError(f"name={name!r} is not a known data set; known are {', '.join(NAMES)}")
    tfds.require_limit("limit", limit)
    stock = _STOCK[name]
    records = tfds.open_splits(name, {split: split}, data_dir)[split]
    count = len(records) if limit is None else min(limit, len(records))

    def rows() -> Iterator[tuple[Text, int]]:
        for index in range(count):
            record = tfds.record(records, index, name, split)
            yield _text([_decoded(record[field]) for field in stock.fields]), int(record["label"])

    source = f"TFDS {records.dataset_info.full_name}, split {split}"
    return _collected(name, rows(), stock.classes, source, drop_empty)


def read_file(
    path: str | os.PathLike[str],
    *,
    text: str,
    second: str | None = None,
    label: str | None = None,
    drop_empty: bool = False,
) -> TextData:
    """Read your own texts from a CSV file with a header (``.csv``), or from JSON lines (``.jsonl``), in UTF-8.

    Args:
        path: The file.
        text: Name of the column with the texts.
        second: Name of the column with the second texts of pairs.
        label: Name of the column with labels: integers from 0 on; the number of classes is one more than the largest.
        drop_empty: Whether to leave out empty texts, which are an error otherwise; ``source`` counts them.

    Raises:
        ValueError: If the file is missing, of another kind, damaged, lacks a column or has it twice; if a row has more
            fields than the header, as one with a comma that is not quoted; or if a text is empty or a label no integer
            from 0 on. The file and the index of the text are named.

    Example:
        ``read_file("reviews.csv", text="review", label="stars")`` reads two columns of a file.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "reviews.csv"
        ...     lines = "review,stars", "good,1", "bad,0"
        ...     _ = path.write_text(os.linesep.join(lines))
        ...     data = read_file(path, text="review", label="stars")
        >>> data.texts, data.labels.tolist()
        (('good', 'bad'), [1, 0])
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path must be that of a file, got {path!r}")
    checks.require_flag("drop_empty", drop_empty)
    for name, column in (("text", text), ("second", second), ("label", label)):
        if not isinstance(column, str) and not (column is None and name != "text"):
            raise ValueError(f"{name} must be the name of a column, got {column!r}")
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _json_rows}
    if path.suffix.lower() not in readers:
        raise ValueError(f"path={str(path)!r} must end with {' or '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"path={str(path)!r} is no file")
    columns = [text] if second is None else [text, second]

    def rows() -> Iterator[tuple[Text, int]]:
        for index, row in enumerate(readers[path.suffix.lower()](path)):
            for column in (*columns, *([] if label is None else [label])):
                if row.get(column) is None:
                    present = ", ".join(str(name) for name, value in row.items() if value is not None)
                    raise ValueError(f"texts[{index}] of {path} has no column {column!r}; it has {present}")
            yield _text([row[column] for column in columns]), 0 if label is None else _label(row[label], path, index)

    return _collected(path.name, rows(), None, str(path), drop_empty, labeled=label is not None)


def held_out(data: TextData, fraction: float = 0.2, *, seed: int = 0) -> tuple[TextData, TextData]:
    """Split texts at random into a training part and a held-out part of ``round(fraction n)`` texts.

    The same seed holds out the same texts, on every machine. Both parts stay in the stored order, and their sources
    record the split.

    Raises:
        ValueError: If one of the two would be empty, or the fraction is not strictly between 0 and 1.

    Example:
        >>> data = TextData("mine", tuple("abcde"), None, 0, "here")
        >>> [len(part) for part in held_out(data, 0.4)]
        [3, 2]
    """
    if not isinstance(data, TextData):
        raise ValueError(f"data must be TextData, got {type(data).__name__}")
    seed, fraction = checks.require_count("seed", seed, 0), checks.require_level("fraction", fraction)
    count = round(fraction * len(data))
    if not 0 < count < len(data):
        raise ValueError(f"fraction={fraction} of {len(data)} texts must leave some on either side")
    held = np.zeros(len(data), bool)
    held[np.random.default_rng(seed).permutation(len(data))[:count]] = True
    kept, out = data.subset(np.flatnonzero(~held)), data.subset(np.flatnonzero(held))
    remark = f"{count} of {len(data)} texts held out with seed {seed}"
    return (
        dataclasses.replace(kept, source=f"{data.source}; without {remark}"),
        dataclasses.replace(out, source=f"{data.source}; {remark}"),
    )


def _collected(
    name: str,
    rows: Iterable[tuple[Text, int]],
    classes: int | None,
    source: str,
    drop_empty: bool,
    *,
    labeled: bool = True,
) -> TextData:
    """Return texts and labels; without a number of classes, one more than the largest label."""
    texts, labels, dropped = [], [], 0
    for text, label in rows:
        if drop_empty and not _is_text(text):
            dropped += 1
            continue
        texts.append(text)
        labels.append(label)
    source += f"; {dropped} empty texts left out" if dropped else ""
    if not labeled:
        return TextData(name, tuple(texts), None, 0, source)
    needed = max(labels, default=0) + 1
    return TextData(name, tuple(texts), np.asarray(labels, np.int32), classes or needed, source)


def _text(parts: list[str]) -> Text:
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


def _require_text(name: str, index: int, text: Any) -> None:
    if not _is_text(text):
        raise ValueError(f"texts[{index}] of {name!r} is empty, or no text: {text!r}; drop_empty=True leaves it out")
    try:
        "".join(_parts(text)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"texts[{index}] of {name!r} is no valid Unicode, it has half of a surrogate pair") from error


def _is_text(text: Any) -> bool:
    parts = _parts(text)
    return len(parts) in (1, 2) and all(isinstance(part, str) and part.strip() for part in parts)


def _parts(text: Text) -> tuple[str, ...]:
    return text if isinstance(text, tuple) else (text,)


def _decoded(value: str | bytes | np.ndarray) -> str:
    """Return a text as TFDS gives it: bytes, or a str where data are mocked."""
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _label(value: Any, path: Path, index: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or str(number) != str(value).strip():
        raise ValueError(f"the label of texts[{index}] of {path} must be a whole number from 0 on, got {value!r}")
    return number


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a byte order mark is no part of the first name
            reader = csv.DictReader(file, strict=True)
            names = reader.fieldnames or []
            if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
                raise ValueError(f"{path} has the column {repeated[0]!r} twice")
            for index, row in enumerate(reader):
                if surplus := row.get(None):
                    raise ValueError(
                        f"texts[{index}] of {path} has {len(surplus)} more fields than the header, {surplus[0]!r} the "
                        "first: a text with a comma must be quoted"
                    )
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no CSV in UTF-8: {error}") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return row


def _json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_once_each)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} of {path} is no JSON in UTF-8: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} of {path} must be an object with names, got {type(row).__name__}")
            yield row


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
