"""What the spelling of tokens says of them: which are no words at all, and which are one word spelt in several ways."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["MARKS", "special_tokens", "spelling_groups", "token_strings"]

MARKS = ("##", "Ġ", "▁")
"""Prefixes: of a piece that continues a word (WordPiece); of one that begins a word (byte-level BPE, SentencePiece)."""

_SPECIAL = re.compile(r"\[[A-Za-z]+[0-9]*\]|<[^<>\s]+>")


def token_strings(ids: Mapping[str, int], rows: int) -> tuple[str, ...]:
    """Return the strings of a table's rows; ``""`` for a row that no token has.

    Args:
        ids: From strings to ids, such as ``tokenizer.rules.get_vocab()``.
        rows: How many rows the table has.

    Raises:
        ValueError: If an id is no row.
    """
    strings = [""] * rows
    for string, number in ids.items():
        if not 0 <= number < rows:
            raise ValueError(f"ids must be rows of the table, 0 to {rows - 1}, but {string!r} is {number}")
        strings[number] = string
    return tuple(strings)


def special_tokens(strings: Sequence[str]) -> np.ndarray:
    """Return which tokens ``[v]`` are no text.

    Names in brackets: ``[CLS]``, ``[UNK]``, ``[unused12]``, ``<s>``, ``<|endoftext|>``; and the rows that no token has,
    ``""``. They serve ``nearest_tokens`` as ``exclude``.
    """
    return np.array([string == "" or _SPECIAL.fullmatch(string) is not None for string in strings], bool)


def spelling_groups(strings: Sequence[str], *, case: bool = True, marks: Sequence[str] = MARKS) -> np.ndarray:
    """Number tokens ``[v]`` so that variants of one spelling have the same number; ``groups`` of ``nearest_tokens``.

    Args:
        strings: The tokens, in the order of their ids.
        case: Whether ``The`` and ``the`` are variants.
        marks: Prefixes that do not count, so that ``##ing`` and ``ing`` are variants; ``()`` if they are not to be.
    """

    def plain(string: str) -> str:
        for mark in marks:
            if string.startswith(mark) and string != mark:
                string = string[len(mark) :]
                break
        return string.lower() if case else string

    # Rows without a string are no variants of each other: each is a group of its own.
    names = [(0, plain(string)) if string else (1, str(row)) for row, string in enumerate(strings)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int32)
