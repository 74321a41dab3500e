"""Laws of the experiment on kernels: planted kernels and functions, and the command that prints the counterexample."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.kernels import claims, experiment, measure
from experiments.kernels.config import PRESETS, Config
from jaxsens.noise_stability import sensitivity_bound

SMOKE = PRESETS["smoke"]


def planted(broken):
    """Results of every cube as they would be if the parts named were broken for linear scores with two tokens."""
    linear = np.array([score == "linear" for _, score, _ in measure.settings()])
    units = {}
    for cube in SMOKE.cubes:
        wrong = linear & (cube[1] == 2)
        unit = {part: np.where(wrong & (part in broken), 0.5, 0.0) for part in claims.PARTS if part != "order"}
        units[cube] = unit | {"ordered": ~(wrong & ("order" in broken))}
    return units


@pytest.mark.parametrize("part", claims.PARTS)
def test_one_broken_part_contradicts_that_part_alone(part):
    rows = claims.kernel_claims(SMOKE, planted([part]))
    wrong = {(row.quantity, row.dataset) for row in rows if row.verdict == "contradicted"}
    texts = {quantity for quantity, _ in wrong}
    assert texts == {f"cases without: {claims.PARTS[part]}"}
    assert not [dataset for _, dataset in wrong if dataset.endswith("one token")]
    assert {row.verdict for row in rows} == {"supported", "contradicted"}


def test_exceptions_of_the_bound_contradict_and_a_small_sample_does_not_support():
    unit = {
        "functions": 16,
        "exceptions": 0,
        "degree_exceptions": 0,
        "negative_exceptions": 3,
        "average_exceptions": 0,
        "sharp": 1,
    }
    verdicts = {}
    for name, one in {"none": unit, "one": unit | {"exceptions": 1}, "degree": unit | {"degree_exceptions": 1}}.items():
        for kind in ("all", "random"):
            verdicts[name, kind] = claims.bound_claims({(kind, 2): one})[0].verdict
    assert verdicts["none", "all"] == "supported"
    assert verdicts["none", "random"] == "inconclusive"
    assert {verdict for (name, _), verdict in verdicts.items() if name != "none"} == {"contradicted"}


def test_the_share_off_the_diagonal_has_no_bias_by_noise():
    """A diagonal matrix under noise that is as large: the plain share of squares would be far above 0."""
    noise = np.random.default_rng(0).normal(size=(400, 8, 8))
    share, sem = measure._jackknife(measure._off_diagonal_share, np.eye(8) + noise)
    assert abs(share) < 4 * sem < 0.2
    half = np.eye(8) + np.eye(8)[::-1]
    share, sem = measure._jackknife(measure._off_diagonal_share, half + noise)
    assert abs(share - 0.5) < 4 * sem


def test_an_exception_is_counted(monkeypatch):
    monkeypatch.setattr(sensitivity_bound, "degree_slack", lambda tables: np.full(len(tables), -1))
    assert measure.all_functions(1)["degree_exceptions"] == 4


def test_the_counterexample_is_printed_with_its_numbers():
    row = experiment.refutation()
    assert (row["inner"], row["kernel_x_y"], row["kernel_u_v"]) == (4, 8, 4)
    text = experiment.said(row)
    assert "K(x, y) = 8 and K(u, v) = 4" in text
    assert row["u"] in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": (2, 13)}, "bits and sampled_bits must be at most 12"),
        ({"finite_tokens": 5}, "finite_tokens must divide the 6 bits"),
        ({"widths": (0,)}, "widths must be at least 1"),
        ({"exhaustive": 5}, "exhaustive must be below 5"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Config(), **changes)
