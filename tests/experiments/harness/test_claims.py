"""Laws of claims and tables."""

import math

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


def test_a_claim_is_filled_from_an_estimate():
    found = estimate.from_values([1.0, 2.0, 4.0])
    claim = claims.Claim.of("C1", "x", found, subject="vit", reference="mlp", dataset="digits", verdict="supported")
    low, high = (float(end) for end in found.interval())
    assert (claim.measured, claim.standard_error, claim.low, claim.high) == (7 / 3, float(found.sem), low, high)
    assert (claim.subject, claim.reference, claim.dataset, claim.published) == ("vit", "mlp", "digits", None)
