"""Full-batch training of many models: the steps of optax, independent models, and resuming."""

import jax
import numpy as np
import optax
import pytest

from jaxsens import training
from jaxsens.training.full_batch import FullBatchConfig

CONFIG = FullBatchConfig(steps=6, every=2)
DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(2, 5, 3)).astype(np.float32)
Y = DRAWS.normal(size=(2, 5)).astype(np.float32)
START = {"params": {"w": DRAWS.normal(size=(2, 3)).astype(np.float32)}}
RATES, DECAYS = [0.1, 0.02], [0.5, 0.0]


def loss(variables, data, key):
    """Squared error of a linear model, with noise on the targets."""
    x, y = data
    return ((x @ variables["params"]["w"] - y - 0.1 * jax.random.normal(key, y.shape)) ** 2).mean()


def weights(done, variables):
    del done
    return {"w": variables["params"]["w"]}


def fit(models=slice(None), measure=weights, key=None, **settings):
    keys = jax.vmap(jax.random.key)(np.arange(2)) if key is None else key
    cut = jax.tree.map(lambda a: a[models], (keys, START, (X, Y), np.array(RATES), np.array(DECAYS)))
    keys, start, data, rates, decays = cut
    arguments = {"learning_rate": rates, "weight_decay": decays, "measure": measure} | settings
    return training.fit_full_batch(keys, loss, start, data, CONFIG, **arguments)


def test_steps_are_those_of_adamw_and_do_not_depend_on_the_other_models():
    trained = fit()
    assert trained.steps.tolist() == [0, 2, 4, 6]
    assert np.array_equal(trained.history["w"][:, 0], START["params"]["w"])
    assert np.array_equal(trained.history["w"][:, -1], trained.variables["params"]["w"])
    for model in range(2):
        rule = optax.adamw(RATES[model], weight_decay=DECAYS[model])
        params = {"w": START["params"]["w"][model]}
        state, key = rule.init(params), jax.random.key(model)
        for step in range(6):
            data, own = (X[model], Y[model]), jax.random.fold_in(key, step)
            gradient = jax.grad(lambda p, data=data, own=own: loss({"params": p}, data, own))(params)
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        assert np.allclose(trained.history["w"][model, -1], params["w"], atol=1e-6)
    alone = fit(slice(1, 2))
    assert np.allclose(alone.history["w"], trained.history["w"][1:], atol=1e-6)


def test_an_interrupted_training_resumes_to_the_same_bytes(tmp_path):
    whole, calls = fit(), []

    def interrupted(done, variables):
        calls.append(done)
        if done == 4 and calls.count(4) == 1:
            raise KeyboardInterrupt
        return weights(done, variables)

    with pytest.raises(KeyboardInterrupt):
        fit(measure=interrupted, checkpoint=tmp_path / "there")
    again = fit(measure=interrupted, checkpoint=tmp_path / "there")
    assert calls == [0, 2, 4, 0, 4, 6]
    assert np.array_equal(again.history["w"], whole.history["w"])
    with pytest.raises(ValueError, match="another training: rates"):
        fit(checkpoint=tmp_path / "there", learning_rate=[0.3, 0.3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": [0.1, 0.0]}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": 0.1}, "learning_rate must be a finite number above 0"),
        ({"weight_decay": [0.1, -1.0]}, "weight_decay must be a finite number of at least 0"),
        ({"weight_decay": [0.1]}, "weight_decay must be one number for each of the 2 models"),
        ({"learning_rate": [0.1] * 3, "weight_decay": [0.1] * 3}, "leading axis of 3 models|one for each model"),
        ({"measure": lambda done, variables: None}, "measure must return arrays"),
        ({"measure": lambda done, variables: {"a": np.zeros(3)}}, "measure must return floats"),
        ({"measure": lambda done, variables: {str(done): np.zeros(2)}}, "measure must return the same arrays"),
        ({"key": np.zeros((2, 2), np.uint32)}, "keys must be one typed key"),
        ({"progress": 3}, "progress must be a label"),
        ({"measure": None}, "measure"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(**settings)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="every must divide the 10 steps, got 3"):
        FullBatchConfig(steps=10, every=3)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        FullBatchConfig(steps=0, every=3)
