"""How common a token is: from the corpus that is looked at, and from the language at large."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxsens.typing import Array

__all__ = ["PER", "corpus_frequencies", "normalized_log_frequency", "word_frequencies"]

PER = 1e9
"""Occurrences in the language are counted in this many words."""


def corpus_frequencies(tokens: Array, counted: Array, vocabulary: int) -> np.ndarray:
    """Count how often each id occurs in a corpus, ``[v]``.

    Args:
        tokens: Ids ``[b t]``, or ``[b t 2]`` with types.
        counted: Which of them count ``[b t]``: the sites, so that neither padding nor class tokens do.
        vocabulary: How many ids there are.

    Raises:
        ValueError: If shapes do not fit, or an id that counts is not below ``vocabulary``.
    """
    tokens, counted = np.asarray(tokens), np.asarray(counted)
    if counted.dtype != bool or counted.shape != tokens.shape[:2] or tokens.ndim not in (2, 3):
        raise ValueError(f"counted must be booleans of the tokens' [b t], got {counted.dtype} {counted.shape}")
    ids = (tokens if tokens.ndim == 2 else tokens[..., 0])[counted]
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        raise ValueError(f"tokens must be ids from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}")
    return np.bincount(ids, minlength=vocabulary)


def word_frequencies(
    strings: Sequence[str], *, mark: str = "##", language: str = "en", frequency: Callable[[str], float] | None = None
) -> np.ndarray:
    """Return how often each token is a word of the language, in 10^9 words, ``[v]``; from the package ``wordfreq``.

    A piece that continues a word is no word: ``##ing`` is not the word ``ing``, and what the package says of ``ing``
    would be another thing's frequency. It gets NaN, as do tokens without a letter or a digit, which the package does
    not count (punctuation would seem rare), and names in brackets. A piece that begins a word and is a word itself, as
    ``un`` is, gets that word's frequency. A word that the package does not know has 0.

    Args:
        strings: The tokens, in the order of their ids, such as ``embedding_space.token_strings`` gives them.
        mark: ``"##"`` marks pieces that continue a word; any other mark, ``"Ġ"`` or ``"▁"``, those that begin one.
        language: Of the words, as ``wordfreq`` names it.
        frequency: In place of the package: a word's share of all words.

    Raises:
        ValueError: If the mark is empty.
        ImportError: If the package is needed and missing.
    """
    if not mark:
        raise ValueError("mark must be the prefix that the tokenizer uses, such as '##' or 'Ġ', got ''")
    if frequency is None:
        frequency = _of_language(language)
    words = [_word(string, mark) for string in strings]
    return np.array([np.nan if word is None else PER * frequency(word) for word in words], np.float64)


def normalized_log_frequency(frequencies: Array) -> np.ndarray:
    """Return ``(f - min f) / (max f - min f)`` with ``f = log(1 + frequency)``, in 0 .. 1, ``[v]``.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.2. NaN stays NaN and
    counts for neither end. Over all the tokens given: those that never occur are the rarest, at 0.

    Raises:
        ValueError: If a frequency is negative or infinite, or all are equal.
    """
    frequencies = np.asarray(frequencies, np.float64)
    known = frequencies[~np.isnan(frequencies)]
    if frequencies.ndim != 1 or (known < 0).any() or np.isinf(known).any():
        raise ValueError("frequencies must be [v], finite and not negative (NaN where unknown)")
    if known.size == 0 or known.min() == known.max():
        raise ValueError("frequencies are all equal or unknown: no token is more common than another")
    logarithm = np.log1p(frequencies)
    low, high = np.nanmin(logarithm), np.nanmax(logarithm)
    return (logarithm - low) / (high - low)


def _word(string: str, mark: str) -> str | None:
    """Return the word that a token is, or None if it is none."""
    if mark == "##":
        word = None if string.startswith(mark) else string
    else:
        word = string.removeprefix(mark) if string.startswith(mark) else None
    if word is None or (word[:1] in "[<" and word[-1:] in "]>") or not any(map(str.isalnum, word)):
        return None
    return word


def _of_language(language: str) -> Callable[[str], float]:
    try:
        import wordfreq
    except ImportError as error:
        raise ImportError("frequencies of words need the package wordfreq: pip install 'jaxsens[text]'") from error
    return lambda word: wordfreq.word_frequency(word, language)
