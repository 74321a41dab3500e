"""Laws of claims and tables."""

from dataclasses import replace

import pytest

from experiments.harness import claims, verdicts
from jaxsens.statistics import estimate


def test_a_claim_is_checked():
    with pytest.raises(ValueError, match="verdict = 'maybe'"):
        claims.Claim("C1", "x", 1.0, "s.5", verdict="maybe")
    with pytest.raises(ValueError, match="verdict = 'supported' without a rule: give the Verdict"):
        claims.Claim("C1", "x", 1.0, "s.5", verdict="supported")
    with pytest.raises(ValueError, match="measured = nan of claim 'C1'"):
        claims.Claim("C1", "x", 1.0, "s.5", measured=float("nan"))
    with pytest.raises(ValueError, match=r"low = 2.0 of claim 'C1' is above"):
        claims.Claim("C1", "x", 1.0, "s.5", low=2.0, high=1.0)


def test_a_claim_is_filled_from_an_estimate():
    found = estimate.from_values([1.0, 2.0, 4.0])
    claim = claims.Claim.of("C1", "x", found, subject="vit", reference="mlp", dataset="digits")
    low, high = (float(end) for end in found.interval())
    assert (claim.measured, claim.standard_error, claim.low, claim.high) == (7 / 3, float(found.sem), low, high)
    assert (claim.subject, claim.reference, claim.dataset, claim.published) == ("vit", "mlp", "digits", None)


def test_a_verdict_fills_the_columns_that_it_rests_on():
    found = estimate.from_values([1.0, 2.0, 4.0])
    design = verdicts.Design(3, (0.1, 0.2), {"vit": 0.1})
    judged = verdicts.mean(found, design=design, above=0.0, method="log")
    claim = claims.Claim.of("C1", "x", found, verdict=judged, note="said")
    assert claim.verdict == "inconclusive"
    assert claim.rule == "mean (log interval) above 0; contradicted if interval wholly below 0"
    assert (claim.units, claim.level, claim.power) == (3, 0.025, round(judged.power, 4))
    assert (claim.reason, claim.power_at, claim.note) == (design.reason(), judged.power_at, "said")
    assert (claim.low, claim.high) == (judged.low, judged.high), "the interval that was judged"
    decided = verdicts.mean(found, design=verdicts.NOT_TRAINED, above=0.0)
    again = replace(claim, verdict=decided)
    assert (again.verdict, again.reason, again.low) == (decided.name, "", decided.low)


def test_verdicts_of_one_claim_are_corrected_together():
    def row(claim, values):
        return claims.Claim(claim, "x", None, ""), verdicts.mean(
            estimate.from_values(values), design=verdicts.NOT_TRAINED, above=0.0
        )

    sure, unsure = [1.0, 1.1, 0.9, 1.0], [1.0, 0.3, 0.9, 0.3]  # errors of 2e-4 and 0.045
    plain = claims.Claim("C1", "y", None, "")
    rows = claims.corrected([row("C1", sure), (plain, None), row("C1", unsure), row("C1", [-1, 1]), row("C2", unsure)])
    assert [one.verdict for one in rows] == ["supported", "", "inconclusive", "inconclusive", "supported"]
    assert rows[1] is plain
    assert "Holm's correction for 3 verdicts" in rows[2].reason
    edge = verdicts.mean(estimate.from_values(sure), design=verdicts.Design(2), above=0.0)
    rows = claims.corrected([(plain, edge), row("C1", unsure)])
    assert [one.verdict for one in rows] == ["inconclusive", "supported"], "what is not judged does not count"
    assert rows[0].reason == edge.reason
