"""Laws of tables: aligned text, and cells that are empty where a single unit leaves them open."""

import numpy as np
import pytest

from experiments.harness import tables
from jaxsens.statistics import estimate


def test_a_table_is_aligned():
    rows = [
        {"name": "ViT", "count": 12345, "value": (0.01234, 0.0110, 0.0136), "loss": 0.5, "none": None},
        {"name": "ConvMixer", "count": 7, "value": (1.0, 0.5, 1.5), "loss": np.float32(0.123456), "none": 1},
    ]
    text = tables.format_table(rows, {"name": "model", "count": "n", "value": "sensitivity", "loss": "loss"})
    assert text.splitlines() == [
        "model          n              sensitivity    loss",
        "---------  -----  -----------------------  ------",
        "ViT        12345  0.0123 [0.0110, 0.0136]     0.5",
        "ConvMixer      7        1.00 [0.50, 1.50]  0.1235",
    ]
    assert tables.format_table(rows).splitlines()[0].split() == list(rows[0])
    assert tables.format_table(rows, ["count"]).splitlines()[2:] == ["12345", "    7"]
    assert "0.25 [0.25, 0.25]" in tables.format_table([{"x": (0.25, 0.25, 0.25)}])
    with pytest.raises(ValueError, match=r"row 1 lacks the columns \['b'\]"):
        tables.format_table([{"a": 1, "b": 2}, {"a": 1}])
    with pytest.raises(ValueError, match="at least one"):
        tables.format_table([])


def test_cells_hold_an_estimate_and_are_empty_where_it_is_open():
    found = estimate.from_values([1.0, 2.0, 3.0])
    cells = tables.cells(found, "x_")
    assert list(cells) == ["x_mean", "x_sem", "x_low", "x_high"]
    assert (cells["x_low"], cells["x_high"]) == tuple(float(end) for end in found.interval())
    single = tables.cells(estimate.from_values([1.0]))
    assert single == {"mean": 1.0, "sem": None, "low": None, "high": None}


def test_a_figure_and_a_row_show_only_the_mean_where_there_is_no_interval():
    several, single = estimate.from_values([1.0, 2.0, 4.0]), estimate.from_values([1.0])
    low, high = (float(end) for end in several.interval())
    assert tables.mean_and_interval(several) == (7 / 3, low, high)
    assert tables.mean_and_interval(single) == (1.0, 1.0, 1.0)
    assert tables.row_interval(tables.cells(several, "x_"), "x_") == (7 / 3, low, high)
    assert tables.row_interval(tables.cells(single)) == (1.0, 1.0, 1.0)
