"""Training many classifiers together, with dropout and batch statistics: each takes the steps of ``fit``."""

import chex
import jax
import numpy as np
import pytest

from jaxsens import training
from jaxsens.execution import backends

KEYS = jax.random.split(jax.random.key(5), 3)
COUNT, BATCH, CLASSES = 50, 20, 3  # ten examples of each epoch are left out
OPTIMIZER = training.Optimizer("adamw", weight_decay=0.1, schedule="cosine", warmup=0.2)
RATES = [0.01, 0.1, 0.03]


def train_apply(variables, tokens, key):
    """A linear model of centered and dropped inputs, which follows the mean of its batches."""
    x, mean = tokens.reshape(len(tokens), -1), variables["batch_stats"]["mean"]
    here = x.mean(0, keepdims=True)
    kept = jax.random.bernoulli(key, 0.7, x.shape)
    return ((x - here) * kept) @ variables["params"]["w"], {**variables, "batch_stats": {"mean": (mean + here) / 2}}


def evaluate(variables, tokens, mask=None):
    x = tokens.reshape(len(tokens), -1)
    return (x - variables["batch_stats"]["mean"]) @ variables["params"]["w"]


def start(seed):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(6, CLASSES)).astype(np.float32)}
    return {"params": params, "batch_stats": {"mean": np.zeros((1, 6), np.float32)}}


def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(COUNT, 3, 2)).astype(np.float32), rng.integers(0, CLASSES, COUNT)


def fit(chosen=(0, 1, 2), epochs=2, **options):
    settings = {"lr_patience": None, "patience": None, "keep": "last", "evaluate": False, "optimizer": OPTIMIZER}
    settings |= {name: options.pop(name) for name in (*settings, "models_per_device") if name in options}
    given = {"data": tuple(a[None] for a in examples()), "rates": [RATES[i] for i in chosen]}
    given |= {"batch": [BATCH] * len(chosen), "variables": training.stack([start(i) for i in chosen])}
    given |= {name: options.pop(name) for name in given if name in options}
    numbers = training.Members(learning_rate=given["rates"], batch=given["batch"], dataset=[0] * len(chosen))
    options = {"train_apply": train_apply, "objective": training.GaussianAugmentation(0.5)} | options
    return training.fit_many(
        KEYS[np.array(chosen)], evaluate, given["variables"], numbers, given["data"],
        training.ManyConfig(epochs=epochs, **settings), **options,
    )  # fmt: skip


def test_a_member_is_the_model_that_fit_trains(devices):
    """With its key: order, dropout, noise of the objective, statistics, schedule and decay; in a group of 2 and 1."""
    together = fit(models_per_device=2, devices=devices[:1])
    for i, rate in enumerate(RATES):
        alone, losses = training.fit(
            KEYS[i], train_apply, start(i), *examples(), training.Config(2, BATCH, rate, OPTIMIZER),
            objective=training.GaussianAugmentation(0.5),
        )  # fmt: skip
        chex.assert_trees_all_close(together.member(i), alone, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(together.history["training_loss"][i], losses, rtol=1e-5)
    assert np.isnan(together.history["loss"]).all()


def test_the_best_epoch_keeps_its_statistics_and_is_resumed(tmp_path):
    """Wild steps: the epoch with the smallest loss over all examples is not the last."""
    options = {"rates": [3.0, 2.0, 4.0], "keep": "best", "evaluate": True, "epochs": 4, "optimizer": "sgd"}
    seen, folder = [], tmp_path / "checkpoint"

    class Stop(Exception):
        pass

    def stop(epoch, members, variables):
        raise Stop

    whole = fit(after_epoch=lambda epoch, *found: seen.append((epoch, *found)), report_epochs=[1, 3], **options)
    assert [epoch for epoch, *_ in seen] == [1, 3]
    assert seen[0][2]["batch_stats"]["mean"].shape == (3, 1, 6)
    tokens, labels = examples()
    assert (whole.best_epoch < 4).any(), "the last is the best of all"
    for i, losses in enumerate(whole.history["loss"]):
        logits = evaluate(whole.member(i), tokens)
        expected = training.CLASS_CROSS_ENTROPY.loss(logits, labels).mean()
        np.testing.assert_allclose(losses.min(), expected, rtol=1e-5)
        best = whole.best_epoch[i] - 1
        np.testing.assert_allclose(whole.history["accuracy"][i, best], (logits.argmax(1) == labels).mean(), rtol=1e-6)
    with pytest.raises(Stop):
        fit(checkpoint=folder, after_epoch=stop, report_epochs=[2], **options)
    resumed = fit(checkpoint=folder, **options)
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    chex.assert_trees_all_equal(resumed.history, whole.history)


def test_weights_leave_the_devices_for_reports_and_at_the_end(monkeypatch):
    read, collect = [], backends.collect
    monkeypatch.setattr(backends, "collect", lambda state: read.append(1) or collect(state))
    fit(epochs=4, after_epoch=lambda *_: None, report_epochs=[3])
    assert len(read) == 2


BITS = {"data": (examples()[0][None], examples()[1][None] > 0), "train_apply": None, "objective": None}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (BITS | {"objective": training.CrossEntropy()}, "objective needs train_apply"),
        (BITS, "schedule and warmup of the optimizer need train_apply"),
        (BITS | {"optimizer": "sgd"}, r"got \['batch_stats', 'params'\]; other collections need train_apply"),
        ({"batch": [20, 20, 10]}, r"batch must be the same for all members with train_apply, got \[10, 20\]"),
        ({"data": (examples()[0][None], examples()[1][None] + 1)}, "labels must"),
        ({"evaluate": True, "validation": (examples()[0][None], examples()[1][None] + 1)}, "validation: targets must"),
        ({"keep": "best", "patience": 3}, "evaluate = False leaves out the loss that keep, patience need"),
        ({"report_epochs": ["last"]}, "report_epochs must be numbers of epochs"),
        ({"objective": 3}, "objective must be"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        fit(**options)
