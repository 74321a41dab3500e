"""Laws of settings: what a field may be is checked, and the message names the field and its value."""

import dataclasses

import pytest

from experiments.harness import Settings, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Settings):
    seed: int = option(0, "random seed", at_least=0)
    rates: tuple[float, ...] = option((0.1, 0.2), "learning rates", above=0, below=1, distinct=True, fewest=1)
    lengths: tuple[int, ...] = option((4, 8), "bits", at_least=1, rising=True)
    kind: str = option("vit", "model", choices=("vit", "mlp"))
    limit: int | None = option(None, "most strings", at_least=1)


def test_what_is_allowed_passes():
    Config(rates=(0.5,), lengths=(), kind="mlp", limit=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"rates": (0.1, 1.0)}, r"rates must be below 1, got \(0.1, 1.0\)"),
        ({"rates": (0.0,)}, "rates must be above 0"),
        ({"rates": (float("nan"),)}, "rates must be finite"),
        ({"rates": ()}, "rates must have at least 1 entry"),
        ({"rates": (0.1, 0.1000000001)}, "rates must hold different entries"),
        ({"lengths": (8, 4)}, "lengths must be in rising order"),
        ({"kind": "cnn"}, "kind must be of vit, mlp, got 'cnn'"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
    ],
)
def test_what_is_not_allowed_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        Config(**given)
