"""Training many models together: the steps of each, schedules, and independence of the members.

The file is long because its tests share models and compiled programs.
"""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsens import training
from jaxsens.models import recognizers
from jaxsens.training import many_models

KEY = jax.random.key(3)
LENGTH, COUNT, SETS = 5, 37, 2


def logits(variables, strings, mask=None):
    params = variables["params"]
    return strings.astype(jnp.float32) @ params["w"] + params["b"]


def drawn(count, seed=0):
    """Random strings [s n N], and for each set whether another bit is set [s n]."""
    strings = np.random.default_rng(seed).integers(0, 2, (SETS, count, LENGTH)).astype(np.uint8)
    return strings, np.stack([strings[i, :, i] for i in range(SETS)]).astype(np.float32)


def start(count, seed=0):
    rng = np.random.default_rng(seed)
    return {"params": {"w": rng.normal(size=(count, LENGTH)).astype(np.float32), "b": np.zeros(count, np.float32)}}


def members(count=4, **changed):
    given = {
        "learning_rate": [0.01, 0.02, 0.05, 0.1][:count],
        "batch": [37, 10, 5, 1][:count],
        "dataset": [0, 1, 0, 1][:count],
    }
    return training.Members(**given | changed)


def fit(epochs=3, count=4, numbers=None, variables=None, data=None, keys=KEY, apply=logits, **options):
    names = (
        "lr_patience",
        "patience",
        "target_accuracy",
        "target_loss",
        "keep",
        "rows",
        "models_per_device",
        "checkpoint_every",
        "optimizer",
    )
    config = training.ManyConfig(
        epochs=epochs, **{"rows": 8} | {name: options.pop(name) for name in names if name in options}
    )
    return training.fit_many(
        keys, apply, start(count) if variables is None else variables, numbers or members(count),
        drawn(COUNT) if data is None else data, config, **options,
    )  # fmt: skip


@pytest.mark.parametrize("criterion", [training.CROSS_ENTROPY, training.SQUARED_ERROR])
def test_a_member_takes_the_steps_that_one_takes_by_hand(criterion):
    """Whole batches and the rest of an epoch, Adam, decoupled decay; for each member its own numbers."""
    decay = np.asarray([0.0, 0.1, 0.3, 0.0], np.float32)
    own = members(weight_decay=decay, batch=[37, 10, 10, 37])
    found = fit(epochs=2, numbers=own, criterion=criterion, keep="last")
    strings, targets = drawn(COUNT)
    for i in range(4):
        params = jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), start(4)["params"])
        adam = optax.adamw(float(own.learning_rate[i]), weight_decay=float(decay[i]))
        state, data = adam.init(params), (strings[own.dataset[i]], targets[own.dataset[i]])

        def loss(params, index, data=data):
            return criterion.loss(logits({"params": params}, jnp.asarray(data[0][index])), data[1][index]).mean()

        for epoch in range(2):
            order = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.fold_in(KEY, i), epoch), COUNT))
            losses = []
            for first in range(0, COUNT, own.batch[i]):
                index = order[first : first + own.batch[i]]
                value, gradient = jax.value_and_grad(loss)(params, index)
                losses.append(value * len(index))
                updates, state = adam.update(gradient, state, params)
                params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(found.history["training_loss"][i, epoch], sum(losses) / COUNT, rtol=1e-5)
        chex.assert_trees_all_close(found.member(i)["params"], params, rtol=1e-5, atol=1e-6)
        outputs = logits({"params": params}, jnp.asarray(data[0]))
        np.testing.assert_allclose(found.history["loss"][i, 1], criterion.loss(outputs, data[1]).mean(), rtol=1e-5)
        correct = (outputs > 0) == (data[1] > criterion.threshold)
        np.testing.assert_allclose(found.history["accuracy"][i, 1], correct.mean(), rtol=1e-6)


def test_a_member_of_a_group_gets_the_same_numbers_as_without_the_others():
    """A transformer after 10 steps, in a group of 4 and alone, in lockstep and one after another."""
    config = recognizers.Config(depth=1, heads=2, head_size=4, multiplier=2)
    models = [recognizers.init(config, jax.random.key(i), "xavier_normal") for i in range(4)]
    keys = jax.random.split(KEY, 4)
    own = training.Members(  # sorted by batch size, every member but one is at another place
        learning_rate=np.geomspace(1e-4, 1e-2, 4), batch=np.array([7, 5, 3, 6]), dataset=np.array([0, 1, 1, 0])
    )
    strings, targets = drawn(35)
    options = {
        "apply": recognizers.training_evaluation(config), "data": (strings, targets), "epochs": 2, "rows": 3,
        "devices": jax.devices()[:1],
    }  # fmt: skip
    together = fit(keys=keys, variables=training.stack(models), numbers=own, models_per_device=4, **options)
    assert (np.ceil(35 / own.batch) * 2 >= 10).all(), "ten steps at least"
    i = 2
    one = training.Members(learning_rate=own.learning_rate[i:3], batch=own.batch[i:3], dataset=own.dataset[i:3])
    alone = fit(keys=keys[i:3], variables=training.stack(models[i:3]), numbers=one, **options)
    np.testing.assert_allclose(together.history["loss"][i], alone.history["loss"][0], rtol=1e-5)
    # Softmax ignores what all keys share: the gradient of their bias is rounding, which Adam blows up to a step.
    a, b = (
        {"layers": dict(found["params"].pop("layers"))} | found["params"]
        for found in (together.member(i), alone.member(0))
    )
    assert a["layers"].pop("key_bias").shape == b["layers"].pop("key_bias").shape
    chex.assert_trees_all_close(a, b, rtol=0, atol=1e-5)


def test_blocks_and_lockstep_alter_rounding_only():
    chex.assert_trees_all_close(fit(rows=3, models_per_device=3).variables, fit().variables, rtol=1e-5, atol=1e-6)


def test_one_device_and_eight_give_the_same_bits(devices):
    chex.assert_trees_all_equal(fit(devices=devices[:1]).variables, fit(devices=devices).variables)


def test_rate_is_halved_and_training_stops_without_progress():
    """Of a model whose offset alone is used, and nowhere where it is 0: its first epoch is its best."""

    def half_dead(variables, strings, mask=None):
        return variables["params"]["w"][0] * jnp.ones(len(strings)) * variables["params"]["b"]

    fixed = {"params": {"w": np.zeros((2, LENGTH), np.float32), "b": np.asarray([0, 1], np.float32)}}
    data = drawn(COUNT)[0], np.ones((SETS, COUNT), np.float32)
    own = members(2, learning_rate=[0.1, 1e-3], batch=[COUNT, COUNT])
    found = fit(12, 2, own, fixed, data, apply=half_dead, lr_patience=2, patience=5)
    assert found.codes.tolist() == [many_models.STALE, many_models.TRAINING]
    assert found.epochs.tolist() == [6, 12]
    assert found.best_epoch.tolist() == [1, 12]
    rates = found.history["learning_rate"][0]
    np.testing.assert_allclose(rates[:6], [0.1, 0.1, 0.1, 0.05, 0.05, 0.025], rtol=1e-6)
    assert np.isnan(rates[6:]).all()
    assert np.isfinite(found.history["loss"][1]).all()


def test_the_best_weights_are_kept_or_the_last():
    """With random labels and too large a rate the loss goes up and down; what is kept has the smallest of them."""
    wild, validation = members(learning_rate=[3.0] * 4, batch=[4] * 4), drawn(50, seed=1)
    strings, targets = drawn(COUNT)
    coins = strings, np.random.default_rng(5).permuted(targets, axis=1)
    options = {"epochs": 6, "numbers": wild, "data": coins, "validation": validation, "patience": None}
    best, last = (fit(keep=keep, **options) for keep in ("best", "last"))
    losses = best.history["loss"]
    np.testing.assert_array_equal(losses, last.history["loss"])
    assert (losses.argmin(1) + 1 == best.best_epoch).all()
    assert (best.best_epoch < 6).any(), "the last is the best of all"
    for found, wanted in ((best, losses.min(1)), (last, losses[:, -1])):
        for i in range(4):
            strings, targets = (a[wild.dataset[i]] for a in validation)
            loss = optax.sigmoid_binary_cross_entropy(logits(found.member(i), jnp.asarray(strings)), targets).mean()
            np.testing.assert_allclose(loss, wanted[i], rtol=1e-4)


def test_member_that_reaches_its_target_stops():
    seen = {}
    slow = members(learning_rate=[0.1, 1e-6, 1e-6, 1e-6], batch=[5] * 4)
    found = fit(
        60, numbers=slow, target_accuracy=1.0, patience=None, keep="last",
        after_epoch=lambda epoch, who, variables: seen.update({epoch: (who.tolist(), variables)}),
    )  # fmt: skip
    assert found.codes.tolist() == [many_models.REACHED] + [many_models.TRAINING] * 3
    end = int(found.epochs[0])
    assert end < 60
    assert found.history["accuracy"][0, end - 1] == 1
    assert (found.history["accuracy"][0, : end - 1] < 1).all()
    everyone, others = [0, 1, 2, 3], [1, 2, 3]
    assert {epoch: who for epoch, (who, _) in seen.items()} == {
        epoch: everyone if epoch <= end else others for epoch in range(1, 61)
    }
    chex.assert_trees_all_equal(jax.tree.map(lambda a: a[0], seen[end][1]), found.member(0))
    chex.assert_trees_all_equal(jax.tree.map(lambda a: a[-1], seen[60][1]), found.member(3))
    losses = found.history["loss"][0]
    sooner = fit(60, numbers=slow, target_loss=float(losses[2]), patience=None)
    assert sooner.epochs.tolist() == [3, 60, 60, 60]
    assert sooner.codes.tolist() == found.codes.tolist()


def test_diverged_member_is_reported_and_others_continue():
    broken = start(4)
    broken["params"]["w"][1] = 3e38
    found = fit(variables=broken)
    assert found.codes.tolist() == [
        many_models.TRAINING,
        many_models.DIVERGED,
        many_models.TRAINING,
        many_models.TRAINING,
    ]
    assert found.epochs.tolist() == [3, 1, 3, 3]
    assert not np.isfinite(found.history["loss"][1, 0])
    whole = fit()
    for i in (0, 2, 3):
        chex.assert_trees_all_equal(found.member(i), whole.member(i))


def test_data_function_is_called_with_the_epoch():
    asked = []

    def fresh(epoch):
        asked.append(epoch)
        return drawn(COUNT, seed=epoch)

    found = fit(3, data=fresh, validation=drawn(50, seed=9))
    assert set(asked) == {0, 1, 2}
    same = fit(3, validation=drawn(50, seed=9)).history["loss"]
    np.testing.assert_array_equal(found.history["loss"][:, 0], same[:, 0])
    assert not np.allclose(found.history["loss"][:, 1:], same[:, 1:])


SCRIPT = """
    import os, signal, sys
    sys.path[:0] = ["tests", "tests/training"]
    import conftest
    from pathlib import Path
    import test_many_models

    def die(epoch, who, variables):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    test_many_models.fit(6, checkpoint=Path(sys.argv[1]), patience=2, after_epoch=die)
"""


def test_killed_and_resumed_is_as_never_interrupted(tmp_path):
    folder = tmp_path / "checkpoint"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder)]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    seen = []
    resumed = fit(6, checkpoint=folder, patience=2, after_epoch=lambda epoch, *_: seen.append(epoch))
    assert seen[0] == 3
    whole = fit(6, patience=2)
    for found, wanted in ((resumed.variables, whole.variables), (resumed.history, whole.history)):
        chex.assert_trees_all_equal(found, wanted)
    assert resumed.codes.tolist() == whole.codes.tolist()


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    folder = str(tmp_path / "checkpoint")  # a path as text is a path
    first = fit(2, checkpoint=folder)
    other = members(learning_rate=[0.5] * 4)
    for options, name in (
        ({"keys": jax.random.key(7)}, "keys was"),
        ({"numbers": other}, "members was"),
        ({"data": drawn(COUNT, seed=1)}, "data was"),
        ({"variables": start(4, seed=1)}, "initial variables was"),
        ({"target_loss": 0.1}, "target_loss was None and is 0.1 now"),
        ({"validation": drawn(COUNT, seed=1)}, "validation was"),
        ({"criterion": training.SQUARED_ERROR}, "criterion was"),
    ):
        with pytest.raises(ValueError, match=f"another training: {name}.*delete that one"):
            fit(2, checkpoint=folder, **options)
    again = fit(2, checkpoint=folder, models_per_device=2, checkpoint_every=2)
    chex.assert_trees_all_equal(again.variables, first.variables)


# Orbax's writing threads may end after the event loop that they report to, when one of them has failed.
@pytest.mark.filterwarnings("ignore:(?s).*Event loop is closed:pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_stops_it_with_the_path_and_keeps_the_last_checkpoint(tmp_path):
    folder, limits = tmp_path / "checkpoint", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(epoch, *_):
        if epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))

    try:
        with pytest.raises(OSError, match=r"while writing checkpoint 3 to '.*checkpoint'.*is safe"):
            fit(4, checkpoint=folder, after_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    seen = []
    resumed = fit(4, checkpoint=folder, after_epoch=lambda epoch, *_: seen.append(epoch))
    assert seen == [2, 3, 4]
    chex.assert_trees_all_equal(resumed.variables, fit(4).variables)


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (lambda: fit(keys=jnp.zeros(2)), "keys must be one typed key"),
        (lambda: fit(keys=jax.random.split(KEY, 3)), "keys must be one typed key"),
        (lambda: fit(variables=start(3)), r"\['b'\] must have a leading axis of 4 members, got \(3,\)"),
        (lambda: fit(variables={"w": 1}), r"variables must be \{'params'"),
        (
            lambda: fit(numbers=members(dataset=[0, 1, 2, 0])),
            "dataset of member 2 must be at most 1, the last data set",
        ),
        (lambda: fit(numbers=members(batch=[1, 38, 2, 2])), "batch of member 1 must be at most 37, all examples"),
        (lambda: fit(data=(drawn(4)[0], np.zeros((2, 3)))), r"data must be strings \[s n \*\] and targets"),
        (lambda: fit(validation=tuple(a[:1] for a in drawn(4))), "validation must have the 2 data sets of data, got 1"),
        (lambda: members(learning_rate=[0.1, 0, 1, 1]), "learning_rate of member 1 must be a finite number above 0"),
        (lambda: members(learning_rate=[0.1, 1, np.inf, 1]), "learning_rate of member 2"),
        (lambda: members(learning_rate=[0.1, 1, 1, 1e39]), "learning_rate of member 3"),
        (lambda: members(batch=[1, 2, 3, 0]), "batch of member 3 must be an integer from 1"),
        (lambda: members(batch=[1, 2.5, 3, 1]), "batch of member 1 must be an integer"),
        (lambda: members(dataset=[0]), r"dataset must be one number for each member, \[m\], got int64 of shape \(1,\)"),
        (lambda: members(weight_decay=[0, 0, -1, 0]), "weight_decay of member 2"),
        (lambda: training.ManyConfig(epochs=0), "epochs must be at least 1: an integer"),
        (lambda: training.ManyConfig(epochs=1, target_accuracy=1.5), "target_accuracy must be an accuracy"),
        (lambda: training.ManyConfig(epochs=1, target_loss=-0.1), "target_loss must be a finite loss"),
        (lambda: training.ManyConfig(epochs=1, keep="first"), "keep must be one of"),
        (lambda: training.ManyConfig(epochs=True), "epochs must be .*an integer of at least 1, got True"),
        (lambda: training.ManyConfig(epochs=1, patience=2.5), "patience must be .*an integer of at least 1, or None"),
        (lambda: members(batch=[1, 2, 2**32, 1]), "batch of member 2 must be an integer from 1 to 2147483647"),
        (lambda: members(batch=[1, 2, 1e10, 1]), "batch of member 2 must be an integer from 1 to 2147483647"),
        (lambda: members(dataset=[0, 2**32 - 1, 0, 0]), "dataset of member 1 must be an integer from 0 to 2147483647"),
        (lambda: members(batch=[True] * 4), "batch must be one number for each member, .* got bool"),
        (lambda: members(learning_rate=np.ma.masked_array([0.1] * 4, [0, 0, 0, 1])), "must not be a masked array"),
        (lambda: fit(data=(drawn(COUNT)[0], 2 * drawn(COUNT)[1] - 1)), "targets from 0 to 1, .*got -1"),
        (lambda: fit(data=(drawn(COUNT)[0], 2 * drawn(COUNT)[1])), "targets from 0 to 1, .*got 2"),
        (
            lambda: fit(data=(drawn(COUNT)[0], 2 * drawn(COUNT)[1]), criterion=training.SQUARED_ERROR),
            "targets from -1 to 1, .*got 2",
        ),
        (lambda: fit(data=(drawn(COUNT)[0], drawn(COUNT)[1].astype(int) + 2**32)), "targets holds 429496729[67]"),
        (lambda: fit(data=(2 * drawn(COUNT)[0], drawn(COUNT)[1])), "strings of bits, 0 or 1, .* got 2"),
        (lambda: fit(data=(np.where(drawn(COUNT)[0], np.nan, 0.0), drawn(COUNT)[1])), "strings of bits, .*finite"),
        (lambda: fit(data=(drawn(COUNT)[0].astype(int) - 1, drawn(COUNT)[1])), "strings of bits, 0 or 1, .* got -1"),
        (lambda: fit(data=(drawn(COUNT)[0].astype(int) + 2**32, drawn(COUNT)[1])), "strings holds 429496729[67]"),
        (lambda: fit(validation=(9 * drawn(COUNT)[0], drawn(COUNT)[1])), "validation must have strings of bits"),
        (lambda: fit(data=drawn(COUNT)[0]), r"data must be strings \[s n \*\] and targets"),
        (lambda: fit(checkpoint=3), "checkpoint must be the path of a folder"),
        (lambda: training.stack([]), "models must be at least one"),
        (lambda: training.stack([start(1), start(2)]), "number 1 has"),
    ],
)
def test_bad_input_is_named(broken, match):
    with pytest.raises(ValueError, match=match):
        broken()


def test_fresh_data_are_checked_at_every_epoch():
    with pytest.raises(ValueError, match="batch of member 0 must be at most 30, all examples, got 37"):
        fit(data=lambda epoch: drawn(37 if epoch == 0 else 30))


def test_sgd_takes_the_steps_of_gradient_descent():
    """Of whole batches: ``w - rate * gradient``, by the closed form of logistic regression."""
    strings, targets = drawn(COUNT)
    trained = fit(epochs=2, count=1, optimizer="sgd", keep="last", lr_patience=None, patience=None)
    w, b = (np.asarray(start(4)["params"][name][0], np.float64) for name in ("w", "b"))
    for _ in range(2):
        error = 1 / (1 + np.exp(-(strings[0] @ w + b))) - targets[0]
        w, b = w - 0.01 * error @ strings[0] / COUNT, b - 0.01 * error.mean()
    np.testing.assert_allclose(trained.variables["params"]["w"][0], w, rtol=1e-5)
    with pytest.raises(ValueError, match="optimizer must be one of"):
        training.ManyConfig(epochs=1, optimizer="lion")
