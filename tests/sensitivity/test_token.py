"""Token sensitivity against closed forms and plain loops, its intervals, and what it refuses.

The file is long because its tests share models and compiled programs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxsens
from jaxsens import changes, perturb, substitution
from jaxsens.execution import Execution, parallel
from jaxsens.sensitivity import token

KEY = jax.random.key(0)


def linear(params, tokens, mask=None):
    """The score ``w . x`` over all tokens."""
    return jnp.einsum("btd,td->b", tokens, params)


def parity(params, bits, mask=None):
    return 1.0 - 2.0 * (bits.sum(1) % 2)


def flip(key, draw, bits):
    return 1 - bits


def swing(key, draw, x):
    """A replacement without random numbers, which take most of the time of compiling."""
    return x + jnp.where(draw % 2, 1e-3, -1e-3)


def step(key, draw, x):
    return x + 1.0 + draw


def test_exact_languages():
    """Every flip changes parity; only the first bit changes a dictator."""
    bits = np.random.default_rng(0).integers(0, 2, (10, 6), np.int32)
    measure = token.token_sensitivity(substitution.one_at_a_time(parity), flip)
    assert measure(KEY, None, bits).mean == 1
    first = substitution.one_at_a_time(lambda params, x, mask=None: 2.0 * x[:, 0] - 1)
    result = token.token_sensitivity(first, flip)(KEY, None, bits)
    np.testing.assert_array_equal(result.per_token, [1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(result.per_example, np.full(10, 1 / 6))


def test_a_uniform_replacement_spares_one_in_the_vocabulary():
    """A model that reads ids one by one changes with probability 1 - 1 / vocabulary."""
    tokens = np.random.default_rng(0).integers(0, 4, (50, 8), np.int32)
    total = substitution.one_at_a_time(lambda params, x, mask=None: x.sum(1).astype(jnp.float32))
    measure = token.token_sensitivity(
        total, perturb.replace_uniform(4), draws=50, change=lambda clean, changed: clean != changed
    )
    np.testing.assert_allclose(measure(KEY, None, tokens).mean, 0.75, atol=0.01)


def test_a_linear_model_at_fixed_x_flips_as_the_normal_law_says():
    """``P[flip] = Phi(-|w . x| / (sigma |w_i|))`` for token i."""
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(3, 4, 2)), rng.normal(size=(4, 2))
    measure = token.token_sensitivity(substitution.one_at_a_time(linear), perturb.gaussian(4.0), draws=4000)
    result = measure(KEY, w.astype(np.float32), x.astype(np.float32))
    score = np.abs(np.einsum("btd,td->b", x, w))
    truth = stats.norm.cdf(-score[:, None] / (2 * np.linalg.norm(w, axis=1)))
    np.testing.assert_allclose(result.values, truth, atol=4.5 * np.sqrt(0.25 / 4000))
    assert truth.max() > 0.2


def test_a_linear_model_under_gaussian_x_follows_the_arc_tangent():
    """``P[flip] = arctan(r / s) / pi``, with r the noise's deviation and s the score's."""
    x = np.random.default_rng(2).normal(size=(4000, 3, 2)).astype(np.float32)
    w = np.array([[1, 0], [0, 2], [3, 4]], np.float32)
    measure = token.token_sensitivity(substitution.one_at_a_time(linear), perturb.gaussian(2.25), draws=3)
    result = measure(KEY, w, x)
    norms = np.linalg.norm(w, axis=1)
    truth = np.arctan(1.5 * norms / np.linalg.norm(w)) / np.pi
    np.testing.assert_allclose(result.per_token, truth, atol=0.015)
    low, high = result.interval(0.999)
    assert low <= truth.mean() <= high


def test_other_changes_are_averaged_as_they_are():
    """``E (w_i . xi)^2 = variance |w_i|^2``."""
    x, w = np.zeros((200, 2, 3), np.float32), np.array([[1, 0, 0], [0, 2, 0]], np.float32)
    measure = token.token_sensitivity(
        substitution.one_at_a_time(linear), perturb.gaussian(0.5), draws=50, change=changes.squared_change
    )
    result = measure(KEY, w, x)
    assert not result.rate
    np.testing.assert_allclose(result.per_token, [0.5, 2.0], rtol=0.06)


def test_results_are_consistent():
    x = np.random.default_rng(3).normal(size=(9, 4, 2)).astype(np.float32)
    sites = np.random.default_rng(4).random((9, 4)) < 0.6
    sites[:, 1] = True
    measure = token.token_sensitivity(substitution.one_at_a_time(linear), perturb.gaussian(5.0), draws=7)
    result = measure(KEY, np.ones((4, 2), np.float32), x, sites=sites)
    assert result.changes.shape == (9, 7, 4)
    np.testing.assert_array_equal(np.isnan(result.values), ~sites)
    np.testing.assert_allclose(result.mean, result.per_example.mean())
    np.testing.assert_allclose(result.sem, result.per_example.std(ddof=1) / 3)
    np.testing.assert_allclose(result.per_token, np.nanmean(result.values, 0))
    assert result.count == 9
    low, high = result.interval(0.9)
    assert low < result.mean < high


def network(params, tokens, mask=None):
    """A small perceptron, whose rounding would betray another grouping of its rows."""
    return jnp.tanh(tokens.reshape(len(tokens), -1) @ params["first"]) @ params["second"]


RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(7, 16, 4)).astype(np.float32)
NETWORK = {
    "first": RNG.normal(size=(64, 32)).astype(np.float32) / 8,
    "second": RNG.normal(size=(32, 5)).astype(np.float32),
}


@pytest.fixture(scope="module")
def images():
    return IMAGES


def test_equal_bits_on_any_devices_and_backend(devices):
    """Seven examples, which no number of devices divides."""

    def run(**where):
        measure = token.token_sensitivity(
            substitution.one_at_a_time(network),
            perturb.gaussian(1.0),
            draws=3,
            change=changes.absolute_change,
            execution=Execution(chunk=2 * 17, **where),
        )
        return measure(KEY, NETWORK, IMAGES).changes

    reference = run(devices=devices[:1])
    assert len(np.unique(reference)) == reference.size
    for backend, number in (("pmap", 3), ("shard_map", 8)):
        np.testing.assert_array_equal(run(backend=backend, devices=devices[:number]), reference)


def test_chunks_and_rows_alter_results_by_rounding_only():
    results = [
        token.token_sensitivity(
            substitution.one_at_a_time(network, rows),
            perturb.gaussian(1.0),
            draws=3,
            execution=Execution(chunk=chunk),
            change=changes.absolute_change,
        )(KEY, NETWORK, IMAGES).changes
        for rows, chunk in ((None, None), (None, 1), (5, 120))
    ]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-5)


def on_images(tokens, draws=2, sites_drawn=None, **call):
    """The changes of the linear model; calls of the same ``draws`` and number of examples share a program."""
    measure = token.token_sensitivity(
        substitution.one_at_a_time(linear), perturb.gaussian(1.0), draws=draws, change=changes.absolute_change,
        sites_drawn=sites_drawn,
    )  # fmt: skip
    return measure(KEY, np.ones((16, 4), np.float32), tokens, **call)


def test_the_first_draws_of_many_are_the_draws_of_few(images):
    few, many = on_images(images).changes, on_images(images, draws=4).changes
    np.testing.assert_allclose(many[:, :2], few, rtol=1e-5, atol=1e-5)
    assert len(np.unique(many)) == many.size


def test_examples_keep_their_draws_whatever_comes_behind(images):
    all_of_them, four = on_images(images).changes, on_images(images[:4]).changes
    np.testing.assert_allclose(all_of_them[:4], four, rtol=1e-5, atol=1e-5)


def test_examples_keep_the_draws_of_their_numbers(images):
    """Any part of a data set, in any order, gives what it gives in the whole."""
    part = np.array([6, 1, 4, 2])
    whole = on_images(images).changes
    assert len(np.unique(whole)) == whole.size
    np.testing.assert_allclose(on_images(images[part], index=part).changes, whole[part], rtol=1e-5, atol=1e-5)
    for index in ([0, 1, 2], [0, 1, 2, -1], [0.0, 1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match="index must be a number below"):
            on_images(images[part], index=index)


def test_sites_that_are_drawn_change_as_they_do_among_all(images):
    """With sites of each example's own; an example with fewer than are drawn gets all of them."""
    sites = np.random.default_rng(6).random((7, 16)) < 0.6
    sites[2] = np.arange(16) == 5
    full, some, every = (on_images(images, sites_drawn=count, sites=sites) for count in (None, 4, 16))
    np.testing.assert_array_equal(every.sites, sites)
    np.testing.assert_allclose(every.changes, full.changes, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(some.sites.sum(1), np.minimum(sites.sum(1), 4))
    assert (some.sites <= sites).all()
    np.testing.assert_allclose(some.changes, np.where(some.sites[:, None], full.changes, 0), rtol=1e-5, atol=1e-5)
    assert len(np.unique(some.sites, axis=0)) == 7


def test_what_can_evaluate_all_sites_only_is_refused():
    def every_site(params, tokens, alternatives, mask=None):
        return substitution.one_at_a_time(linear)(params, tokens, alternatives, mask)

    token.token_sensitivity(every_site, perturb.gaussian(1.0))
    with pytest.raises(ValueError, match="substitute must take sites as a fifth argument"):
        token.token_sensitivity(every_site, perturb.gaussian(1.0), sites_drawn=2)
    plain = substitution.one_at_a_time(linear)
    with pytest.raises(ValueError, match="sites_drawn must be an integer of at least 1, or None for all, got 0"):
        token.token_sensitivity(plain, perturb.gaussian(1.0), sites_drawn=0)
    with pytest.raises(ValueError, match="sites_drawn must be at most the number of tokens, 3, got 4"):
        token.token_sensitivity(plain, perturb.gaussian(1.0), sites_drawn=4)(
            KEY, np.ones((3, 2), np.float32), np.ones((5, 3, 2), np.float32)
        )


def test_padding_changes_nothing(images):
    def masked(params, tokens, mask):
        return network(params, jnp.where(mask[..., None], tokens, 0))

    mask = np.arange(16)[None] < np.array([[16], [12], [9], [16], [3], [1], [10]])
    measure = token.token_sensitivity(substitution.one_at_a_time(masked), step, change=changes.absolute_change)
    garbage = np.where(mask[..., None], images, 100 * np.ones_like(images))
    first, second = measure(KEY, NETWORK, images, mask), measure(KEY, NETWORK, garbage, mask)
    np.testing.assert_allclose(first.per_example, second.per_example, rtol=1e-4)
    np.testing.assert_array_equal(first.sites, mask)


def test_a_second_call_and_a_second_build_do_not_compile_again(images):
    traced = []

    def counted(params, tokens, mask=None):
        traced.append(1)
        return linear(params, tokens)

    def build(variance):
        return token.token_sensitivity(
            substitution.one_at_a_time(counted), perturb.gaussian(variance), draws=2, execution=Execution(chunk=32)
        )

    tokens, params = images, np.ones((16, 4), np.float32)
    build(1.0)(KEY, params, tokens)
    compiled = parallel._program.cache_info().misses
    first = len(traced)
    build(2.0)(jax.random.key(1), params + 1, tokens)
    # The check of shapes traces the model once more; nothing is compiled.
    assert len(traced) <= first + 1
    assert parallel._program.cache_info().misses == compiled


def test_products_run_at_full_precision_unless_asked_otherwise():
    seen = []

    def spy(params, tokens, mask=None):
        seen.append(jax.config.jax_default_matmul_precision)
        return linear(params, tokens)

    tokens, params = np.ones((2, 3, 4), np.float32), np.ones((3, 4), np.float32)
    for options, expected in (({}, "highest"), ({"precision": "bfloat16"}, "bfloat16")):
        seen.clear()
        substitute, how = substitution.one_at_a_time(spy), {"execution": Execution(chunk=4, **options)}
        measure = token.token_sensitivity(substitute, step, change=changes.sign_change, **how)
        measure(KEY, params, tokens)
        assert set(seen) - {None} == {expected}  # none where only shapes are asked for


def broken(params, tokens, mask=None):
    """NaN wherever the first feature of the third token was moved."""
    return jnp.where(tokens[:, 2, 0] == 0, 1.0, jnp.nan)


def test_non_finite_outputs_stop_the_run_and_are_located():
    tokens = np.zeros((4, 5, 1), np.float32)
    measure = token.token_sensitivity(substitution.one_at_a_time(broken), step, draws=2)
    with pytest.raises(FloatingPointError, match=r"example 0 with token 2 replaced in draw 0 \(8 such"):
        measure(KEY, None, tokens)
    tokens[3, 2] = 1
    with pytest.raises(FloatingPointError, match="example 3 as it is"):
        measure(KEY, None, tokens, sites=np.arange(5) != 2)
    few = token.token_sensitivity(substitution.one_at_a_time(broken), step, sites_drawn=1)
    with pytest.raises(FloatingPointError, match="example 91 with token 2 replaced in draw 0"):
        few(KEY, None, tokens[:1], sites=np.arange(5) == 2, index=[91])


def test_non_finite_changes_are_not_averaged_away():
    measure = token.token_sensitivity(
        substitution.one_at_a_time(linear), step, change=lambda a, b: jnp.where(b > a, jnp.nan, 1.0)
    )
    with pytest.raises(FloatingPointError, match=r"the change is nan for example \d, draw 0"):
        measure(KEY, np.ones((3, 2), np.float32), np.zeros((4, 3, 2), np.float32))


def test_a_model_without_a_mask_is_accepted_where_there_is_none():
    def maskless(params, tokens):
        return linear(params, tokens)

    measure = token.token_sensitivity(substitution.one_at_a_time(maskless), step, change=changes.sign_change)
    params, tokens = np.ones((3, 2), np.float32), np.ones((4, 3, 2), np.float32)
    assert measure(KEY, params, tokens).count == 4
    with pytest.raises(ValueError, match="mask is given, but the model takes two arguments only: leave mask out"):
        measure(KEY, params, tokens, mask=np.ones((4, 3), bool))


BAD_CALLS = {
    "additive mask": ({"mask": np.zeros((3, 4), np.float32)}, "mask must be booleans"),
    "numbers of a mask for sites": ({"sites": np.array([0, 1, 1, 0])}, "sites must be booleans"),
    "no examples": ({"tokens": np.zeros((0, 4, 2), np.float32)}, "at least one example"),
    "one axis": ({"tokens": np.zeros(4, np.float32)}, r"tokens must be \[b t \*s\]"),
    "mask": ({"mask": np.ones((3, 5), bool)}, "mask must have the shape"),
    "sites": ({"sites": np.ones(5, bool)}, "sites must have the shape"),
    "no site": ({"sites": np.arange(4)[None] < np.array([[4], [0], [2]])}, "example 1 has no real token"),
    "token shape": ({"tokens": np.zeros((3, 4, 7), np.float32)}, r"the model, params and tokens \[b, 4, 7\]"),
    "token count": ({"tokens": np.zeros((3, 9, 2), np.float32)}, r"the model, params and tokens \[b, 9, 2\]"),
    "parameters": ({"params": np.zeros((9, 2), np.float32)}, "do not fit together"),
    "ids": ({"tokens": np.zeros((3, 4, 2), np.int32)}, "use replace_uniform"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
@pytest.mark.parametrize("chunk", [None, 5])
def test_bad_calls_are_named(case, chunk):
    changed, match = BAD_CALLS[case]
    call = {"params": np.zeros((4, 2), np.float32), "tokens": np.zeros((3, 4, 2), np.float32)} | changed
    measure = token.token_sensitivity(
        substitution.one_at_a_time(linear), perturb.gaussian(1.0), execution=Execution(chunk=chunk)
    )
    with pytest.raises(ValueError, match=match):
        measure(KEY, **call)


@pytest.mark.parametrize("options", [{"draws": 0}, {"draws": -3}, {"draws": True}])
def test_bad_options_are_named(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1.*got {value}"):
        token.token_sensitivity(substitution.one_at_a_time(linear), perturb.gaussian(1.0), **options)


def test_a_change_must_be_a_scalar():
    measure = token.token_sensitivity(
        substitution.one_at_a_time(lambda p, x, m=None: x[:, 0]), perturb.gaussian(1.0), change=lambda a, b: a - b
    )
    with pytest.raises(ValueError, match="scalar"):
        measure(KEY, None, np.zeros((2, 3, 4), np.float32))


def measured(tokens, *, apply=linear, perturbation=swing, change=changes.squared_change, **options):
    measure = token.token_sensitivity(
        substitution.one_at_a_time(apply), perturbation, change=change, draws=np.int64(50), **options
    )
    return measure(KEY, np.ones((3, 2), np.float32), tokens)


def test_noise_on_bfloat16_tokens_is_not_rounded_away():
    """The squared change of a sum of 2 coordinates is 2e-6; noise of deviation 1e-3 is a third of bfloat16's steps."""
    tokens = jnp.asarray(2 + np.random.default_rng(0).normal(size=(20, 3, 2)), jnp.bfloat16)
    result, wide = (measured(x, perturbation=perturb.gaussian(1e-6)) for x in (tokens, np.asarray(tokens, np.float32)))
    np.testing.assert_array_equal(result.changes, wide.changes)
    np.testing.assert_allclose(result.mean, 2e-6, rtol=0.1)


def test_changes_of_unsigned_outputs_are_those_of_float32():
    def counts(params, tokens, mask=None):
        return jnp.round(128 + 1e4 * (tokens - 2).sum(-1))

    narrow, wide = (
        measured(np.full((4, 3, 2), 2, np.float32), apply=apply, change=lambda a, b: changes.absolute_change(a, b))
        for apply in (lambda p, x: counts(p, x).clip(0, 255).astype(jnp.uint8), lambda p, x: counts(p, x).clip(0, 255))
    )
    np.testing.assert_array_equal(narrow.changes, wide.changes)
    assert narrow.mean > 5


def test_ids_beyond_32_bits_and_keys_of_other_generators_are_refused():
    ids = np.array([[1, 2, 3]])
    measure = token.token_sensitivity(substitution.one_at_a_time(parity), perturb.replace_uniform(11))
    with pytest.raises(ValueError, match=r"tokens must fit int32, the dtype on the device, got 4294967297"):
        measure(KEY, None, ids + 2**32)
    with pytest.raises(ValueError, match="threefry2x32, got rbg"):
        measure(jax.random.key(0, impl="rbg"), None, ids)
    with pytest.raises(ValueError, match="tokens must not be a masked array"):
        measure(KEY, None, np.ma.masked_array(ids, ids > 2))
    with pytest.raises(ValueError, match="it compiles itself"):
        jax.jit(lambda x: measure(KEY, None, x).mean)(ids)


def test_a_model_whose_outputs_depend_on_its_batch_is_refused():
    def normalized(params, tokens, mask=None):
        scores = linear(params, tokens)
        return scores - scores.mean()

    tokens = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="another example is beside it"):
        measured(tokens, apply=normalized)
    assert measured(tokens, apply=normalized, execution=Execution(check=False)).mean > 0


def test_a_sigmoid_read_by_its_sign_is_warned_of():
    """And a score of 0 or 1 is not."""
    tokens = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    for change in (changes.sign_change, changes.prediction_change):
        with pytest.warns(UserWarning, match="return the logit"):
            measured(tokens, apply=lambda params, x, mask=None: jax.nn.sigmoid(linear(params, x)), change=change)
    measured(tokens, apply=lambda params, x, mask=None: 1.0 * (linear(params, x) > 0), change=changes.sign_change)


def test_results_are_pytrees_and_the_names_are_public():
    measure = jaxsens.token_sensitivity(jaxsens.one_at_a_time(linear), step, change=jaxsens.changes.sign_change)
    result = measure(KEY, np.ones((3, 2), np.float32), np.ones((4, 3, 2), np.float32))
    doubled = jax.tree.map(lambda a: a & False, result)
    assert isinstance(doubled, jaxsens.Sensitivity)
    assert not doubled.changes.any()
    assert doubled.chunk == result.chunk


@pytest.mark.slow
@pytest.mark.parametrize(("deviation", "examples"), [(1.5, 200), (0.02, 300), (0.02, 2000)])
def test_intervals_cover_the_truth(deviation, examples, capsys):
    """200 repeats with fresh inputs and draws: a common rate (about .2), and a rare one (about .001)."""
    w = np.array([[1, 0], [0, 2], [3, 4]], np.float32)
    norms = np.linalg.norm(w, axis=1)
    truth = np.mean(np.arctan(deviation * norms / np.linalg.norm(w)) / np.pi)
    if deviation == 0.02:
        deviation *= 0.001 / truth
        truth = np.mean(np.arctan(deviation * norms / np.linalg.norm(w)) / np.pi)
    measure = token.token_sensitivity(
        substitution.one_at_a_time(linear), perturb.gaussian(deviation**2), draws=20, execution=Execution(chunk=10**6)
    )
    hits = 0
    for seed in range(200):
        x = np.random.default_rng(seed).normal(size=(examples, 3, 2)).astype(np.float32)
        low, high = measure(jax.random.key(seed), w, x).interval(0.95)
        hits += low <= truth <= high
    with capsys.disabled():
        print(
            f"\ntoken sensitivity {truth:.4f}, {examples} examples: {hits / 2:.1f} % of 200 intervals at 95 % cover it"
        )
    assert 0.905 <= hits / 200 <= 0.985


def test_predictions_of_an_encoder_without_a_classifier_are_warned_of():
    """Before anything is compiled; warnings are errors here."""
    from jaxsens import models
    from jaxsens.models.text import bert

    sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
    encoder, classifier = (models.evaluation(bert.Bert(bert.Config(**sizes, classes=classes))) for classes in (None, 2))
    measure = jaxsens.token_sensitivity(jaxsens.one_at_a_time(encoder), perturb.replace_uniform(5))
    with pytest.raises(UserWarning, match="has no classifier"):
        measure(jax.random.key(0), None, np.array([[1, 2, 3]]))
    changes.warn_of_coordinates(encoder, changes.squared_change)
    changes.warn_of_coordinates(classifier, changes.prediction_change)
