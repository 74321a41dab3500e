"""Laws of training the models of an architecture together: each is the model that is trained alone."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest

from experiments.images import data as image_data
from experiments.images import together
from experiments.images.bench import Bench
from experiments.vision.config import PRESETS

CONFIG = replace(PRESETS["smoke"], learning_rates=(0.003, 1e30), models_per_device=2, train_examples=50)
RUN = SimpleNamespace(folder=Path("none"))


def test_models_of_a_group_are_those_that_are_trained_alone():
    """Trained once, and followed from the start; a rate that diverges has an accuracy of 0, and spoils no other."""
    bench, seen = Bench(CONFIG, image_data.load(CONFIG)), []
    tried = [bench.validation_accuracy("mlp", rate) for rate in CONFIG.learning_rates]
    assert [one["diverged"] for one in tried] == [False, True]
    assert tried[0]["validation_accuracy"] > tried[1]["validation_accuracy"] == 0

    def follow(seed, epoch, variables):
        seen.append((seed, epoch, variables))

    for seed in (0, 1):
        variables, losses = bench.trained(RUN, "mlp", 0.003, seed, follow, [2])
        alone, expected = bench.train("mlp", 0.003, seed, "")
        # An Adam step magnifies the rounding of a gradient near 0.
        chex.assert_trees_all_close(variables, jax.tree.map(np.asarray, alone), rtol=0, atol=1e-4)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        chex.assert_trees_all_equal(next(one for at, epoch, one in seen if (at, epoch) == (seed, 2)), variables)
    assert [found[:2] for found in seen] == [(0, 0), (1, 0), (0, 2), (1, 2)]
    with pytest.raises(FloatingPointError, match="mlp, seed 0, is not finite at epoch 1; the learning rate is 1e"):
        bench.trained(RUN, "mlp", 1e30, 0)


def test_a_group_has_all_seeds_and_is_trained_on_accelerators_or_where_asked(monkeypatch):
    groups = []
    monkeypatch.setattr(together, "train", lambda bench, group, *_: groups.append(group) or [("v", "l")] * 2)
    Bench(CONFIG, None).trained(RUN, "mlp", 0.003, 1)
    assert groups == [together.Group("mlp", (0.003, 0.003), (0, 1))]
    assert not replace(CONFIG, models_per_device=None).together, "on a CPU"
    assert not replace(CONFIG, models_per_device=1).together
    monkeypatch.setattr("jaxsens.execution.Execution.platform", "gpu")
    assert replace(CONFIG, models_per_device=None).together
    assert not replace(CONFIG, models_per_device=None, parts=2).together
    with pytest.raises(ValueError, match="parts must be 1 where models are trained together, got 2"):
        replace(CONFIG, parts=2)
