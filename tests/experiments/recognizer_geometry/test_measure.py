"""Laws of what is measured: influences are those of the library, and random models fill their parameter space."""

import jax
import numpy as np

from experiments.recognizer_geometry import measure
from experiments.recognizer_geometry.config import PRESETS
from jaxsens.boolean import blow_up
from jaxsens.execution import Execution, parallel
from jaxsens.models import recognizers

SMOKE = PRESETS["smoke"]


def test_influences_equal_those_of_the_library(float64):
    architecture = SMOKE.architecture(2, 4, 1e-2)
    models = measure.uniform_models(architecture, jax.random.key(3), 1.0, 2, np.float64)
    bits = measure.random_strings(SMOKE, 2, 3, 6)
    one_model = parallel.bind(measure.end_influences, architecture)
    states, logits, _ = parallel.map_items(one_model, (models, bits), execution=Execution(chunk=1))
    measured = blow_up.influences(recognizers.internals(architecture), positions=(-1,), execution=Execution(chunk=21))
    for i in range(2):
        expected = measured(jax.tree.map(lambda a, i=i: a[i], models), bits[i])
        np.testing.assert_allclose(states[i], expected.states[..., 0], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(logits[i], expected.logits, rtol=1e-8, atol=1e-12)


def test_influences_depend_on_position_encodings():
    none = measure.influences(SMOKE, "none", 1e-2, 0.5, 4)
    sinusoidal = measure.influences(SMOKE, "sinusoidal", 1e-2, 0.5, 4)
    assert not np.allclose(none["activation_mean"], sinusoidal["activation_mean"])


def test_models_fill_their_parameter_space_and_share_embeddings():
    architecture = SMOKE.architecture(1, 8, 0.0)
    wide, narrow = (measure.uniform_models(architecture, jax.random.key(0), a, 5, np.float32) for a in (1.0, 0.25))
    for a, b in zip(
        jax.tree.leaves(wide["params"]["layers"]), jax.tree.leaves(narrow["params"]["layers"]), strict=True
    ):
        np.testing.assert_allclose(b, a / 4)
        assert 0.8 < np.abs(a).max() <= 1
    np.testing.assert_array_equal(wide["params"]["embedding"], narrow["params"]["embedding"])
    assert not np.array_equal(wide["params"]["embedding"][0], wide["params"]["embedding"][1])
    few = measure.uniform_models(architecture, jax.random.key(0), 1.0, 2, np.float32)
    shapes = jax.tree.map(lambda spec: (2, *spec.shape), architecture.specs)
    assert jax.tree.map(np.shape, few["params"]) == shapes
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(wide), strict=True):
        np.testing.assert_array_equal(a, b[:2], err_msg="model i depends on i only")
