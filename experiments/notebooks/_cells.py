"""Notebooks as text: their cells, what running them shows, and the file format of Jupyter.

The text is in the percent format, which Jupytext, VS Code and others read: ``# %%`` begins a cell of code, and
``# %% [markdown]`` one of text, whose lines are comments.
"""

import ast
import base64
import contextlib
import io
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Cell", "as_ipynb", "read", "run"]

_TEXT = "# %% [markdown]"
_CODE = "# %%"

Output = dict[str, Any]


class Cell(NamedTuple):
    """A cell of a notebook.

    Attributes:
        text: Whether it is text, in Markdown; otherwise it is Python.
        source: Its lines.
    """

    text: bool
    source: str


def read(path: Path) -> list[Cell]:
    """Return the cells of a notebook in the percent format.

    Raises:
        ValueError: If the file does not begin with a cell, or a line of text is no comment.
    """
    cells: list[tuple[bool, list[str]]] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line in (_TEXT, _CODE):
            cells.append((line == _TEXT, []))
        elif not cells:
            raise ValueError(f"{path.name}, line {number}: the first line must be {_TEXT!r} or {_CODE!r}, got {line!r}")
        elif cells[-1][0] and line and not line.startswith("#"):
            raise ValueError(f"{path.name}, line {number}: a line of text must begin with '#', got {line!r}")
        else:
            cells[-1][1].append(line[1:].removeprefix(" ") if cells[-1][0] else line)
    return [Cell(text, "\n".join(lines).strip("\n")) for text, lines in cells]


def run(cells: list[Cell], name: str) -> list[list[Output]]:
    """Run the cells of code in order, and return what each cell shows, as Jupyter stores it.

    A cell shows what it prints, then the value of its last line if that is an expression.

    Args:
        cells: The cells.
        name: Name of the notebook, for tracebacks.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(cells):
        shown.append([] if cell.text else _run(cell.source, names, f"{name}, cell {number}"))
    return shown


def _run(source: str, names: dict[str, Any], where: str) -> list[Output]:
    program = ast.parse(source)
    last = program.body.pop() if program.body and isinstance(program.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(program, where, "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    if value is not None:
        outputs.append({"output_type": "display_data", "data": _display(value), "metadata": {}})
    return outputs


def _display(value: Any) -> dict[str, str]:
    """Return a value in the forms that a notebook shows: text, and an image or a table if it has one."""
    data = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return data


def as_ipynb(cells: list[Cell], outputs: list[list[Output]] | None = None) -> dict[str, Any]:
    """Return a notebook in the format 4.5 of Jupyter, as values of JSON."""
    written = []
    for number, cell in enumerate(cells):
        entry = {"id": f"cell-{number}", "cell_type": "markdown" if cell.text else "code", "metadata": {}}
        entry["source"] = cell.source.splitlines(keepends=True)
        if not cell.text:
            entry |= {"execution_count": None, "outputs": [] if outputs is None else outputs[number]}
        written.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": written, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
