"""Laws of claims and tables."""

import math

import numpy as np
import pytest

from experiments.harness import claims
from jaxsens.statistics import estimate


@pytest.mark.parametrize(
    ("interval", "below", "above", "within"),
    [
        ((-2, -1), "supported", "contradicted", "contradicted"),
        ((1, 2), "contradicted", "supported", "inconclusive"),
        ((-1, 2), "inconclusive", "inconclusive", "inconclusive"),
        ((0, 1), "inconclusive", "inconclusive", "supported"),
        ((0.5, 0.5), "contradicted", "supported", "supported"),
    ],
)
def test_a_verdict_needs_the_whole_interval(interval, below, above, within):
    assert claims.verdict(interval, seeds=3, below=0.0) == below
    assert claims.verdict(interval, seeds=None, above=0.0) == above
    assert claims.verdict(interval, seeds=5, within=(-0.5, 1.0)) == within
    # a claim and its opposite
    low, high = interval
    assert claims.verdict((-high, -low), seeds=3, above=0.0) == below


def test_fewer_than_three_seeds_cannot_tell():
    assert claims.verdict((-2, -1), seeds=2, below=0.0) == "inconclusive"


@pytest.mark.parametrize("interval", [(1, 0), (math.nan, 1), (0, math.inf)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match="interval ="):
        claims.verdict(interval, seeds=3, below=0.0)


def test_a_verdict_is_about_one_claim():
    with pytest.raises(ValueError, match="exactly one"):
        claims.verdict((0, 1), seeds=3)
    with pytest.raises(ValueError, match="exactly one"):
        claims.verdict((0, 1), seeds=3, below=0.0, above=1.0)


def test_a_claim_is_checked():
    with pytest.raises(ValueError, match="verdict = 'maybe'"):
        claims.Claim("C1", "x", 1.0, "s.5", verdict="maybe")
    with pytest.raises(ValueError, match="measured = nan of claim 'C1'"):
        claims.Claim("C1", "x", 1.0, "s.5", measured=float("nan"))
    with pytest.raises(ValueError, match=r"low = 2.0 of claim 'C1' is above"):
        claims.Claim("C1", "x", 1.0, "s.5", low=2.0, high=1.0)


def test_a_table_is_aligned():
    rows = [
        {"name": "ViT", "count": 12345, "value": (0.01234, 0.0110, 0.0136), "loss": 0.5, "none": None},
        {"name": "ConvMixer", "count": 7, "value": (1.0, 0.5, 1.5), "loss": np.float32(0.123456), "none": 1},
    ]
    text = claims.format_table(rows, {"name": "model", "count": "n", "value": "sensitivity", "loss": "loss"})
    assert text.splitlines() == [
        "model          n              sensitivity    loss",
        "---------  -----  -----------------------  ------",
        "ViT        12345  0.0123 [0.0110, 0.0136]     0.5",
        "ConvMixer      7        1.00 [0.50, 1.50]  0.1235",
    ]
    assert claims.format_table(rows).splitlines()[0].split() == list(rows[0])
    assert claims.format_table(rows, ["count"]).splitlines()[2:] == ["12345", "    7"]
    assert "0.25 [0.25, 0.25]" in claims.format_table([{"x": (0.25, 0.25, 0.25)}])
    with pytest.raises(ValueError, match=r"row 1 lacks the columns \['b'\]"):
        claims.format_table([{"a": 1, "b": 2}, {"a": 1}])
    with pytest.raises(ValueError, match="one at least"):
        claims.format_table([])


def test_cells_hold_an_estimate_and_are_empty_where_it_is_open():
    found = estimate.from_values([1.0, 2.0, 3.0])
    cells = claims.cells(found, "x_")
    assert list(cells) == ["x_mean", "x_sem", "x_low", "x_high"]
    assert (cells["x_low"], cells["x_high"]) == tuple(float(end) for end in found.interval())
    single = claims.cells(estimate.from_values([1.0]))
    assert single == {"mean": 1.0, "sem": None, "low": None, "high": None}
