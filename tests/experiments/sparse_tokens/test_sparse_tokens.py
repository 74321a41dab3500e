"""Laws of the experiment on sparse tokens: models by hand, planted results, and the published table."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.sparse_tokens import claims, estimates, models, published, train
from experiments.sparse_tokens.config import KINDS, PRESETS, Config
from experiments.sparse_tokens.published import TABLE

SMOKE = PRESETS["smoke"]
LAPTOP = PRESETS["laptop"]


def planted(config, other, test=1.0):
    """Results as they would be if all kinds had this accuracy out of distribution, by case."""
    shape = config.seeds, len(config.scales), len(config.rates)
    middle = len(config.rates) // 2
    unit = {name: np.full(shape, 0.5) for name in ("status", "validation_loss", "validation_accuracy")}
    unit |= {"status": np.zeros(shape, int), "test_accuracy": np.full(shape, test)}
    unit |= {"chosen": np.full(shape[1], middle), "sensitivity": np.full(shape[:2], 0.1)}
    unit |= {"sensitivity_sem": np.full(shape[:2], 0.01)}
    return {
        (kind, case): unit | {"other_accuracy": np.full(shape, value)}
        for kind in config.kinds
        for case, value in zip(config.cases, other, strict=True)
    }


def judged(config, *args, **kwargs):
    results = planted(config, *args, **kwargs)
    rows = claims.claims(config, estimates.groups(config, results))
    return [row for row in rows if row.claim == "C7"], rows


@pytest.mark.parametrize(
    ("other", "verdicts"),
    [
        ((0.0, 1.0), ["supported", "supported"]),
        ((1.0, 0.0), ["contradicted", "contradicted"]),
        ((0.0, 0.0), ["supported", "contradicted"]),
        ((0.5, 0.5), ["contradicted", "contradicted"]),  # neither rule is followed
    ],
)
def test_the_rule_that_is_followed_out_of_distribution_decides(other, verdicts):
    rows, everything = judged(LAPTOP, other)
    assert [row.verdict for row in rows] == verdicts
    assert {row.subject for row in rows} == {"attention"}
    assert {row.subject for row in everything} == set(KINDS)
    assert [row.published for row in everything if "token sens" in row.quantity and row.subject == "attention"] == [
        0,
        0,
    ]


def test_models_that_have_not_learned_decide_nothing():
    rows, _ = judged(LAPTOP, (0.0, 1.0), test=0.6)
    assert [row.verdict for row in rows] == ["inconclusive"] * 2


def test_the_learning_rate_has_the_smallest_mean_loss_and_no_divergence():
    loss = np.array([[[0.3, 0.2, 0.1]], [[0.3, 0.1, np.nan]]])
    accuracy = np.array([[[0.5, 0.6, 0.9]], [[0.5, 0.6, 0.2]]])
    assert train.choose(accuracy, loss).tolist() == [1]
    assert train.choose(accuracy, np.full(loss.shape, np.nan)).tolist() == [1]


def test_models_are_what_their_formulas_say():
    task = SMOKE.task("2-3-1-5")
    ids = task.draw(jax.random.key(0), 3)[0]
    hot = np.eye(task.vocabulary)[ids]
    for kind in KINDS:
        weights = models.init(kind, jax.random.key(1), task, 4, 1.0)
        found = models.APPLY[kind](weights, ids.astype(np.float32))
        p = {name: np.asarray(value, np.float64) for name, value in weights["params"].items()}
        for row, one in zip(found, hot, strict=True):
            if kind == "attention":
                scores = one @ p["queries"] @ (one @ p["keys"]).T
                scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
                expected = (p["output"] * (scores @ one @ p["values"])).sum()
            elif kind == "linear":
                expected = (p["weights"] * one).sum() + p["bias"]
            elif kind == "mlp":
                hidden = np.einsum("tm,tmh->h", one, p["weights"]) + p["bias"]
                expected = np.maximum(hidden, 0) @ p["output"]
            else:
                state = cell = np.zeros(4)
                for now in one @ p["inputs"] + p["bias"]:
                    enter, keep, new, leave = np.split(now + state @ p["recurrent"], 4)
                    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
                    cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
                    state = sigmoid(leave) * np.tanh(cell)
                expected = state @ p["output"]
            assert row == pytest.approx(expected, rel=1e-4, abs=1e-6), kind


def test_seeds_have_their_own_examples_and_share_them_out_of_distribution():
    first, second = (train.sets(SMOKE, SMOKE.cases[0], seed) for seed in (0, 1))
    assert not np.array_equal(first["training"][0], second["training"][0])
    test, other = first["test"][0], first["other"][0]
    np.testing.assert_array_equal(test[test > 1], other[test > 1])
    assert (test[test < 2] == 1 - other[test < 2]).all()


def test_three_rows_of_the_published_table_are_those_of_59_ids_and_one_fits_none():
    rows = {(row["n_s"], row["m"], row["solution"]): row for row in published.rows(59)}
    assert len(rows) == 2 * len(TABLE)
    fits = {key: row["vocabularies_that_reproduce"] for key, row in rows.items()}
    assert [fits[3, m, "frequent"] for m in (6, 16, 28)] == ["59"] * 3
    assert [fits[1, m, "sparse"] for m in (10, 20, 36)] == ["69", "69", "none"]
    assert [bool(rows[key]["broken_constraint"]) for key in ((3, 6, "sparse"), (3, 16, "sparse"))] == [True, False]
    readings = {
        (row["ties"], row["replace_by_itself"]): (row["n_s=3"], row["n_s=1"]) for row in published.conventions()
    }
    assert readings.pop(("change", True)) == ("59", "69")
    assert set(readings.values()) == {("none", "none")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ("3-5-1",)}, "cases must be n_s-n_f-n_d-m"),
        ({"cases": ("5-3-1-16",)}, "frequent must be above sparse"),
        ({"vocabulary": 34}, "vocabulary must be above"),
        ({"batch": 2_000}, "batch must be at most"),
        ({"kinds": ("gru",)}, "kinds must be of"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Config(), **changes)
