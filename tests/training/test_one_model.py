"""Training one model: its steps against a plain loop, resumption, devices, and what it refuses.

The file is long because its tests share models and compiled programs.
"""

import os
import shutil
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
from flax import linen

from jaxsens import models, training
from jaxsens.execution import Execution
from jaxsens.training import checkpoints, optimizers

KEY = jax.random.key(0)


def softmax_regression(variables, tokens, key):
    return tokens.reshape(len(tokens), -1) @ variables["params"]["w"], variables


def evaluate(variables, tokens, mask=None):
    return softmax_regression(variables, tokens, None)[0]


@pytest.fixture
def problem():
    """Two classes that a line separates."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(120, 3, 2)).astype(np.float32)
    labels = (tokens.sum((1, 2)) > 0).astype(np.int32)
    return {"params": {"w": np.zeros((6, 2), np.float32)}}, tokens, labels


def fit(problem, epochs=3, **options):
    variables, tokens, labels = problem
    settings = {"batch": 20, "learning_rate": 0.1, "optimizer": training.Optimizer("sgd")}
    names = ("learning_rate", "optimizer", "batch", "parts")
    settings |= {name: options.pop(name) for name in names if name in options}
    return training.fit(
        KEY, softmax_regression, variables, tokens, labels, training.Config(epochs, **settings), **options
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_sgd_takes_the_steps_that_one_would_take_by_hand(problem, schedule):
    variables, tokens, labels = problem
    trained, losses = fit(problem, epochs=2, optimizer=training.Optimizer("sgd", schedule=schedule))
    params = variables["params"]
    for epoch in range(2):
        order = jax.random.permutation(jax.random.fold_in(KEY, epoch), 120).reshape(6, 20)
        by_hand = []
        for number, index in enumerate(np.asarray(order)):
            rate = 0.1 if schedule == "constant" else 0.05 * (1 + np.cos(np.pi * (6 * epoch + number) / 12))

            def loss(params, index=index):
                logits, _ = softmax_regression({"params": params}, tokens[index], None)
                return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels[index]).mean()

            value, gradient = jax.value_and_grad(loss)(params)
            params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)
            by_hand.append(value)
        np.testing.assert_allclose(losses[epoch], np.mean(by_hand), rtol=1e-5)
    chex.assert_trees_all_close(trained["params"], params, rtol=1e-5)


def test_a_separable_problem_is_learned_and_the_start_is_not_changed(problem):
    trained, losses = fit(problem, epochs=40, learning_rate=0.5)
    assert training.accuracy(evaluate, trained, *problem[1:]).mean() > 0.97
    assert training.accuracy(evaluate, problem[0], *problem[1:], execution=Execution(chunk=7)).mean() < 0.7
    assert losses[-1] < losses[0] / 2
    chex.assert_trees_all_equal(problem[0]["params"]["w"], np.zeros((6, 2), np.float32))


def test_parts_make_the_same_step_and_devices_the_same_bits(problem, devices):
    whole, _ = fit(problem)
    results = {number: fit(problem, parts=4, devices=devices[:number])[0] for number in (1, 2, 8)}
    for result in results.values():
        chex.assert_trees_all_close(result, whole, rtol=1e-5)
    chex.assert_trees_all_equal(results[8], results[2])


def test_a_sweep_over_rates_and_seeds_compiles_once(problem):
    traced = []

    def counted(variables, tokens, key):
        traced.append(1)
        return softmax_regression(variables, tokens, key)

    variables, tokens, labels = problem
    counts = []
    for rate, seed in ((0.1, 0), (0.2, 1)):
        config = training.Config(2, batch=20, learning_rate=rate)
        training.fit(jax.random.key(seed), counted, variables, tokens, labels, config)
        counts.append(len(traced))
    assert counts[0] == counts[1]


def test_a_resumed_run_takes_the_same_steps(problem, tmp_path):
    """Stopped after two epochs of five, in the middle of what follows the second."""

    class Stop(Exception):
        pass

    def stop(epoch, variables):
        if epoch == 2:
            raise Stop

    options = {"epochs": 5, "optimizer": training.Optimizer("adamw", weight_decay=0.1, schedule="cosine")}
    expected = fit(problem, **options)
    with pytest.raises(Stop):
        fit(problem, **options, checkpoint=tmp_path / "checkpoint", after_epoch=stop)
    seen = []
    resumed = fit(
        problem, **options, checkpoint=tmp_path / "checkpoint", after_epoch=lambda epoch, _: seen.append(epoch)
    )
    assert seen == [2, 3, 4, 5]
    chex.assert_trees_all_equal(resumed, expected)
    chex.assert_trees_all_equal(fit(problem, **options, checkpoint=tmp_path / "checkpoint"), expected)


def test_divergence_stops_the_run_and_is_located(problem):
    problem[1][7] = np.inf
    with pytest.raises(training.Diverged, match=r"nan at epoch 1, step \d of 6; the learning rate is 0.1"):
        fit(problem)


def relabeled(problem, label):
    """The problem with another label in place of the first one."""
    labels = np.asarray(problem[2], np.int64)
    labels[0] = label
    return (*problem[:2], labels)


@pytest.mark.parametrize("label", [-1, -100, 2, 2**32, 2**32 + 1])
def test_labels_that_are_no_classes_are_refused(problem, label):
    message = rf"labels must (be classes from 0 to \d+|fit int32, the dtype on the device), got {label}"
    for objective in (training.CrossEntropy(), training.NoiseConsistency(), training.SharpnessAware()):
        with pytest.raises(ValueError, match=message):
            fit(relabeled(problem, label), objective=objective)
    with pytest.raises(ValueError, match=message):
        training.accuracy(evaluate, *relabeled(problem, label))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.astype(np.float32), "labels must be integers from 0 to .*, got float32"),
        (lambda y: y.astype(bool), "labels must be integers from 0 to .*, got bool"),
        (lambda y: np.eye(2, dtype=int)[y], r"got shape \(120, 2\); for one-hot rows pass labels.argmax"),
        (lambda y: y[:, None], r"one for each example, got shape \(120, 1\)"),
        (lambda y: np.ma.masked_array(y, y == 1), "must not be a masked array"),
        (lambda y: y[:-1], "labels must be as many as tokens, 120"),
    ],
)
def test_labels_of_another_form_are_refused(problem, change, message):
    broken = (*problem[:2], change(problem[2]))
    with pytest.raises(ValueError, match=message):
        fit(broken)
    with pytest.raises(ValueError, match=message):
        training.accuracy(evaluate, *broken)


def test_a_custom_objective_gets_its_labels_unchanged(problem):
    def squared(train_apply, variables, tokens, labels, key):
        outputs, variables = train_apply(variables, tokens, key)
        return ((outputs[:, 0] - labels) ** 2).mean(), variables

    losses = fit((*problem[:2], problem[2] - 0.5), objective=squared, learning_rate=0.01)[1]
    assert losses[-1] < losses[0]


def test_weights_are_checked_after_the_last_step(problem):
    """One step whose loss is finite, and whose weights are not."""
    with pytest.raises(training.Diverged, match="a weight is not finite after epoch 1, step 1 of 1"):
        fit((problem[0], 100 * problem[1], problem[2]), epochs=1, batch=120, learning_rate=3e38)


def test_a_checkpoint_of_another_training_is_refused(problem, tmp_path):
    folder = str(tmp_path / "checkpoint")  # a path as text is a path
    expected = fit(problem, checkpoint=folder)
    variables, tokens, labels = problem
    for options, name in (
        ({"learning_rate": 0.5}, "learning_rate was 0.1 and is 0.5 now"),
        ({"epochs": 4}, "epochs was 3 and is 4 now"),
        ({"problem": (variables, tokens, 1 - labels)}, "labels was"),
        ({"problem": (variables, tokens + 1, labels)}, "tokens was"),
        ({"problem": ({"params": {"w": np.ones((6, 2), np.float32)}}, tokens, labels)}, "initial variables was"),
        ({"objective": training.NoiseConsistency()}, "objective was CrossEntropy"),
    ):
        with pytest.raises(ValueError, match=f"another training: {name}.*delete that one"):
            fit(**({"problem": problem} | options), checkpoint=folder)
    config = training.Config(3, 20, 0.1, training.Optimizer("sgd"))
    with pytest.raises(ValueError, match="another training: key was"):
        training.fit(jax.random.key(1), softmax_regression, *problem, config, checkpoint=folder)
    chex.assert_trees_all_equal(fit(problem, checkpoint=folder), expected)


def test_typed_keys_among_the_variables_are_kept(problem, tmp_path):
    def with_key(variables, tokens, key):
        return softmax_regression(variables, tokens, key)[0], variables

    variables = problem[0] | {"rng": jax.random.key(5)}
    config, folder = training.Config(2, 20, 0.1), tmp_path / "checkpoint"
    first, _ = training.fit(KEY, with_key, variables, *problem[1:], config, checkpoint=folder)
    again, _ = training.fit(KEY, with_key, variables, *problem[1:], config, checkpoint=folder)
    assert (jax.random.key_data(again["rng"]) == jax.random.key_data(jax.random.key(5))).all()
    chex.assert_trees_all_equal(again["params"], first["params"])


BAD = {
    "epochs must be .*an integer of at least 1, got True": lambda p: fit(p, epochs=True),
    "epochs must be .*got nan": lambda p: fit(p, epochs=float("nan")),
    "learning_rate must be .*got '0.1'": lambda p: fit(p, learning_rate="0.1"),
    "learning_rate must be .*got 1e": lambda p: fit(p, learning_rate=1e39),
    "optimizer must be": lambda p: fit(p, optimizer="adam"),
    "momentum must be .*got nan": lambda p: training.Optimizer("sgd", momentum=float("nan")),
    "radius must be": lambda p: training.SharpnessAware(radius="0.1"),
    "tokens holds 429496729": lambda p: fit((p[0], np.full((120, 3, 2), 2**32), p[2])),
    "tokens must not be a masked": lambda p: fit((p[0], np.ma.masked_array(p[1], p[1] > 1), p[2])),
    "variables must be a dictionary": lambda p: fit((p[0]["params"], *p[1:])),
    "checkpoint must be the path": lambda p: fit(p, checkpoint=3),
    "is a file": lambda p: fit(p, checkpoint=__file__),
    "labels must be as many": lambda p: fit((p[0], p[1], p[2][:-1])),
    "batch must be at most": lambda p: fit(p, batch=121),
    "parts must divide": lambda p: fit(p, parts=3),
    "epochs must be at least 1": lambda p: fit(p, epochs=0),
    "learning_rate must be": lambda p: fit(p, learning_rate=-1.0),
    "name must be one of": lambda p: training.Optimizer("lion"),
    "schedule must be one of": lambda p: training.Optimizer(schedule="step"),
    "momentum must be": lambda p: training.Optimizer("sgd", momentum=1.0),
    "momentum belongs to 'sgd'": lambda p: training.Optimizer("adam", momentum=0.5),
    "weight_decay belongs to 'adamw'": lambda p: training.Optimizer("adam", weight_decay=0.5),
    "strength must lie in": lambda p: training.NoiseConsistency(strength=1.5),
    "variance must be": lambda p: training.NoiseConsistency(variance=-1.0),
    "alpha must be a finite number above 0": lambda p: training.Mixup(alpha=0.0),
    "rhos must be": lambda p: training.NoiseStabilityPenalty(rho=1.5),
    r"strength must lie in \[0, 1\], got 2": lambda p: training.NoiseStabilityPenalty(strength=2.0),
}


@pytest.mark.parametrize("match", BAD)
def test_bad_arguments_are_named(problem, match):
    with pytest.raises(ValueError, match=match):
        BAD[match](problem)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (training.Optimizer("sgd"), optax.sgd(0.1)),
        (training.Optimizer("sgd", momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (
            training.Optimizer("sgd", momentum=0.9, weight_decay=0.3),
            optax.chain(optax.add_decayed_weights(0.3), optax.sgd(0.1, momentum=0.9)),
        ),
        (training.Optimizer("adam"), optax.adam(0.1)),
        (training.Optimizer("adamw", weight_decay=0.3), optax.adamw(0.1, weight_decay=0.3)),
    ],
)
def test_optimizers_are_those_of_optax(problem, ours, theirs):
    """The same five steps on the same gradients, with the learning rate outside and inside."""
    params = {"w": jnp.arange(6.0)}
    direction, factor = optimizers.build(ours, 5)
    mine, state = params, direction.init(params)
    other, other_state = params, theirs.init(params)
    for step in range(5):
        gradient = jax.tree.map(lambda w, s=step: jnp.cos(3 * w + s), params)
        updates, state = direction.update(gradient, state, mine)
        mine = jax.tree.map(lambda p, u, s=step: p - 0.1 * factor(s) * u, mine, updates)
        updates, other_state = theirs.update(gradient, other_state, other)
        other = optax.apply_updates(other, updates)
    chex.assert_trees_all_close(mine, other, rtol=1e-5)
    assert optimizers.build(ours, 5) is optimizers.build(training.Optimizer(**vars(ours)), 5)


def test_schedules_rise_and_fall():
    _, factor = optimizers.build(training.Optimizer(schedule="cosine", warmup=0.25), 40)
    values = np.array([factor(step) for step in range(40)])
    assert values.argmax() == 9
    np.testing.assert_allclose(values[9:11], 1)
    assert (np.diff(values[:10]) > 0).all()
    assert (np.diff(values[10:]) < 0).all()
    assert 0 < values[0] < 0.2
    assert values[-1] < 0.01


def test_consistency_of_a_linear_model_is_known(problem):
    """``E mean_k (xi_i . w_k)^2 = variance |w|^2 / (t k)`` for noise xi on one token i of t."""
    _, tokens, labels = problem
    variables = {"params": {"w": np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)}}
    tokens, labels = np.tile(tokens, (100, 1, 1)), np.tile(labels, 100)
    plain, _ = training.CrossEntropy()(softmax_regression, variables, tokens, labels, KEY)
    for strength in (0.0, 0.25, 1.0):
        objective = training.NoiseConsistency(variance=4.0, strength=strength)
        loss, _ = objective(softmax_regression, variables, tokens, labels, KEY)
        penalty = 4 * (variables["params"]["w"] ** 2).sum() / 3 / 2
        np.testing.assert_allclose(loss, (1 - strength) * plain + strength * penalty, rtol=0.02)


def test_stability_penalty_of_a_linear_score_is_known(problem):
    """Two logits (0, s), s normal with variance v: ``1 - E sum p(x) p(y)``, from normal pairs of correlation rho."""
    _, tokens, labels = problem
    rng = np.random.default_rng(0)
    variables = {"params": {"w": np.stack([np.zeros(6), rng.normal(size=6)], 1).astype(np.float32)}}
    tokens = rng.normal(size=(6000, *tokens.shape[1:])).astype(np.float32)
    labels = np.tile(labels, 6000 // len(labels) + 1)[:6000]
    scores = np.sqrt((variables["params"]["w"] ** 2).sum()) * rng.normal(size=(2, 200_000))
    for rho in (0.0, 0.8, 1.0):
        loss, _ = training.NoiseStabilityPenalty(rho=rho, strength=1.0)(
            softmax_regression, variables, tokens, labels, KEY
        )
        p, q = (1 / (1 + np.exp(-s)) for s in (scores[0], rho * scores[0] + np.sqrt(1 - rho**2) * scores[1]))
        np.testing.assert_allclose(loss, 1 - (p * q + (1 - p) * (1 - q)).mean(), atol=0.01)


class Normalized(linen.Module):
    @linen.compact
    def __call__(self, tokens, mask=None, train=False):
        return linen.Dense(2)(linen.BatchNorm(use_running_average=not train)(tokens.reshape(len(tokens), -1)))


def test_batch_statistics_are_trained_along():
    module, tokens = Normalized(), np.random.default_rng(0).normal(2, 1, size=(8, 3, 2)).astype(np.float32)
    variables = module.init(KEY, tokens)
    trained, _ = training.fit(
        KEY, models.train_apply(module), variables, tokens, np.arange(8) % 2, training.Config(1, batch=4),
        objective=training.NoiseConsistency(),
    )  # fmt: skip
    assert set(trained) == {"params", "batch_stats"}
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), trained, variables)
    assert all(jax.tree.leaves(moved))


def test_checkpoints_keep_the_newest_and_are_restored_exactly(tmp_path):
    state = {"w": jnp.arange(4.0), "optimizer": (optax.EmptyState(), jnp.int32(3)), "key": jax.random.key_data(KEY)}
    assert checkpoints.restore(tmp_path / "none", state) is None
    for step in (1, 2):
        checkpoints.save(tmp_path / "some", step, jax.tree.map(lambda a, s=step: a * s, state))
    step, restored = checkpoints.restore(tmp_path / "some", state)
    assert step == 2
    chex.assert_trees_all_equal(restored, jax.tree.map(lambda a: a * 2, state))
    assert isinstance(restored["optimizer"][0], optax.EmptyState)
    assert len(list((tmp_path / "some").iterdir())) == 1


def damage(folder, kind):
    """Damage a checkpoint in one of the ways that disks and people do."""
    newest = next(path for path in folder.iterdir() if path.name.isdecimal())
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    if kind == "empty folder":
        shutil.rmtree(newest)
        newest.mkdir()
    elif kind == "file in its place":
        shutil.rmtree(newest)
        newest.write_text("")
    elif kind == "values of another":
        checkpoints.save(folder.parent / "other", 3, {"w": jnp.ones(400)})
        shutil.rmtree(newest / "state")
        shutil.copytree(folder.parent / "other" / newest.name / "state", newest / "state")
    elif kind == "values":
        large = max(files, key=lambda path: path.stat().st_size)
        large.write_bytes(large.read_bytes()[:-8] + bytes(8))
    else:
        for file in files:
            if kind == "emptied":
                file.write_bytes(b"")
            elif kind == "cut":
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            elif kind == "noise":
                file.write_bytes(bytes(255 - byte for byte in file.read_bytes()))
            elif kind == ("metadata lost" if "METADATA" in file.name.upper() else "values lost"):
                file.unlink()


@pytest.mark.parametrize(
    "kind",
    [
        "empty folder",
        "file in its place",
        "emptied",
        "cut",
        "noise",
        "metadata lost",
        "values lost",
        "values",
        "values of another",
    ],
)
def test_damaged_checkpoints_name_the_folder_to_delete(tmp_path, kind):
    folder, state = tmp_path / "some", {"w": jnp.arange(400.0)}
    checkpoints.save(folder, 3, state, {"epochs": "3"})
    damage(folder, kind)
    with pytest.raises(ValueError, match=r"checkpoint.* in '.*some' is damaged .*delete that folder"):
        checkpoints.restore(folder, state, {"epochs": "3"})


@pytest.mark.parametrize(
    ("like", "match"),
    [
        ({"w": jnp.zeros(5)}, r"has \['w'\] = float32\[4\], but float32\[5\] is needed"),
        ({"w": jnp.zeros(4, jnp.int32)}, r"but int32\[4\] is needed"),
        ({"w": jnp.zeros(4), "v": jnp.zeros(1)}, r"has \['v'\] = no entry"),
        ({}, "but no entry is needed"),
    ],
)
def test_checkpoints_of_another_shape_are_refused(tmp_path, like, match):
    checkpoints.save(tmp_path / "some", 1, {"w": jnp.arange(4.0)})
    with pytest.raises(ValueError, match=match):
        checkpoints.restore(tmp_path / "some", like)


def test_killed_while_saving_keeps_the_older_checkpoint(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import jax.numpy as jnp
        from jaxsens.training import checkpoints
        checkpoints.save(Path(sys.argv[1]), 1, {"w": jnp.arange(4.0)})
        rename = os.rename
        def kill(*names):
            if "2" in Path(str(names[1])).name:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(*names)
        os.rename = os.replace = kill
        checkpoints.save(Path(sys.argv[1]), 2, {"w": jnp.arange(4.0) * 2})
        """
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "some")], env=environment, check=False)
    assert run.returncode == -signal.SIGKILL
    step, state = checkpoints.restore(tmp_path / "some", {"w": jnp.zeros(4)})
    assert step == 1
    np.testing.assert_array_equal(state["w"], np.arange(4.0))


def test_logits_that_are_not_finite_are_no_wrong_answers(problem):
    variables, tokens, labels = problem
    tokens[5] = np.nan
    with pytest.raises(FloatingPointError, match="not finite for example 5"):
        training.accuracy(evaluate, variables, tokens, labels)


def test_gaussian_augmentation_has_the_expected_loss_of_examples_and_noisy_copies():
    """Logits ``(0, x)`` with label 1: ``(l(x) + E l(x + 2 n)) / 2`` with ``l(x) = log(1 + exp(-x))`` and normal n."""
    tokens, labels = np.full((40_000, 1, 1), 0.7, np.float32), np.ones(40_000, int)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    noisy = np.log1p(np.exp(-(0.7 + 2 * nodes))) @ weights / weights.sum()
    loss, _ = training.GaussianAugmentation(variance=4.0)(first_against_zero, {}, tokens, labels, KEY)
    np.testing.assert_allclose(loss, (np.log1p(np.exp(-0.7)) + noisy) / 2, atol=0.01)


def test_mixup_weights_labels_as_it_weights_examples():
    """Where tokens are the one-hot labels, mixed tokens are the mixed labels."""
    labels = np.arange(12) % 3
    seen = []

    def identity(variables, tokens, key):
        seen.append(tokens[:, 0])
        return tokens[:, 0], variables

    loss, _ = training.Mixup(alpha=1.0)(identity, {}, jnp.eye(3)[labels][:, None], labels, KEY)
    expected = -(seen[0] * jax.nn.log_softmax(seen[0])).sum(1).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(seen[0].mean(0), np.full(3, 1 / 3), rtol=1e-6)
    assert not np.isin(np.asarray(seen[0]), [0.0, 1.0]).all()


def first_against_zero(variables, tokens, key):
    return jnp.stack([jnp.zeros(len(tokens)), tokens[:, 0, 0]], 1), variables
