"""Laws of fingerprints: they follow the content, and a run accepts the same inputs only."""

import numpy as np
import pytest

from experiments.harness.inputs import fingerprint, require_same


class Kept:
    """A run that keeps its units in memory."""

    folder = "runs/kept"

    def __init__(self):
        self.units = {}

    def unit(self, name, compute):
        return self.units.setdefault(name, compute())


def test_a_fingerprint_follows_content_and_order():
    one, two = np.arange(4.0), np.arange(4, 8.0)
    assert fingerprint({"a": one, "b": two}) == fingerprint(one.copy(), two[:])
    assert fingerprint(one[::2]) == fingerprint(one[::2].copy()), "strides do not count"
    others = [fingerprint(one, two), fingerprint(two, one), fingerprint(one), fingerprint(one, "name", two)]
    assert len(set(others)) == 4


def test_a_run_accepts_the_inputs_it_was_begun_with_only():
    run = Kept()
    require_same(run, images="a", models="b")
    require_same(run, images="a", models="b")
    for inputs, name in (({"images": "c", "models": "b"}, "images"), ({"images": "a", "texts": "b"}, "texts")):
        with pytest.raises(ValueError, match=f"runs/kept was begun with other {name}"):
            require_same(run, **inputs)
