"""The table of estimates: rows by case, and lines for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["line", "merged"]

_KEYS = ("case", "machine", "precision")


def merged(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows with one more, in the place of an earlier one of the same case, machine and precision."""
    same = [index for index, old in enumerate(rows) if all(old[key] == row[key] for key in _KEYS)]
    return [row if index in same else old for index, old in enumerate(rows)] if same else [*rows, row]


def line(row: Mapping[str, Any]) -> str:
    """Return a row for a terminal."""
    start = f"{row['case']:24} {row['machine']:8} {row['precision']:8}"
    memory = (
        f"arguments {row['arguments_mib']:,.0f} MiB, results {row['results_mib']:,.0f}, "
        f"temporary {row['temporary_mib']:,.0f}; compiled in {row['compile_cpu_seconds']:.1f} CPU s"
    )
    if "forwards_per_second" not in row:
        return f"{start} {memory}"
    shares = ", ".join(f"{bound} {100 * row[f'bound_by_{bound}']:.0f} %" for bound in ("operations", "bytes", "launch"))
    return (
        f"{start} {row['forwards_per_second']:11,.0f} forwards/s; chunk {row['chunk']:,}: {row['kernels']:g} kernels, "
        f"{row['gflop']:.4g} GFLOP, {row['gbytes']:.4g} GB, {row['milliseconds']:.4g} ms ({shares}); {memory}"
    )
