"""Claims are supported where the planted results say so, and contradicted where they say otherwise."""

import dataclasses

import numpy as np
import pytest

from experiments.trained_recognizers import claims, estimates, models
from experiments.trained_recognizers.config import PRESETS
from jaxsens.statistics import estimate

TINY = PRESETS["smoke"]


def fake(model, *, correct=1.0, status="no progress", after=0):
    sensitivities = {"before": np.zeros(4, np.int16), "after": np.full(4, after, np.int16), "during": None}
    numbers = {"correct": correct, "log_blow_up": 1.0, "norm": 1.0}
    return estimates.Result(model, status, 3, 1, numbers, numbers, sensitivities, {})


def test_languages_are_the_units_where_there_are_several():
    drawn = [fake(m) for m in models.models(TINY) if m.kind.random]
    values = np.random.default_rng(0).uniform(size=(5, 3))
    value = lambda r: values[r.model.language, r.model.number % 3]  # noqa: E731
    both = estimates.over(drawn, value, rate=True)
    expected = estimate.from_values(values.mean(1), rate=True)
    assert (both.count, both.mean, both.sem) == (5, expected.mean, expected.sem)
    share = estimates.proportion(drawn, lambda r: value(r) > 0.5)
    expected = estimate.from_values((values > 0.5).mean(1), rate=True)
    assert share == pytest.approx((float(expected.mean), *map(float, expected.interval())))
    first = estimates.over(drawn, value, rate=True, among=lambda r: r.model.language == 0)
    assert (first.count, first.mean) == (1, pytest.approx(values[0].mean())), "one language of several is one unit"
    values[0, 1] = np.nan
    some = estimates.over(drawn, value, rate=True)
    assert some.count == 5
    assert some.mean == pytest.approx(np.nanmean(values, 1).mean())
    assert estimates.over([drawn[0]], lambda _: np.nan, rate=True) is None


def test_sparse_languages_are_judged_by_languages_and_undecided_models_decide_nothing():
    def judged(correct, status="no progress"):
        config = dataclasses.replace(TINY, sparse_languages=12, sparse_models=2, random_languages=0)
        groups = {}
        for m in models.models(config):
            sparse = m.kind.family == "sparse_parity"
            groups.setdefault(m.kind, []).append(fake(m, correct=correct(m) if sparse else 1.0, status=status))
        (row,) = (c for c in claims.claims(config, groups) if c.subject[:13] == "Sparse parity" and c.verdict)
        return row

    none, every = judged(lambda _: 0.5), judged(lambda _: 1.0)
    assert (none.verdict, every.verdict, none.units) == ("supported", "contradicted", 12)
    some = judged(lambda m: 1.0 if m.language % 2 else 0.5)
    assert (some.verdict, some.measured) == ("inconclusive", 0.5)
    half = judged(lambda m: 1.0 if m.number % 2 else 0.5)
    assert (half.verdict, half.note) == ("inconclusive", "0 of 12 languages; 12 undecided")
    assert judged(lambda _: 0.5, status="all epochs").verdict == "inconclusive"


def test_initializations_are_compared_by_languages():
    def judged(languages, gained):
        config = dataclasses.replace(TINY, random_schemes=("xavier_normal", "uniform"), random_languages=languages)
        groups = {}
        for m in models.models(config):
            correct = 0.5 + gained * (m.kind.scheme == "xavier_normal")
            groups.setdefault(m.kind, []).append(fake(m, correct=correct if m.kind.random else 1.0))
        difference, share = (c for c in claims.claims(config, groups) if c.claim == "F.2")
        assert (difference.measured, difference.verdict) == (pytest.approx(gained), "")
        return share

    assert [judged(9, gained).verdict for gained in (0.1, -0.1)] == ["supported", "contradicted"]
    few = judged(3, 0.5)
    assert (few.verdict, few.units, few.measured) == ("inconclusive", 3, 1)
    assert "6 are needed" in few.reason


@pytest.mark.parametrize(
    ("learned", "training", "expected"),
    [
        (36, 0, "supported"),
        (32, 0, "inconclusive"),
        (18, 0, "contradicted"),
        (18, 18, "inconclusive"),
        (18, 2, "contradicted"),
    ],
)  # fmt: skip
def test_models_that_ran_out_of_epochs_decide_nothing(learned, training, expected):
    config = dataclasses.replace(TINY, models=36)
    groups = {}
    for m in models.models(config):
        failed = m.number >= learned and m.kind.name == "first"
        status = "all epochs" if failed and m.number < learned + training else "no progress"
        groups.setdefault(m.kind, []).append(fake(m, correct=0.5 if failed else 1.0, status=status, after=1))
    (claim,) = (
        c for c in claims.claims(config, groups) if (c.subject, c.quantity[:15]) == ("First", "share of models")
    )
    assert claim.verdict == expected
    assert claim.measured == learned / 36


def test_verdicts_of_profiles_follow_their_masses():
    groups = {}
    for m in models.models(dataclasses.replace(TINY, models=36)):
        after = 1 + (m.kind.random and m.language == 4)  # languages differ
        groups.setdefault(m.kind, []).append(fake(m, after=after))
    rows = {(c.subject, c.quantity): c for c in claims.claims(TINY, groups)}
    right = rows["First, models right on 99%", "share of strings of sensitivity 1 after training"]
    wrong = rows["Majority, models right on 99%", "share of strings of sensitivity 0 after training"]
    assert (right.measured, right.verdict) == (1, "supported")
    assert (wrong.measured, wrong.verdict) == (0, "contradicted")
    subject = "Random labels, Xavier normal weights, fitted models"
    fitted = rows[subject, "average sensitivity after training / N"]
    assert fitted.measured == pytest.approx((1 + 1 + 1 + 1 + 2) / 5 / 6)
    assert (fitted.verdict, fitted.units) == ("supported", 5)
