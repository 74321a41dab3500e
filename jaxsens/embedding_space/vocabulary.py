"""Spelling of tokens: special tokens that are no text, and variants of one word."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxsens.execution import checks

__all__ = ["MARKS", "special_tokens", "spelling_groups", "token_strings"]

MARKS = ("##", "Ġ", "▁")
"""Prefixes: of a piece that continues a word (WordPiece); of one that begins a word (byte-level BPE, SentencePiece)."""

_SPECIAL = re.compile(r"\[[A-Za-z]+[0-9]*\]|<[^<>\s]+>")


def token_strings(ids: Mapping[str, int], rows: int) -> tuple[str, ...]:
    """Return the strings of a table's rows; ``""`` for a row without a token.

    Args:
        ids: Map from strings to ids, such as ``tokenizer.rules.get_vocab()``.
        rows: Number of rows of the table.

    Raises:
        ValueError: If an id is no row, or two strings have the same id.

    Example:
        >>> token_strings({"the": 0, "cat": 2}, 3)
        ('the', '', 'cat')
    """
    strings = [""] * checks.require_count("rows", rows)
    if not isinstance(ids, Mapping) or not all(isinstance(string, str) for string in ids):
        raise ValueError(f"ids must map strings to numbers, got {type(ids).__name__}")
    for string, number in ids.items():
        number = checks.require_count(f"the id of {string!r}", number, 0)
        if number < rows and strings[number]:
            raise ValueError(f"ids must be different, but {strings[number]!r} and {string!r} are both {number}")
        if number >= rows:
            raise ValueError(f"ids must be rows of the table, 0 to {rows - 1}, but {string!r} is {number}")
        strings[number] = string
    return tuple(strings)


def _strings(name: str, strings: Sequence[str]) -> list[str]:
    """Return a list of strings; a single string is not one."""
    listed = isinstance(strings, Sequence | np.ndarray) and not isinstance(strings, str | bytes)
    if not listed or not all(isinstance(string, str) for string in strings):
        raise ValueError(f"{name} must be a list of strings, got {strings!r}")
    return list(strings)


def special_tokens(strings: Sequence[str]) -> np.ndarray:
    """Return which tokens ``[v]`` are no text, for the argument ``exclude`` of ``nearest_tokens``.

    These are names in brackets (``[CLS]``, ``[UNK]``, ``[unused12]``, ``<s>``, ``<|endoftext|>``) and rows without a
    token, ``""``.

    Example:
        >>> special_tokens(["[CLS]", "cat", "<s>"])
        array([ True, False,  True])
    """
    strings = _strings("strings", strings)
    return np.array([string == "" or _SPECIAL.fullmatch(string) is not None for string in strings], bool)


def spelling_groups(strings: Sequence[str], *, case: bool = True, marks: Sequence[str] = MARKS) -> np.ndarray:
    """Return the same number for variants of one spelling ``[v]``, for the argument ``groups`` of ``nearest_tokens``.

    Args:
        strings: The tokens, in the order of their ids.
        case: Whether ``The`` and ``the`` are variants.
        marks: Prefixes to ignore, so that ``##ing`` and ``ing`` are variants; ``()`` for none.

    Example:
        >>> spelling_groups(["The", "the", "cat"])
        array([0, 0, 1], dtype=int32)
    """
    strings, marks = _strings("strings", strings), _strings("marks", marks)
    checks.require_flag("case", case)

    def plain(string: str) -> str:
        for mark in marks:
            if string.startswith(mark) and string != mark:
                string = string[len(mark) :]
                break
        return string.lower() if case else string

    # Rows without a string are no variants of each other: each is one group.
    names = [(0, plain(string)) if string else (1, str(row)) for row, string in enumerate(strings)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.int32)
