"""The README of the experiments: its template runs, and its verdicts are those of the committed results."""

import csv
import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from experiments import harness

EXPERIMENTS = Path(harness.__file__).parents[1]
README = (EXPERIMENTS / "README.md").read_text()
FRONT = (EXPERIMENTS.parent / "README.md").read_text()
RESULTS = {
    "vision, digits": "vision/results/digits",
    "vision, Fashion-MNIST": "vision/results/fashion_mnist",
    "vision, depth, heads and optimizer": "vision/results/changes_fashion_mnist",
    "vision, eight small models": "vision/results/cifar10_eight_models",
    "flatness": "flatness/results/digits",
} | {
    name: f"{name}/results/laptop"
    for name in (
        "token_shifts", "random_recognizers", "recognizer_geometry", "trained_recognizers", "length_and_sharpness",
        "simplicity_bias", "kernels", "sparse_tokens", "language", "robustness", "grokking",
    )
}  # fmt: skip


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def verdicts_of(name):
    """Return how often each claim has each verdict."""
    verdicts = Counter()
    for row in rows(EXPERIMENTS / RESULTS[name] / "comparison.csv"):
        if re.fullmatch(r"[CHB]\d+", row["claim"]) and row["verdict"]:
            verdicts[row["claim"], row["verdict"]] += 1
    return verdicts


@pytest.mark.parametrize("name", RESULTS)
def test_verdicts_of_the_table_are_those_of_the_committed_results(name):
    verdicts = verdicts_of(name)
    cells = []
    for claim in sorted({claim for claim, _ in verdicts}):
        counts = [f"{verdicts[claim, v]} {v}" for v in harness.claims.VERDICTS if verdicts[claim, v]]
        cells.append(f"{claim}: {', '.join(counts)}")
    experiment, _, dataset = name.partition(", ")
    (line,) = [line for line in README.splitlines() if line.startswith(f"| [{experiment}]") and dataset in line]
    assert ". ".join(cells) in line


@pytest.mark.parametrize("name", [name for name in RESULTS if not name.startswith(("vision, d", "vision, e"))])
def test_the_main_readme_counts_the_verdicts_of_the_committed_results(name):
    verdicts = verdicts_of(name)
    counts = [
        sum(n for (_, verdict), n in verdicts.items() if verdict == one) for one in harness.claims.VERDICTS if one
    ]
    (line,) = [line for line in FRONT.splitlines() if line.startswith(f"| [{name.partition(',')[0]}]")]
    assert f"| {' / '.join(map(str, counts))} |" in line


def test_every_claim_of_the_committed_results_is_in_the_list_of_claims():
    listed = (EXPERIMENTS / "CLAIMS.md").read_text()
    for folder in RESULTS.values():
        for claim in {row["claim"] for row in rows(EXPERIMENTS / folder / "comparison.csv")} - {""}:
            if re.fullmatch(r"[A-Z]\d+", claim):
                assert f"| {claim} |" in listed, claim


def test_the_template_of_a_new_experiment_runs(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 60
    path = tmp_path / "depth_template.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("depth_template", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["depth_template"] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        folder = module.execute(module.PRESETS["smoke"], tmp_path / "run")
        (claim,) = rows(folder / "comparison.csv")
        assert claim["verdict"] in harness.claims.VERDICTS
        assert len(rows(folder / "models.csv")) == 6
        assert (folder / "depths.png").stat().st_size > 10_000
        with pytest.raises(SystemExit):
            module.EXPERIMENT.main(["--help"])
    finally:
        del sys.modules["depth_template"]
    assert "models of each depth" in capsys.readouterr().out
