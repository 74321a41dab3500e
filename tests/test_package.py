"""What holds for the package as a whole: its import, its floors, its readme."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"typing"},
    {"changes", "ball", "scales", "processes", "work", "estimate"},
    {
        "perturb",
        "substitution",
        "screening",
        "correlation",
        "parallel",
        "budget",
        "batches",
        "classified",
        "ascent",
        "token_sites",
        "variance_components",
    },
    {"sensitivity", "sharpness", "worst_case", "loss_plane", "curvature", "boolean", "token_shifts", "looks"},
    {"sampled_sensitivity", "screened_sensitivity"},
]
BOOLEAN = [
    {"strings", "recognition"},
    {"tables", "languages", "neighbours"},
    {"certificates", "profile"},
    {"cube", "screened_profile", "geometry", "parameter_space"},
]
CURVATURE = [
    {"block_sums", "second_derivative", "probes"},
    {"over_data"},
    {"products", "lanczos"},
    {"eigen", "density", "traces"},
]
TOKEN_SHIFTS = [
    {"norms", "vocabulary", "encoding", "least", "search"},
    {"nearest", "recorded"},
    {"shifts", "joint", "identified"},
]
INNER = {"boolean": BOOLEAN, "curvature": CURVATURE, "token_shifts": TOKEN_SHIFTS}
WINGS = {"models", "data", "training", "runs", "plots"}
ONLY = {
    "flax": {"models"},
    "safetensors": {"models"},
    "tokenizers": {"models"},
    "tensorflow_datasets": {"data"},
    "wordfreq": {"data"},
    "orbax": {"training"},
    "optax": {"training"},
    "matplotlib": {"plots", "runs"},  # runs for an annotation
}


def modules():
    for path in sorted((ROOT / "jaxsens").rglob("*.py")):
        yield path, path.relative_to(ROOT / "jaxsens").with_suffix("").parts


def imports(path):
    """Names of modules that a file imports at run time, at its top or inside functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name, floors=FLOORS):
    return next(i for i, names in enumerate(floors) if name in names)


def test_files_import_only_from_floors_below():
    for path, (top, *inner) in modules():
        if top in WINGS or top == "__init__" or inner == ["__init__"]:
            continue
        for name in imports(path):
            if name.startswith("jaxsens."):
                other, *others = name.split(".")[1:]
                assert other not in WINGS, f"{path} imports the wing {other}"
                if other == top and top in INNER:
                    assert floor(others[0], INNER[top]) < floor(inner[0], INNER[top]), f"{path} imports {name}"
                    continue
                # estimators share the floor of samplers and estimates, whose files know only what is below
                assert floor(other) < floor(top), f"{path} imports {other}, which is not below it"


@pytest.mark.parametrize("package", ONLY)
def test_one_wing_knows_each_library(package):
    for path, (top, *_) in modules():
        if any(name.split(".")[0] == package for name in imports(path)):
            assert top in ONLY[package], f"{path} imports {package}"


def test_one_file_knows_devices():
    words = re.compile(r"pmap\(|shard_map\(|Mesh\(|PartitionSpec|jax\.devices\(|local_devices\(\)|device_put")
    for path, parts in modules():
        if parts != ("parallel",):
            found = words.search(path.read_text())
            assert found is None, f"{path} says {found}"


def test_import_is_silent_and_light():
    """Nothing printed, no warning, none of the heavy libraries, and under two seconds of work beyond JAX."""
    script = (
        "import sys, time, jax; start = time.process_time(); import jaxsens; seconds = time.process_time() - start;"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'orbax', 'matplotlib', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy; assert seconds < 2, seconds;"
        "assert jaxsens.parallel.map_items and jaxsens.estimate.Estimate and jaxsens.perturb.replace_uniform"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_bare_environment_is_enough():
    """Models, training and the proof on an accelerator need none of what reads data sets, draws or checks texts."""
    absent = ("tensorflow_datasets", "array_record", "importlib_resources", "PIL", "sklearn", "matplotlib")
    absent += ("tokenizers", "safetensors", "wordfreq")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}));"
        "import jaxsens, jaxsens.models, jaxsens.training, experiments.accelerator.proof"
    )
    environment = os.environ | {"JAXSENS_WITHOUT_PYTORCH": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert (run.returncode, run.stderr) == (0, "")


README = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def printed_by_example(number, *shortened):
    """What an example of the readme prints, with some of its numbers made smaller."""
    block = README[number]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    for old, new in shortened:
        assert old in block
        block = block.replace(old, new)
    run = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"XLA_FLAGS": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_readmes_example_of_an_image_classifier_runs():
    printed = printed_by_example(0, ("epochs=10", "epochs=1"), ("tokens[:300]", "tokens[:9]"))
    assert re.match(r"[\d.]+ \([\d.]+, [\d.]+\) \[\[", printed)


def test_the_readmes_example_of_a_recognizer_runs():
    measured, exact = printed_by_example(1, ("100, 100)", "6, 20)")).splitlines()
    assert re.match(r"[\d.]+ [\d.]+ \[\d+ \d+ \d+\] [\d.]+", measured)
    assert exact == "3.700138 21 7.958923738717876"
