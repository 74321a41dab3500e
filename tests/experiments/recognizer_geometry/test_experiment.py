"""Laws of the experiment's run: its tables, its claims and its settings."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from experiments.recognizer_geometry import claims, labels, report
from experiments.recognizer_geometry.config import PRESETS, Config
from experiments.recognizer_geometry.constructions import CONSTRUCTIONS

SMOKE = PRESETS["smoke"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_claims_agree_with_the_tables(smoke_run):
    folder = smoke_run("recognizer_geometry")
    rows = read(folder / "comparison.csv")
    assert {"C21", "C22", "Lem. 3.2", "Cor. 3.4", "Lem. 4.2"} <= {row["claim"] for row in rows}
    bound = next(row for row in rows if row["claim"] == "Lem. 3.2")
    assert (bound["verdict"], bound["units"]) == ("inconclusive", "4"), "72 models are needed"
    assert all(float(row["largest"]) <= 1 + 1e-9 for row in read(folder / "blow_up_bound.csv"))
    lost = {
        (row["construction"], row["epsilon"], row["margin"]): row["longest_kept"]
        for row in read(folder / "margin_lengths.csv")
    }
    assert lost["parity", "0.0", "0.5"] == "12"
    assert lost["parity", "0.01", "0.5"] == "2"
    assert lost["majority", "0.01", "0.5"] == "7"
    names = {label: name for name, label in labels.CONSTRUCTIONS.items()}
    assert list(names.values()) == list(CONSTRUCTIONS)
    for row in rows:
        if row["claim"] == "Cor. 3.4":
            name = names[row["subject"].rpartition(", ")[0]]
            assert row["verdict"] == ("contradicted" if name == "first-growing" else "supported")
            assert ("p(n) has no bound" in row["note"]) == (name in claims.UNBOUNDED)


def test_a_construction_that_fails_is_refused_when_the_tables_are_written():
    unit = {"margin": np.array(-1e-3), "closed_form": np.array(0.9), "strings": np.array(16), "blow_up_ratio": 0.0}
    with pytest.raises(FloatingPointError, match=r"parity at epsilon = 0\.01, N = 4"):
        report.margins_rows({("parity", 0.01, 4): unit})


def test_the_defaults_are_the_largest_settings():
    assert PRESETS["paper"] == Config()
    assert PRESETS["laptop"].influence_settings == [("sinusoidal", 1e-5), ("sinusoidal", 0.1), ("none", 0.1)]
    assert Config().models > PRESETS["laptop"].models > SMOKE.models


INVALID = {
    "models must be at least 1": {"models": 0},
    "lengths must be in rising order": {"lengths": (8, 4)},
    "exhaustive_lengths must be shorter than sampled_lengths": {"exhaustive_lengths": (4, 8)},
    "exhaustive_lengths must be below 21": {"exhaustive_lengths": (4, 21), "sampled_lengths": (24, 30)},
    "tail must be at most 2": {"tail": 3},
    "epsilons must be above 0": {"epsilons": (0.0,)},
    "margin_epsilons must be at least 0": {"margin_epsilons": (-1.0,)},
    "zeta must be above": {"shapes": ((2, 5),)},
    "encodings must be of": {"encodings": ("learned",)},
}


@pytest.mark.parametrize("match", INVALID)
def test_invalid_settings_are_refused(match):
    with pytest.raises(ValueError, match=match):
        replace(SMOKE, **INVALID[match])
