"""Token frequencies: in a corpus, and in the language at large."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxsens.execution import checks
from jaxsens.typing import Array

__all__ = ["PER", "corpus_frequencies", "normalized_log_frequency", "word_frequencies"]

PER = 1e9
"""Frequencies in the language are occurrences in this many words."""


def corpus_frequencies(tokens: Array, counted: Array, vocabulary: int) -> np.ndarray:
    """Count how often each id occurs in a corpus, ``[v]``.

    Args:
        tokens: Ids ``[b t]``, or ``[b t 2]`` with types.
        counted: Which tokens are counted ``[b t]``: usually the sites, which exclude padding and class tokens.
        vocabulary: The number of ids.

    Raises:
        ValueError: If shapes do not fit, or a counted id is not below ``vocabulary``.

    Example:
        >>> corpus_frequencies(np.array([[2, 0, 2]]), np.array([[True, True, True]]), 3)
        array([1, 0, 2])
    """
    tokens, counted = checks.host_values(tokens, "tokens"), checks.host_values(counted, "counted")
    vocabulary = checks.require_count("vocabulary", vocabulary)
    if tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens must be integers, got {tokens.dtype}")
    if counted.dtype != bool or counted.shape != tokens.shape[:2] or tokens.ndim not in (2, 3):
        raise ValueError(f"counted must be booleans of the tokens' [b t], got {counted.dtype} {counted.shape}")
    ids = (tokens if tokens.ndim == 2 else tokens[..., 0])[counted]
    if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
        raise ValueError(f"tokens must be ids from 0 to {vocabulary - 1}, got {ids.min()} to {ids.max()}")
    return np.bincount(ids, minlength=vocabulary)


def word_frequencies(
    strings: Sequence[str], *, mark: str = "##", language: str = "en", frequency: Callable[[str], float] | None = None
) -> np.ndarray:
    """Return the frequency of each token as a word of the language, in 10^9 words, ``[v]``.

    Frequencies are those of the package ``wordfreq``. NaN stands for tokens that are no words: pieces that continue a
    word (``##ing`` is not the word ``ing``), tokens without a letter or a digit, which the package does not count, and
    names in brackets. A piece that begins a word and is a word itself, such as ``un``, gets that word's frequency. A
    word that the package does not list gets 0.

    Args:
        strings: The tokens, in the order of their ids, such as ``embedding_space.token_strings`` gives them.
        mark: ``"##"`` marks pieces that continue a word; any other mark, ``"Ġ"`` or ``"▁"``, those that begin one.
        language: The language, as ``wordfreq`` names it.
        frequency: A function to use in place of the package: a word's share of all words.

    Raises:
        ValueError: If the mark is empty, or ``strings`` is a single text.
        ImportError: If the package is needed and missing.

    Example:
        >>> word_frequencies(["the", "##ing", "."], frequency=lambda word: 0.05)
        array([50000000.,       nan,       nan])
    """
    listed = isinstance(strings, Sequence | np.ndarray) and all(isinstance(string, str) for string in strings)
    if isinstance(strings, str) or not listed:
        raise ValueError(f"strings must be a list of tokens, got {strings!r}")
    if not isinstance(mark, str) or not mark:
        raise ValueError(f"mark must be the prefix that the tokenizer uses, such as '##' or 'Ġ', got {mark!r}")
    if frequency is None:
        frequency = _of_language(language)
    words = [_word(string, mark) for string in strings]
    return np.array([np.nan if word is None else PER * frequency(word) for word in words], np.float64)


def normalized_log_frequency(frequencies: Array) -> np.ndarray:
    """Return ``(f - min f) / (max f - min f)`` with ``f = log(1 + frequency)``, in 0 .. 1, ``[v]``.

    Conti et al., Probing the Embedding Space of Transformers via Minimal Token Perturbations, s.3.2. Minimum and
    maximum are over all tokens given except NaN, which stays NaN; tokens that never occur have the smallest value, 0.

    Raises:
        ValueError: If a frequency is negative or infinite, or all are equal.

    Example:
        >>> normalized_log_frequency([0, 1, 3])
        array([0. , 0.5, 1. ])
    """
    frequencies = checks.host_values(frequencies, "frequencies")
    if frequencies.dtype.kind == "c":
        raise ValueError(f"frequencies must be real numbers, got {frequencies.dtype}")
    frequencies = frequencies.astype(np.float64)
    known = frequencies[~np.isnan(frequencies)]
    if frequencies.ndim != 1 or (known < 0).any() or np.isinf(known).any():
        raise ValueError("frequencies must be [v], finite and not negative (NaN where unknown)")
    if known.size == 0 or known.min() == known.max():
        raise ValueError("frequencies are all equal or unknown: no token is more common than another")
    logarithm = np.log1p(frequencies)
    low, high = np.nanmin(logarithm), np.nanmax(logarithm)
    return (logarithm - low) / (high - low)


def _word(string: str, mark: str) -> str | None:
    """Return the word that a token stands for, or None if it is no word."""
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


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
