"""Labels are parities with nested noise, runs of a seed do not depend on the others, and checkpoints continue."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.simplicity_bias import estimates, train
from experiments.simplicity_bias.config import CURVES, PRESETS
from jaxsens.training import checkpoints
from jaxsens.training.many_models import DIVERGED

SMOKE = PRESETS["smoke"]


def test_labels_are_parities_with_nested_noise():
    config = replace(SMOKE, relevant=4, counts=(1_000, 32), batch=8)
    drawn = train.task(config, 1_000, 3)
    (clean, some, more), language = drawn.labels, drawn.language
    ones = drawn.strings[:, list(language.indices)].sum(1)
    np.testing.assert_array_equal(clean, ones % 2 == 0)
    assert len(language.indices) == 4
    for labels, noise in ((some, 0.1), (more, 0.2)):
        assert np.mean(labels != clean) == pytest.approx(noise, abs=5 * np.sqrt(noise * (1 - noise) / 1_000))
    assert ((some != clean) <= (more != clean)).all()
    fewer, other = train.task(config, 32, 3), train.task(config, 32, 4)
    np.testing.assert_array_equal(fewer.strings, drawn.strings[:32])
    np.testing.assert_array_equal(fewer.labels, drawn.labels[:, :32])
    strings = [drawn.strings[:32], drawn.validation[0], drawn.test[0], other.strings]
    assert len({one.tobytes() for one in strings}) == 4
    assert language != other.language


def test_a_seed_gets_the_same_numbers_without_the_others(smoke_run):
    alone = train.learn_parity(replace(SMOKE, seeds=1, label_sets=1), "lstm", 32, 2)
    with np.load(smoke_run("simplicity_bias") / "units" / "parity-lstm-32-2.npz", allow_pickle=False) as unit:
        for name in CURVES:
            np.testing.assert_array_equal(alone[name], unit[name])


def test_random_labels_continue_from_a_checkpoint(smoke_run, tmp_path, monkeypatch):
    config, save = replace(SMOKE, checkpoint_every=30), checkpoints.save

    def killed(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train.learn_labels(config, "lstm", tmp_path / "stack")
    columns = train.learn_labels(config, "lstm", tmp_path / "stack")
    with np.load(smoke_run("simplicity_bias") / "units" / "labels-lstm.npz", allow_pickle=False) as unit:
        assert set(unit) == set(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(values, unit[name])


def test_what_is_measured_is_what_training_watched(smoke_run):
    with np.load(smoke_run("simplicity_bias") / "units" / "parity-transformer-32-0.npz", allow_pickle=False) as unit:
        points = unit["epochs"]
        assert points.tolist() == [0, 1, 6, 40]
        np.testing.assert_allclose(
            unit["validation_accuracy"][:, 1:], unit["watched_accuracy"][:, points[1:] - 1], atol=1e-6
        )
        assert not np.array_equal(unit["validation_accuracy"], unit["test_accuracy"])


@pytest.mark.whole
def test_a_model_that_diverges_is_recorded_and_never_chosen():
    config = replace(SMOKE, rates=(1e30, 1e-3), steps=8)
    unit = train.learn_parity(config, "transformer", 32, 0)
    diverged = unit["status"] == DIVERGED
    assert diverged.tolist() == [rate == 1e30 for _, rate in config.settings]
    assert (unit["epochs_done"][diverged] == 1).all()
    for name in CURVES:
        assert np.isfinite(unit[name]).all()
        np.testing.assert_array_equal(unit[name][diverged, -1], unit[name][diverged, 0])  # the weights of the start
    config, results = replace(config, seeds=1), {("parity", "transformer", 32, 0): unit}
    unit["validation_accuracy"][diverged] = 1.0
    assert estimates.best_rate(config, results, "transformer", 32, 0.1) == 1e-3
    assert estimates.Group(config, results, "transformer", 32, 0.1, 1e30).row(False)["diverged"] == 1
