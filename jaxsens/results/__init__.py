"""What all results have in common: one line, a small table, figures, tables, and files.

``result`` has the base class ``Result``, which derives all of it from a short description that each class gives;
``words`` writes numbers with their intervals, ``plain`` makes JSON-able values and tidy columns, and ``files`` writes
and reads results.
"""

from jaxsens.results.files import ResultFileError, load, part
from jaxsens.results.plain import tidy
from jaxsens.results.result import Description, Result

__all__ = ["Description", "Result", "ResultFileError", "load", "part", "tidy"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
