"""Laws of the experiment on grokking: rules of leads on planted curves, measures by the library, planted verdicts."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from matplotlib.text import Text
from scipy import stats

import jaxsens
from experiments.grokking import claims, estimates, figures, leads, train
from experiments.grokking import measure as measures
from experiments.grokking.config import KEYS, PRESETS, Config, Group
from jaxsens import noise_stability, perturb, sharpness, substitution
from jaxsens.models import pair_transformer
from jaxsens.statistics import estimate

SMOKE, LAPTOP = PRESETS["smoke"], replace(PRESETS["laptop"], seeds=5)
EPOCHS = np.arange(0, 20_001, 100)


def step(at, before=0.0, after=1.0):
    return np.where(at <= EPOCHS, after, before)


def test_leads_are_the_distance_of_the_steps_under_both_rules():
    accuracy = step(9_800)
    for rule in (leads.lead, leads.correlation_lead):
        assert rule(EPOCHS, step(6_000, 3.0, 1.0), accuracy) == 3_800
        assert rule(EPOCHS, step(12_000, 3.0, 1.0), accuracy) == -2_200
        assert rule(EPOCHS, step(9_800, -1.0, 7.0), accuracy) == 0
        assert rule(EPOCHS, np.ones(len(EPOCHS)), accuracy) is None
    assert leads.lead(EPOCHS, np.full(len(EPOCHS), np.nan), accuracy) is None


def test_a_change_is_counted_from_the_farthest_value_and_from_memorization_on():
    rise_and_fall = np.interp(EPOCHS, [0, 3_800, 4_200, 8_100, 20_000], [0.0, 4.0, 4.0, 0.0, 0.0])
    assert leads.change(EPOCHS, rise_and_fall).epoch == 6_200
    early = step(300, 9.0, 0.0) + step(6_000, 1.0, 0.0)  # falls before the examples are learned
    assert leads.change(EPOCHS, early).epoch == 300
    first = leads.memorized(step(500))
    assert EPOCHS[first] == 500
    assert leads.change(EPOCHS, early, first).epoch == 6_000


def test_the_last_crossing_counts_and_not_the_transient_of_memorization():
    """Falls to 0.03 at memorization, rises to 0.08, and falls for good: half of the way from 0.1 to 0.01 is 0.055."""
    sensitivity = np.interp(EPOCHS, [0, 400, 1_000, 3_000, 9_000, 20_000], [0.1, 0.1, 0.03, 0.08, 0.01, 0.01])
    assert leads.change(EPOCHS, sensitivity, falling=True).epoch == 5_200
    spike = sensitivity.copy()
    spike[150:152] = 0.1  # two measurements of a spike do not count
    assert leads.change(EPOCHS, spike, falling=True).epoch == 5_200
    assert leads.change(EPOCHS, -sensitivity, falling=True) == (None, leads.RISES)
    assert leads.change(EPOCHS, -sensitivity).epoch == 5_200


def test_a_change_is_larger_than_the_noise_of_the_curve():
    noise = np.random.default_rng(0).normal(size=(50, len(EPOCHS)))
    assert {leads.change(EPOCHS, one).reason for one in noise} == {leads.WITHIN_NOISE}
    found = [leads.change(EPOCHS, one + 8 * step(6_000, 1.0, 0.0), falling=True).epoch for one in noise]
    assert set(found) <= {5_900, 6_000, 6_100}
    assert leads.change(EPOCHS, np.full(len(EPOCHS), np.nan)).reason == leads.NOT_FINITE


def test_measures_follow_the_accuracy_beyond_what_learning_rates_explain():
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=12))
    slow, other = 1e6 * np.exp(rng.normal(size=(2, 12)))
    assert leads.following(1e6 / rates, slow / rates, rates) == (None, 1.0)
    r, p = leads.following(slow / rates**2, 3 * slow / rates, rates)
    assert r == pytest.approx(1)
    assert p < 1e-9
    r, p = leads.following(other / rates, slow / rates, rates)
    left = [np.log(one) - np.polyval(np.polyfit(np.log(rates), np.log(one), 1), np.log(rates)) for one in (slow, other)]
    assert r == pytest.approx(np.corrcoef(left)[0, 1])
    assert p == pytest.approx(stats.t.sf(r * np.sqrt(9 / (1 - r**2)), 9))
    assert leads.following(slow[:3], slow[:3], rates[:3]) == (None, 1.0)


def test_early_changes_that_do_not_follow_the_accuracy_support_nothing():
    early = estimate.from_values(1000.0 + np.arange(5), rate=False)
    design = claims.design(LAPTOP)
    names = [claims.falls_first(early, p, design=design).name for p in (1e-3, 0.02, 0.03)]
    assert names == ["supported", "supported", "inconclusive"]
    late = estimate.from_values(-1000.0 - np.arange(5), rate=False)
    assert claims.falls_first(late, 0.5, design=design).name == "contradicted"


def test_the_mean_lead_over_accuracies_of_other_seeds_is_the_lead():
    _, curves = planted(LAPTOP, 1_000)
    one = curves[Group("published", "none", 1.0)]
    own, placebo = one.lead("token_sensitivity"), one.placebo("token_sensitivity")
    assert placebo.mean == pytest.approx(own.mean)
    assert placebo.sem > 5 * own.sem


def test_the_published_smoothing_makes_a_lead_of_2500_epochs_out_of_none():
    """A trailing mean over 5,000 epochs turns a step into a ramp whose middle is 2,500 epochs later."""
    accuracy = step(9_800)
    smooth = leads.trailing_mean(accuracy, 50)
    assert leads.lead(EPOCHS, 1 - accuracy, accuracy) == 0
    assert leads.lead(EPOCHS, 1 - accuracy, smooth) == pytest.approx(2_500, abs=100)
    assert np.allclose(leads.trailing_mean([1.0, 3.0, 5.0, 7.0], 2), [1, 2, 4, 6])


def planted(config, ahead):
    """Claims and curves as they would be if sensitivity fell about ``ahead`` epochs before the accuracy rises."""
    config = replace(config, epochs=20_000)
    results = {}
    for group in config.groups:
        at = [9_000 + 400 * seed - 3_000 * (group.treatment == "penalty") for seed in range(config.seeds)]
        unit = {name: np.tile(np.linspace(1, 2, len(EPOCHS)), (config.seeds, 1)) for name in measures.MEASURES}
        unit |= {"epochs": EPOCHS, "learning_rate": config.learning_rates()}
        unit["train_accuracy"] = np.stack([step(500) for _ in at])
        unit["test_accuracy"] = np.stack([step(one) for one in at])
        moved = [one - ahead - 100 * (seed % 2) for seed, one in enumerate(at)]
        unit |= {name: np.stack([step(one, 0.2, 0.01) for one in moved]) for name in claims.JUDGED}
        results[group] = unit
    parity = {"sensitivity": np.full((3, 2), 0.1), "test_accuracy": np.ones((3, 2))}
    curves = estimates.all_curves(config, results)
    return [row for row in claims.claims(config, curves, parity) if row.claim], curves


@pytest.mark.parametrize(("ahead", "verdict"), [(1_000, "supported"), (-1_000, "contradicted")])
def test_the_mean_lead_decides_c14_and_epochs_of_grokking_decide_c27(ahead, verdict):
    rows, curves = planted(LAPTOP, ahead)
    assert [row.verdict for row in rows if row.claim == "C14"] == [verdict] * 4
    assert [row.verdict for row in rows if row.claim == "C27"] == ["supported"] * 2
    one = curves[Group("published", "none", 1.0)]
    assert estimates.first_movers(one)["token_sensitivity"] == 5 or ahead < 0
    assert one.lead("token_sensitivity", smoothed=True).mean > one.lead("token_sensitivity").mean + 2_000


def test_a_model_that_groks_is_below_half_at_memorization_and_above_nine_tenths_at_the_end():
    config = replace(LAPTOP, seeds=4, epochs=20_000)
    unit = dict.fromkeys(measures.MEASURES, np.ones((4, len(EPOCHS))))
    unit |= {"epochs": EPOCHS, "learning_rate": config.learning_rates()}
    unit["train_accuracy"] = np.stack([step(500), step(500), step(500), step(30_000)])
    unit["test_accuracy"] = np.stack([step(9_000), step(500), step(9_000, after=0.8), step(9_000)])
    one = estimates.Curves(config, Group("published", "none", 1.0), unit)
    assert one.grokked.tolist() == [True, False, False, False]
    assert [failed.tolist().index(True) for failed in one.failures.values()] == [3, 1, 2]
    words = estimates.failures_in_words(one)
    assert words.startswith("1 of 4 seeds grokked (1 with")
    assert "1 with a test accuracy of 0.5 or more at memorization, 1 with a test accuracy below 0.9" in words


def test_models_that_do_not_grok_have_no_lead_and_decide_nothing():
    _, curves = planted(LAPTOP, 1_000)
    one = curves[Group("published", "none", 1.0)]
    one.values["test_accuracy"][:] = 0.5
    for name in ("failures", "grokked", "grokking"):
        one.__dict__.pop(name)
    assert one.lead("token_sensitivity") is None
    parity = {"sensitivity": np.full((3, 2), 0.1), "test_accuracy": np.ones((3, 2))}
    rows = [
        row for row in claims.claims(LAPTOP, curves, parity) if "published arch" in row.subject and row.claim == "C14"
    ]
    assert {row.verdict for row in rows} == {"inconclusive"}
    assert {row.reason for row in rows} == {"0 independently trained models of each kind; 3 are needed"}


def test_models_that_never_reach_the_accuracy_do_not_decide_c27():
    design = claims.design(LAPTOP)
    fewer, more = (estimate.from_values(mean + np.arange(5) / 100, rate=False) for mean in (-1, 1))

    def names(found):
        return [claims.fewer_epochs(found, one, design=design).name for one in ((0, 0), (1, 0), (0, 1), (1, 1))]

    assert names(fewer) == ["supported", "inconclusive", "supported", "inconclusive"]
    assert names(more) == ["contradicted", "contradicted", "inconclusive", "inconclusive"]
    _, curves = planted(LAPTOP, 1_000)
    treated, control = (curves[Group("published", one, 1.0)] for one in ("penalty", "none"))
    treated.values["test_accuracy"][0] = 0.1
    treated.__dict__.pop("grokking")
    row, verdict = claims._speed_up(treated.config, treated, control)
    assert "without a test accuracy of 0.9: 1, and 0 controls" in row.note
    assert verdict.name == "inconclusive"


def test_a_seed_has_one_learning_rate_for_all_groups_inside_the_range():
    rates = LAPTOP.learning_rates()
    assert ((rates >= LAPTOP.rates[0]) & (rates <= LAPTOP.rates[1])).all()
    assert np.array_equal(LAPTOP.learning_rates(), rates)
    assert claims.design(LAPTOP).reason() == ""
    assert "factor" in claims.design(replace(LAPTOP, rates=(1e-3, 1e-3))).reason()


def test_the_penalty_is_compared_with_both_controls_at_every_weight_decay():
    groups = Config().groups
    assert len(groups) == len(set(groups)) == 2 + 9 - 1
    assert len(LAPTOP.groups) == 4
    assert len(claims._comparisons(Config())) == 6
    assert replace(LAPTOP, treatments=()).groups == [Group(one, "none", 1.0) for one in LAPTOP.architectures]


def test_names_of_the_losses_say_whose_frequencies_they_have():
    """Units keep their short names; tables, claims and figures do not."""
    assert set(estimates.OF_CURRENT_FREQUENCIES) <= set(measures.MEASURES)
    _, curves = planted(LAPTOP, 1_000)
    rows = [estimates.curve_rows(curves)[0], estimates.model_rows(curves)[0]]
    rows += [{row["measure"]: 0} for row in estimates.lead_rows(curves)]
    names = [name for row in rows for name in row if "restricted" in name or "excluded" in name]
    assert len(names) == 4 + 2 * 3 * len(curves)
    assert all(name.endswith("_frequencies_of_that_epoch") for name in names)
    parity = {"sensitivity": np.full((3, 2), 0.1), "test_accuracy": np.ones((3, 2))}
    config = replace(LAPTOP, epochs=20_000)
    texts = [row.quantity for row in claims.claims(config, curves, parity) if "restricted" in row.quantity]
    assert texts
    assert all(", frequencies of that epoch" in one for one in texts)


def test_figures_leave_out_models_that_are_not_finite_and_say_so():
    """With one broken model of three the mean is that of two; with all broken the figure is left out."""
    config = replace(SMOKE, treatments=())
    unit = {name: np.ones((3, len(EPOCHS))) for name in measures.MEASURES}
    unit |= {"epochs": EPOCHS, "learning_rate": config.learning_rates()}
    unit["weight_norm"] = np.array([[4.0], [6.0], [1000.0]]) * np.ones(len(EPOCHS))
    unit["token_sensitivity"][2, 5:] = np.nan
    parity = {"epochs": np.arange(3), "sensitivity": np.full((2, 3), np.nan), "test_accuracy": np.ones((2, 3))}
    group = Group("published", "none", 1.0)
    curves = {group: estimates.Curves(config, group, unit)}
    drawn = figures.draw(config, curves, parity)
    assert set(drawn) == {"curves", "leads"}
    texts = " ".join(text.get_text() for text in drawn["curves"].findobj(Text))
    assert "2 of 3 seeds (published)" in texts
    norm = next(ax for ax in drawn["curves"].axes if ax.get_ylabel() == figures.ROWS["weight_norm"])
    assert np.allclose(norm.lines[0].get_ydata(), 5)
    unit["token_sensitivity"][:] = np.nan
    assert "curves" not in figures.draw(config, {group: estimates.Curves(config, group, unit)}, parity)


@pytest.mark.whole
def test_measures_are_those_of_the_library():
    """The same keys draw the same noise, so that the values are equal and not only close in the mean."""
    config = replace(SMOKE, noise=0.5, weight_noise=0.1, draws=2, weight_draws=3, seeds=1)
    module = config.module("published")
    variables = jax.tree.map(lambda a: 3 * a, pair_transformer.init(module, jax.random.key(3)))
    train_set = config.task.split(jax.random.key(0), 0.6)[0]
    found = measures.measure_with(config, module, train_set[None])(10, jax.tree.map(lambda a: a[None], variables))
    key, pairs = KEYS(config.seed, "measure", 0, 10), config.task.pairs[train_set]
    vectors = np.asarray(pair_transformer.embed(module)(variables, pairs))
    apply, noise = pair_transformer.from_embeddings(module), perturb.gaussian(0.25)
    token = jaxsens.token_sensitivity(substitution.one_at_a_time(apply), noise, draws=2)(key, variables, vectors).mean
    pair = noise_stability.all_tokens_change(apply, noise, draws=2)(key, variables, vectors).mean
    assert 0 < token < 1
    assert found["token_sensitivity"][0] == pytest.approx(token)
    assert found["pair_sensitivity"][0] == pytest.approx(pair)
    of_weights = sharpness.output_sharpness(pair_transformer.evaluation(module), perturb.gaussian(0.01), draws=3)
    expected = of_weights(jax.random.fold_in(key, len(train_set)), variables, pairs).mean
    assert found["output_sharpness"][0] == pytest.approx(expected, rel=1e-4)
    logits = np.asarray(pair_transformer.evaluation(module)(variables, config.task.pairs))
    losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(49), config.task.labels]
    learned = {tuple(pair) for pair in pairs.tolist()}
    unlearned = [not {(a, b), (b, a)} & learned for a, b in config.task.pairs.tolist()]
    assert found["train_loss"][0] == pytest.approx(losses[train_set].mean(), rel=1e-4)
    assert found["test_loss"][0] == pytest.approx(losses[unlearned].mean(), rel=1e-4)
    squares = sum((a**2).sum() for a in variables["params"].values())
    assert found["weight_norm"][0] == pytest.approx(np.sqrt(squares), rel=1e-5)


def test_pairs_of_which_one_order_is_learned_are_mirrored_and_not_for_the_test():
    """Sums that only the learned pairs and their mirrors have right are memorized; the test accuracy is 0."""
    train_set = SMOKE.task.split(jax.random.key(1), 0.6)[0]
    test, mirrored = measures.unseen(SMOKE.task, train_set)
    learned = np.isin(np.arange(49), train_set)
    assert (learned.astype(int) + test + mirrored == 1).all()
    grid = learned.reshape(7, 7)
    assert np.array_equal(mirrored.reshape(7, 7), grid.T & ~grid)
    assert test.any()
    assert mirrored.any()
    labels = np.where(test, SMOKE.task.labels - 1, SMOKE.task.labels) % 7
    row = measures.on_host(SMOKE, 9.0 * np.eye(7)[labels], train_set, {"embedding": np.eye(8), "readout": np.eye(7)})
    assert (row["train_accuracy"], row["mirrored_accuracy"], row["test_accuracy"]) == (1, 1, 0)
    with pytest.raises(ValueError, match=r"no pair is left for the test: all 21 pairs .* take a smaller fraction"):
        measures.unseen(SMOKE.task, np.flatnonzero(np.triu(np.ones((7, 7))).ravel()))


def test_a_network_that_adds_with_key_frequencies_has_these_losses():
    numbers = np.arange(7)
    grid = np.cos(2 * np.pi * 2 * (numbers[:, None, None] + numbers[:, None] - numbers) / 7)
    logits = (20 * grid).reshape(49, 7)
    params = {"embedding": np.cos(2 * np.pi * 2 * np.arange(8) / 7)[:, None], "readout": np.eye(7)}
    row = measures.on_host(SMOKE, logits, np.arange(30), params)
    assert row["test_accuracy"] == row["train_accuracy"] == 1
    assert row["restricted_loss"] == pytest.approx(row["test_loss"])
    assert row["excluded_loss"] == pytest.approx(np.log(7))
    assert row["embedding_gini"] == pytest.approx(2 / 3)
    assert row["readout_gini"] == pytest.approx(0, abs=1e-9)
    broken = measures.on_host(SMOKE, np.full((49, 7), np.nan), np.arange(30), params)
    assert np.isnan(broken["train_loss"])


def test_penalty_and_noise_are_cross_entropy_where_copies_are_equal():
    module = SMOKE.module("published")
    variables = jax.tree.map(lambda a: 3 * a, pair_transformer.init(module, jax.random.key(0)))
    data, key = (SMOKE.task.pairs, SMOKE.task.labels), jax.random.key(1)
    plain = float(train.Loss(module)(variables, data, key))
    assert float(train.Loss(module, "noise", rho=1.0)(variables, data, key)) == pytest.approx(plain, rel=1e-5)
    logits = pair_transformer.evaluation(module)(variables, data[0])
    own = 1 - float((jax.nn.softmax(logits) ** 2).sum(-1).mean())  # rho = 1: how unsure the predictions are
    penalty = train.Loss(module, "penalty", rho=1.0, strength=0.4)(variables, data, key)
    assert float(penalty) == pytest.approx(0.6 * plain + 0.4 * own, rel=1e-5)
    assert float(train.Loss(module, "noise", rho=0.5)(variables, data, key)) != pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modulus": 8}, "modulus must be odd"),
        ({"every": 7}, "every must divide"),
        ({"rates": (0.1, 0.01)}, "rates must be the smallest and the largest"),
        ({"frequencies": 9}, "frequencies must be at most"),
        ({"parity_relevant": 9}, "parity_relevant must be at most"),
        ({"heads": 3}, "heads is 3"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(SMOKE, **settings)
