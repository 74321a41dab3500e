"""All three verdicts are reachable at the size of the preset ``laptop``, or the preset does not judge and says why."""

import importlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from experiments.harness import verdicts
from jaxsens.statistics import estimate
from tests.experiments.conftest import EXPERIMENTS

ALL = {"supported", "contradicted", "inconclusive"}


def means(units, around):
    """Return estimates far above, far below, in the middle of, and spread about a number."""
    pattern = np.where(np.arange(units) % 2, 1.0, -1.0)
    centers = (around + 1e3, around - 1e3, around, around)
    return [estimate.from_values(c + s * pattern) for c, s in zip(centers, (1e-3, 1e-3, 1e-6, 10), strict=True)]


def examples(use):
    """Return arguments of a rule, among which are those that support most, contradict most, and tell nothing."""
    name, settings, units = use.rule.func.__name__, use.rule.keywords, use.units
    within = settings.get("within")
    around = sum(within) / 2 if within else settings.get("above", settings.get("below", settings.get("at_most", 0.0)))
    if name in ("mean", "slope"):
        return [(one,) for one in means(units, around)]
    if name == "rises_in_each":
        return [([one] * 3,) for one in means(units, around)]
    if name == "bounded_mean":
        least, most = settings["bounds"]
        levels = (least, most, np.clip(around, least, most))
        return [*((np.full(units, level),) for level in levels), (np.where(np.arange(units) % 2, least, most),)]
    if name == "share":
        return [(holding, units) for holding in range(units + 1)]
    if name == "no_exception":
        return [(0, units), (1, units), (0, 1)]
    assert name == "correlation", f"give examples of {name}"
    x = np.unique(settings["clusters"], return_inverse=True)[1] if "clusters" in settings else np.arange(units)
    return [(x, x), (x, -x), (x, np.random.default_rng(0).permutation(x.max() + 1)[x])]


def judged(use, arguments):
    """Return the verdict of a rule, corrected together with as many equal ones as the experiment does."""
    return verdicts.holm([use.rule(*arguments, design=use.design)] * use.together)[0]


def require_reachable(use):
    """Raise AssertionError unless a rule gives all three verdicts, or none but inconclusive ones with a reason."""
    found = [judged(use, arguments) for arguments in (use.examples or examples(use))]
    names = {one.name for one in found}
    if use.design.reason() or len(names) == 1:
        assert names == {"inconclusive"}
        assert all(one.reason for one in found)
    else:
        exhaustive = getattr(use.rule, "keywords", {}).get("exhaustive", False)
        assert names == (ALL - {"inconclusive"} if exhaustive else ALL)
    assert all(0 <= one.level <= 0.03 for one in found)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_verdicts_are_reachable_or_the_preset_does_not_judge(name):
    claims = importlib.import_module(f"experiments.{name}.claims")
    preset = importlib.import_module(f"experiments.{name}.config").PRESETS["laptop"]
    for claim, use in claims.uses(preset).items():
        # The rule itself is looked at as well, where the preset trains too few models or tries too few rates.
        for one in (use, replace(use, design=verdicts.NOT_TRAINED)):
            try:
                require_reachable(one)
            except AssertionError as error:
                raise AssertionError(f"{claim}: {one}") from error


RULES = {
    "mean": (partial(verdicts.mean, below=0.5), 3),
    "mean within": (partial(verdicts.mean, within=(-1, 2)), 4),
    "slope": (partial(verdicts.slope, tolerance=0.1), 3),
    "rises in each": (verdicts.rises_in_each, 3),
    "bounded mean": (partial(verdicts.bounded_mean, bounds=(0, 1), above=0.9), 86),
    "share": (partial(verdicts.share, above=0.9), 36),
    "correlation": (partial(verdicts.correlation, sign=-1), 12),
    "clusters": (partial(verdicts.correlation, clusters=np.arange(24) // 2, groups=np.arange(24) // 12), 12),
    "no exception": (verdicts.no_exception, 72),
    "all cases": (partial(verdicts.no_exception, exhaustive=True), 8),
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_reachable_with_enough_units_and_some_are_not_with_fewer(name):
    """The examples reach what a rule can give; the test finds a rule that can only go one way."""
    rule, units = RULES[name]
    rule = rule if isinstance(rule, partial) else partial(rule)
    require_reachable(verdicts.Use(rule, units, verdicts.NOT_TRAINED))
    require_reachable(verdicts.Use(rule, units, verdicts.Design(2), together=3))
    if name == "no exception":
        with pytest.raises(AssertionError):
            require_reachable(verdicts.Use(rule, units - 1, verdicts.NOT_TRAINED))
    one_way = verdicts.Use(partial(verdicts.share, above=0.9), 36, verdicts.NOT_TRAINED, together=9)
    with pytest.raises(AssertionError):
        require_reachable(one_way)


GRID = (1e-4, 1e-3, 1e-2)


def test_the_middle_of_a_grid_is_the_best_that_its_search_can_find():
    assert verdicts.Design.at_best(3, GRID).reason() == ""
    assert "2 tried; 3 are needed" in verdicts.Design.at_best(3, GRID[:2]).reason()
    assert verdicts.Design.at_best(3, {"vit": GRID, "cnn": GRID}).best == {"vit": 1e-3, "cnn": 1e-3}
    assert verdicts.Design.at_best(3, ()).reason() == "the learning rate is not said to be the best of a grid"
    assert verdicts.Design.at_best(None).reason() == ""
