"""The benchmark of shared prefixes: PyTorch evaluates the same substitutions."""

import jax
import numpy as np
import pytest

from experiments.benchmark.micro import prefixes
from jaxsens.models.text import encoder, llama


def test_a_llama_in_pytorch_gives_the_same_logits_in_all_ways():
    pytest.importorskip("torch")
    sizes = {"width": 16, "depth": 2, "heads": 4, "key_heads": 2, "head_size": 4, "hidden": 24}
    module, draws = llama.Llama(llama.Config(**sizes, vocabulary=31, positions=7)), np.random.default_rng(0)
    shapes = encoder.shapes_of(module)
    variables = jax.tree.map(lambda leaf: draws.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    tokens, others = draws.integers(0, 31, (2, 7)).astype(np.int32)
    found = {name: way(tokens, others) for (name, _), way in prefixes.ways(module, variables, [3], [2]).items()}
    expected = found["plain"]
    assert set(found) == {"plain", "shared", "PyTorch plain", "PyTorch shared"}
    assert np.ptp(expected, axis=0).max() > 0.1 * np.abs(expected).max()
    for name, changed in found.items():
        np.testing.assert_allclose(changed, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)
