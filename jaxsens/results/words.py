"""Numbers with their intervals in words, and small tables in HTML."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsens.typing import Array

__all__ = ["LONGEST", "interval_text", "number", "shape_text", "shortened", "table_html", "times"]

LONGEST = 200
"""Most characters of the line that stands for a result."""

_SHOWN = 4  # of the numbers of an array


def number(value: Any, spec: str = ".3g") -> str:
    """Return a number, or the first few of an array, in the format ``spec``.

    Example:
        >>> number(0.04549), number(np.arange(6)), number(np.array([1.0, 2.0]), ".1f")
        ('0.0455', '0, 1, 2, 3, ... (6 numbers)', '1.0, 2.0')
    """
    values = np.asarray(value)
    whole = values.dtype.kind in "bui" and spec.endswith("g")
    texts = [str(one) if whole else format(one, spec) for one in values.ravel()[:_SHOWN].tolist()]
    more = [f"... ({values.size} numbers)"] if values.size > _SHOWN else []
    return ", ".join(texts + more)


def interval_text(value: Any, ends: tuple[Any, Any] | None, spec: str = ".3g", label: str = "95% ") -> str:
    """Return a number with the ends of its interval in brackets; of an array the numbers only.

    Example:
        >>> interval_text(0.0455, (0.028, 0.074))
        '0.0455 [95% 0.028, 0.074]'
        >>> interval_text(0.0454, (0.028, 0.074), ".3f", "")
        '0.045 [0.028, 0.074]'
    """
    if ends is None or np.ndim(value):
        return number(value, spec)
    return f"{number(value, spec)} [{label}{number(ends[0], spec)}, {number(ends[1], spec)}]"


def times(**counts: int) -> str:
    """Return counts in words: the size of an array by the names of its axes.

    Example:
        >>> times(examples=100, tokens=16, draws=1)
        '100 examples x 16 tokens x 1 draw'
    """
    return " x ".join(f"{count} {_singular(name) if count == 1 else name}" for name, count in counts.items())


def _singular(name: str) -> str:
    first, *rest = name.split()
    first = first[:-3] + "y" if first.endswith("ies") else first.removesuffix("s")
    return " ".join([first, *rest])


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line, cut to a length.

    Example:
        >>> shortened("one  two three", 9)
        'one tw...'
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def table_html(title: str, rows: Mapping[str, str]) -> str:
    """Return a table of two columns, with everything escaped.

    Example:
        >>> table_html("Estimate", {"mean": "0 < 1"})
        '<table><caption>Estimate</caption><tr><th>mean</th><td>0 &lt; 1</td></tr></table>'
    """
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(shortened(text))}</td></tr>" for name, text in rows.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"


def shape_text(value: Array) -> str:
    """Return dtype and shape of an array.

    Example:
        >>> shape_text(np.zeros((2, 3), np.float32))
        'float32 [2 3]'
    """
    return f"{value.dtype} [{' '.join(map(str, value.shape))}]"
