"""Texts of ``experiments.language`` as ids, by a tokenizer that is trained on the training texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.language.config import DATASETS, Config
from jaxsens.data import text
from jaxsens.models.text import tokenizer

__all__ = ["ORDINARY", "PADDING", "Reading", "load", "train_tokenizer"]

PADDING = -1
"""Marks padding in what models learn from."""

_SPECIAL = ("[PAD]", "[CLS]", "[SEP]")

ORDINARY = len(_SPECIAL)
"""The first id of a word or a part of one."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A data set as ids.

    Attributes:
        name: Its name.
        source: Where the texts come from.
        vocabulary: The number of tokens.
        train: Ids ``[n t]`` with ``PADDING``, and labels ``[n]``.
        validation: The same, to choose the learning rate on.
        test: The same, of the split to test on.
        measured: Training texts whose sensitivity is measured.
        cut: Share of the training texts that were cut.
    """

    name: str
    source: str
    vocabulary: int
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    measured: tokenizer.Tokens
    cut: float


def load(config: Config, name: str, data: text.TextData | None = None) -> Reading:
    """Load a data set, and train its tokenizer on the texts to learn from.

    Args:
        config: Which texts, and how many.
        name: One of ``config.sets``.
        data: Your own texts, in place of the file that ``config`` names; a fifth of them is tested on.

    Raises:
        ValueError: If texts are not there, have other labels than 0 and 1, or are too few.
    """
    if name == "own":
        data = text.read_file(config.texts, text="text", label="label") if data is None else data
        train, test = text.held_out(data, 0.2, seed=config.seed)
    else:
        stock, *splits = DATASETS[name]
        train, test = (text.load(stock, split, data_dir=config.data_dir) for split in splits)
    if train.classes != 2:
        raise ValueError(f"texts must have labels 0 and 1, got {train.classes} classes in {train.source}")
    train, validation = text.held_out(train, config.held_out, seed=config.seed)
    if config.training_texts is not None:
        train = train.subset(range(min(config.training_texts, len(train))))
    if len(train) < max(config.measured, config.batch):
        raise ValueError(
            f"measured={config.measured} and batch={config.batch} need as many training texts, got {len(train)} from "
            f"{train.source}"
        )
    words = train_tokenizer(train.texts, config.vocabulary)

    def ids(data: text.TextData) -> tokenizer.Tokens:
        read = words(data.texts, longest=config.longest, truncate=True, length=config.longest)
        return read._replace(tokens=read.tokens[..., 0] if read.tokens.ndim == 3 else read.tokens)

    read = {part: ids(of) for part, of in (("train", train), ("validation", validation), ("test", test))}
    train_ids, validation_ids, test_ids = (np.where(one.mask, one.tokens, PADDING) for one in read.values())
    return Reading(
        name, train.source, words.rules.get_vocab_size(), (train_ids, train.labels),
        (validation_ids, validation.labels), (test_ids, test.labels),
        tokenizer.Tokens(*(part[: config.measured] for part in read["train"])), float(read["train"].truncated.mean()),
    )  # fmt: skip


def train_tokenizer(texts: Sequence[text.Text], vocabulary: int) -> tokenizer.Tokenizer:
    """Learn a byte-level BPE tokenizer, of RoBERTa's kind; a pair becomes one text with a separator.

    Pairs of equal count are merged in the order of their ids, so that equal texts give equal tokenizers. (WordPiece of
    the same package numbers the inner letters of words in a random order.)

    Raises:
        ImportError: If the package ``tokenizers`` is missing.
    """
    try:
        import tokenizers as package
    except ImportError as error:
        raise ImportError("this experiment needs the package tokenizers: pip install 'jaxsens[text]'") from error
    rules = package.Tokenizer(package.models.BPE())
    rules.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = package.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(_SPECIAL), show_progress=False,
        initial_alphabet=sorted(package.pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    rules.train_from_iterator(_parts(texts), trainer)
    rules.post_processor = package.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, _SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return tokenizer.Tokenizer(Path("trained here"), rules)


def _parts(texts: Sequence[text.Text]) -> Iterator[str]:
    for one in texts:
        yield from (one,) if isinstance(one, str) else one
