"""The base class of results: from a short description of each class it derives what all of them can do."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from jaxsens.results import files, plain, words
from jaxsens.typing import Array, Axes, Figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Description", "Result", "draw"]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a class of results says about one of them.

    Attributes:
        counts: The counts in words, such as ``"100 examples x 16 tokens x 5 draws"``.
        value: The number that stands for the result, or an array of a few; None where there is none.
        ends: The interval of the number at 95 %; None where there is none.
        words: What else the line says, or says in the place of a number.
        facts: Further rows of the table that a notebook shows.
        table: Returns the columns of ``to_pandas``, by name.

    Example:
        >>> Description("3 examples", value=0.5, ends=(0.1, 0.9)).counts
        '3 examples'
    """

    counts: str
    value: Any = None
    ends: tuple[Any, Any] | None = None
    words: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    table: Callable[[], Mapping[str, Any]] = dict


class Result:
    """A result that prints as one line, shows as a small table, and can be drawn, tabulated, saved and loaded.

    A class of results is a frozen dataclass (with ``repr=False``, since the line is written here) that gives
    ``_describe``.

    Example:
        >>> @dataclasses.dataclass(frozen=True, repr=False)
        ... class Length(Result, abstract=True):
        ...     meters: float
        ...     def _describe(self):
        ...         return Description("1 ruler", self.meters, (self.meters - 0.1, self.meters + 0.1))
        >>> Length(2.0)
        Length(2 [95% 1.9, 2.1]; 1 ruler)
    """

    _by_shape: ClassVar[tuple[str, ...]] = ()
    """Fields that ``to_dict`` gives by shape and dtype: parameters and images."""

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not abstract:  # files name the classes that there are results of
            files.part(cls)

    def _describe(self) -> Description:
        raise NotImplementedError

    def _shown(self) -> Description:
        try:
            return self._describe()
        except Exception:  # arrays are traced by jit, or are shapes only: there is nothing to print
            return Description("...")

    def __repr__(self) -> str:
        shown = self._shown()
        number = "" if shown.value is None else words.interval_text(shown.value, shown.ends)
        line = "; ".join(filter(None, (number, shown.words, shown.counts)))
        name = type(self).__name__
        return f"{name}({words.shortened(line, words.LONGEST - len(name) - 2)})"

    def __format__(self, spec: str) -> str:
        """Return the number with its 95 % interval, each in the format ``spec``: ``0.046 [0.028, 0.074]``."""
        if not spec:
            return str(self)
        shown = self._describe()
        if shown.value is None:
            raise TypeError(f"{type(self).__name__} has no number to be written in the format {spec!r}")
        return words.interval_text(shown.value, shown.ends, spec, "")

    def _repr_html_(self) -> str:
        shown = self._shown()
        rows: dict[str, str] = {} if shown.value is None else {"estimate": words.number(shown.value)}
        if shown.ends is not None:
            low, high = (words.number(end) for end in shown.ends)
            rows["95% interval"] = f"{low} to {high}" if "," not in low else f"low: {low}; high: {high}"
        rows |= {"result": shown.words} if shown.words else {}
        rows |= {"from": shown.counts} if shown.counts else {}
        rows |= {name: fact if isinstance(fact, str) else words.number(fact) for name, fact in shown.facts.items()}
        return words.table_html(type(self).__name__, rows)

    def __dir__(self) -> list[str]:
        """List the public names."""
        return sorted(name for name in super().__dir__() if not name.startswith("_"))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values of JSON: its type, counts, number and interval at 95 %, and all its fields.

        Arrays become nested lists, and what is not finite one of the words ``"nan"``, ``"inf"`` and ``"-inf"``, which
        ``float`` reads. Parameters and images are given by shape and dtype; ``save`` keeps them.
        """
        shown = self._describe()
        summary = {"type": type(self).__name__, "counts": shown.counts}
        if shown.value is not None:
            summary["estimate"] = plain.jsonable(shown.value)
        if shown.ends is not None:
            summary["interval"] = plain.jsonable(list(shown.ends))
        fields = {
            field.name: (plain.described if field.name in self._by_shape else plain.jsonable)(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }
        return summary | fields

    def to_pandas(self) -> "pd.DataFrame":
        """Return the result as a tidy table: a row for each measured thing, a column for each of its properties.

        Raises:
            ImportError: If pandas is not installed; the message names the extra.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install 'jaxsens[pandas]'") from error
        return pd.DataFrame(dict(self._describe().table()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a file, whole or not at all; ``load`` reads it again, equal to the bit.

        The file is an ``.npz`` archive with a header in JSON; nothing is pickled. A file that is there is replaced.

        Raises:
            ValueError: If a field holds an object that is no array, number, text, or dict, list or tuple of them; the
                message names it.
            OSError: If the file cannot be written; a file that was there stays.
        """
        files.save(path, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a result that ``save`` wrote; arrays are numpy arrays.

        Raises:
            results.ResultFileError: If the file is no saved result, is damaged, has a newer version, or holds a result
                of another type or with other fields.
        """
        return files.load(path, cls)


def draw(name: str, ax: Axes | None, *values: Array, **options: Any) -> Figure:
    """Call a function that draws on axes; its module is imported here, since it needs matplotlib.

    Example:
        >>> figure = draw("lines", None, np.arange(3), np.ones((1, 3)), across="step", quantity="value")
        >>> len(figure.axes)
        1
    """
    return getattr(importlib.import_module("jaxsens.plots.on_axes"), name)(ax, *values, **options)
