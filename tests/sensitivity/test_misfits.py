"""Calls that cannot be right: each error names the part that is wrong and the remedy, not only that something fails."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens
from jaxsens import boolean, changes, curvature, perturb
from jaxsens.models.text import bert
from jaxsens.sharpness.classification import CrossEntropy

KEY = jax.random.key(0)
TOKENS = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
MASK = np.ones((6, 4), bool)
NOISE = perturb.gaussian(1.0)
ONE_AT_A_TIME = r"pass one_at_a_time\(apply\)"


def model(params, tokens, mask=None):
    return jnp.einsum("btd,dk->bk", tokens, params)


def of(apply, *arguments, perturbation=NOISE, change=changes.prediction_change):
    """Measure with a model."""
    return measured(jaxsens.one_at_a_time(apply), *arguments, perturbation=perturbation, change=change)


def measured(substitute, *arguments, perturbation=NOISE, change=changes.prediction_change):
    key, params, tokens, *rest = arguments or (KEY, W, TOKENS)
    return jaxsens.token_sensitivity(substitute, perturbation, change=change)(key, params, tokens, *rest)


TRAPS = {
    "seed for a key": (lambda: of(model, 0, W, TOKENS), r"key must be a typed key, got 0: pass jax.random.key\(seed\)"),
    "number for a perturbation": (
        lambda: of(model, perturbation=1.0),
        r"got 1.0: pass a sampler, such as perturb.gaussian\(",
    ),
    "the same, of weights": (
        lambda: jaxsens.output_sharpness(model, 0.1, draws=2),
        r"pass a sampler, such as perturb.gaussian\(variance=0.1\)",
    ),
    "sampler not called": (lambda: of(model, perturbation=perturb.gaussian), "got the class Gaussian: pass a sampler"),
    "sampler of other arguments": (
        lambda: of(model, perturbation=lambda key, x: x),
        r"perturbation\(key, draw, tokens\) fails",
    ),
    "sampler of other shapes": (
        lambda: of(model, perturbation=lambda key, draw, x: x[0]),
        r"alternative of the shape and dtype of each token, \(4, 3\) float32 for an example, got float32\[3\]",
    ),
    "model for a substitution": (lambda: measured(model), ONE_AT_A_TIME),
    "the same, sampled": (lambda: jaxsens.sampled_token_sensitivity(model, NOISE, target_sem=0.1), ONE_AT_A_TIME),
    "the same, screened": (lambda: jaxsens.screened_token_sensitivity(model, NOISE), ONE_AT_A_TIME),
    "the same, of strings": (lambda: boolean.sensitivity_profile(model), ONE_AT_A_TIME),
    "the same, with more arguments": (
        lambda: measured(lambda params, x, train=False, rng=None: model(params, x[None])), ONE_AT_A_TIME,
    ),
    "the same, with two outputs": (lambda: measured(lambda p, x, train=False, rng=None: (x @ p, x @ p)), ONE_AT_A_TIME),
    "substitution for a model": (
        lambda: jaxsens.output_sharpness(jaxsens.one_at_a_time(model), NOISE, draws=2)(KEY, W, TOKENS),
        "measures of weights, states and curvature take the model, apply, itself",
    ),
    "mean over examples": (
        lambda: of(lambda p, x: model(p, x).mean()),
        r"axis of the examples first, got the shape \(\)",
    ),
    "mean over the first axis": (lambda: of(lambda p, x: model(p, x).mean(0)), r"got the shape \(2,\) for 7 examples"),
    "transposed": (lambda: of(lambda p, x: model(p, x).T), r"got the shape \(2, 7\) for 7 examples"),
    "transposed, where shapes fit": (
        lambda: of(lambda p, x: jnp.einsum("btd,dk->kb", x, p), KEY, np.ones((3, 5), np.float32), TOKENS),
        r"got the shape \(5, 7\) for 7 examples",
    ),
    "model of one example": (lambda: of(lambda p, x: (x @ p).sum(0)), r"becomes one of many by jax.vmap\(apply"),
    "one example for many": (lambda: of(model, KEY, W, TOKENS[0]), r"a single example is tokens\[None\]"),
    "mask for train": (
        lambda: of(lambda p, x, train=False: model(p, x), KEY, W, TOKENS, MASK), "mask would be the argument train",
    ),
    "mask for none": (
        lambda: of(lambda p, x: model(p, x), KEY, W, TOKENS, MASK),
        "takes two arguments only: leave mask",
    ),
    "no mask": (lambda: of(lambda p, x, mask: model(p, x)), "third argument, mask, without a default: pass mask"),
    "no mode": (lambda: of(lambda p, x, train: model(p, x)), "third argument, train, without a default: pass lambda"),
    "several outputs": (
        lambda: of(lambda p, x: (model(p, x), x)),
        "return the logits only, or pass a change of your own",
    ),
    "outputs per token": (lambda: of(lambda p, x: x @ p), r"change, prediction_change, fails .* float32\[4, 2\]"),
    "change that is no number": (
        lambda: of(model, change=lambda a, b: a - b), r"must map an example's outputs to a scalar, got float32\[2\]",
    ),
    "params that are none": (lambda: of(model, KEY, "w", TOKENS), "params must be a pytree of arrays"),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_the_error_of_a_trap_says_what_to_do(trap):
    call, message = TRAPS[trap]
    with pytest.raises(ValueError, match=message):
        call()


def losses(params, batch):
    return ((batch.reshape(len(batch), -1)[:, :3] @ params) ** 2).sum(1)


def encode(params, tokens, mask=None):
    return (tokens @ params)[None]


BITS = np.array([[0, 1, 1]])
MEASURES = {
    "token_sensitivity": lambda key, w, x: of(model, key, w, x).mean,
    "output_sharpness": lambda key, w, x: jaxsens.output_sharpness(model, NOISE, draws=2)(key, w, x).mean,
    "worst_case": lambda key, w, x: jaxsens.worst_case_sharpness(losses, 0.1, iterations=2)(key, w, x).rises,
    "trace": lambda key, w, x: curvature.trace(curvature.hessian_product(losses), probes=2)(key, w, x).mean,
    "shifts": lambda key, w, x: jaxsens.embedding_shifts(encode)(w, x, x + 1).estimate("l2").mean,
    "profile": lambda key, w, x: (
        boolean.sensitivity_profile(jaxsens.one_at_a_time(lambda w, bits, mask=None: bits @ w[:, 0]))(
            key, w, BITS
        ).flips
    ),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("argument", [0, 1, 2, None])
def test_under_a_transformation_of_jax_it_says_call_it_outside(name, argument):
    """Whichever argument is traced, or none of them: then results would be tracers."""
    values = (KEY, W, TOKENS)
    if argument is None:
        call = jax.jit(lambda: MEASURES[name](*values))
    elif argument == 1:
        call = lambda: jax.grad(lambda w: jnp.sum(MEASURES[name](KEY, w, TOKENS)))(W)  # noqa: E731
    else:
        one = lambda v: MEASURES[name](*(v if i == argument else a for i, a in enumerate(values)))  # noqa: E731
        call = lambda: jax.jit(one)(values[argument])  # noqa: E731
    with pytest.raises(ValueError, match=r"outside of (them|jit).* it *compiles itself"):
        call()


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught]


def test_images_are_not_taken_for_tokens_without_a_word():
    images = np.random.default_rng(0).uniform(size=(3, 4, 4, 3)).astype(np.float32)

    def cnn(w, images):
        return images.mean((1, 2)) @ w

    (said,) = warnings_of(lambda: of(cnn, KEY, W, images))
    assert "tokens [b 4 4 3] look like images" in said
    assert "one_at_a_time(jaxsens.from_images(apply, patch))" in said
    patches = jaxsens.data.patches.to_patches(images, 2)
    assert not warnings_of(lambda: of(jaxsens.from_images(cnn, 2), KEY, W, patches))


def test_one_number_for_an_example_is_warned_of_where_no_sign_changes():
    def regression(w, x):
        return 9 + 0.01 * model(w, x)[:, :1]

    (said,) = warnings_of(lambda: of(regression))
    assert "for a regression pass change=changes.squared_change" in said
    for change in (changes.sign_change, changes.squared_change):
        assert not warnings_of(lambda change=change: of(regression, change=change))
    assert not warnings_of(lambda: of(lambda w, x: model(w, x)[:, :1]))


def test_an_encoder_without_a_classifier_is_warned_of_through_adapters():
    sizes = {"width": 4, "depth": 1, "heads": 1, "hidden": 4, "vocabulary": 5, "positions": 4}
    apply, _ = jaxsens.from_linen(bert.Bert(bert.Config(**sizes)), {"params": {}})
    measure = jaxsens.prediction_sharpness
    assert ["has no classifier" in said for said in warnings_of(lambda: measure(apply, NOISE, draws=2))] == [True]
    assert not warnings_of(lambda: measure(CrossEntropy(model), NOISE, draws=2))


def test_noise_below_the_rounding_of_narrow_tokens_is_not_lost():
    """For a linear model the squared change is ``variance * |w|^2`` on average; rounded to the dtype it would be 0."""
    tokens, variance = np.ones((50, 4, 3), np.float16), 1e-10
    result = of(model, KEY, W, tokens, perturbation=perturb.gaussian(variance), change=changes.squared_change)
    # A float32 of about 1 is rounded to 1.2e-7, much less than the deviation of 1e-5.
    np.testing.assert_allclose(result.mean, variance * (W**2).sum(), rtol=0.3)


def test_the_curvature_at_narrow_weights_is_that_at_their_copies_in_float32():
    batch = TOKENS.reshape(6, 12)[:, :3], np.arange(6) % 2
    product = curvature.hessian_product(CrossEntropy(lambda w, x: x @ w))
    measure = curvature.top_eigenpairs(product, 1)
    narrow = measure(KEY, jnp.asarray(W, jnp.bfloat16), batch)
    assert narrow.converged.all()
    wide = measure(KEY, jnp.asarray(W, jnp.bfloat16).astype(jnp.float32), batch)
    np.testing.assert_array_equal(narrow.values, wide.values)
