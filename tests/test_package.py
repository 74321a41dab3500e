"""The package as a whole: its import, which parts import which, its readme."""

import ast
import graphlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FOUNDATION = {path.stem for path in (ROOT / "jaxsens").glob("*.py")} - {"__init__"} | {
    "execution",
    "results",
    "statistics",
}
MEASUREMENTS = {
    "sensitivity",
    "sharpness",
    "curvature",
    "corruptions",
    "embedding_space",
    "boolean",
    "noise_stability",
    "theory",
}
"""Folders that say what is measured; neither these nor the foundation import the other folders."""
ONLY = {
    "flax": {"models"},
    "equinox": {"models"},
    "safetensors": {"models"},
    "tokenizers": {"models"},
    "tensorflow_datasets": {"data"},
    "wordfreq": {"data"},
    "orbax": {"training"},
    "optax": {"training"},
    "matplotlib": {"plots"},
}


def modules(package):
    """Paths of a package's files by dotted name, without those that only hand names on."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path


def imports(path):
    """Names of modules that a file imports at run time, at its top or inside functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(package, folders=False):
    """Which modules of a package import which, or, if asked, which of its top folders and files."""
    known = dict(modules(package))

    def shown(name):
        return name.split(".")[1] if folders else name

    edges = {shown(name): set() for name in known}
    for name, path in known.items():
        for imported in imports(path):
            owner = next((m for m in (imported, imported.rpartition(".")[0]) if m in known), None)
            if owner is None and folders and imported.startswith(f"{package}.") and shown(imported) in edges:
                owner = imported  # a name that a folder hands on
            if owner is not None and shown(owner) != shown(name):
                edges[shown(name)].add(shown(owner))
    return edges


@pytest.mark.parametrize("package", ["jaxsens", "experiments"])
@pytest.mark.parametrize("folders", [False, True])
def test_imports_make_no_circle(package, folders):
    assert list(graphlib.TopologicalSorter(graph(package, folders)).static_order())


def test_foundation_and_measurements_import_only_what_they_may():
    edges = graph("jaxsens", folders=True)
    for name, imported in edges.items():
        if name in FOUNDATION:
            assert imported <= FOUNDATION, name
        elif name in MEASUREMENTS:
            assert imported <= FOUNDATION | MEASUREMENTS, name


def test_the_library_does_not_know_the_experiments():
    for name, path in modules("jaxsens"):
        assert not [i for i in imports(path) if i.split(".")[0] in ("experiments", "tests")], name


def test_no_experiment_imports_another():
    shared = {"harness", "images"}
    for name, imported in graph("experiments", folders=True).items():
        if name != "plan":  # it reads the settings of the others
            assert imported <= shared, name


@pytest.mark.parametrize("package", ONLY)
def test_each_dependency_is_imported_by_one_part(package):
    for name, path in modules("jaxsens"):
        if any(imported.split(".")[0] == package for imported in imports(path)):
            assert name.split(".")[1] in ONLY[package], f"{path} imports {package}"


def test_one_file_uses_devices():
    words = re.compile(r"pmap\(|shard_map\(|Mesh\(|PartitionSpec|jax\.devices\(|local_devices\(\)|device_put")
    for name, path in modules("jaxsens"):
        if name != "jaxsens.execution.backends":
            found = words.search(path.read_text())
            assert found is None, f"{path} says {found}"


def test_public_names_are_declared_and_there():
    for path in sorted((ROOT / "jaxsens").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name == "jaxsens.data.fashion_mnist_idx":  # imports tensorflow_datasets at its top
            continue
        module = importlib.import_module(name)
        assert len(set(module.__all__)) == len(module.__all__), name
        assert not [n for n in module.__all__ if not hasattr(module, n)], name


def test_files_and_functions_are_short():
    """At most 350 lines a file, or a docstring that says why it is long; at most 60 lines of code a function.

    Functions of tests may be longer: some are tables of calls.
    """
    for path in [p for folder in ("jaxsens", "experiments", "tests") for p in (ROOT / folder).rglob("*.py")]:
        text = path.read_text()
        tree = ast.parse(text)
        assert text.count("\n") <= 350 or re.search(r"\blong(er)?\b", ast.get_docstring(tree) or ""), path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not path.is_relative_to(ROOT / "tests"):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                assert not code or code[-1].end_lineno - code[0].lineno < 60, f"{path}: {node.name}"


def test_parts_that_need_more_are_imported_when_first_used():
    script = (
        "import sys, jaxsens; assert not {'flax', 'orbax', 'matplotlib'} & set(sys.modules);"
        "assert jaxsens.models.build and jaxsens.training.fit and jaxsens.data and 'models' in dir(jaxsens)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_import_is_silent_and_light():
    """Nothing printed, no warning, none of the heavy libraries, and under two seconds of work beyond JAX."""
    script = (
        "import sys, time, jax; start = time.process_time(); import jaxsens; seconds = time.process_time() - start;"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'orbax', 'matplotlib', 'sklearn'} & set(sys.modules);"
        "assert not heavy, heavy; assert seconds < 2, seconds;"
        "assert jaxsens.map_items and jaxsens.Estimate and jaxsens.perturb.replace_uniform"
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
        "import jaxsens, jaxsens.models, jaxsens.training, experiments.benchmark.accelerator.proof"
    )
    environment = os.environ | {"JAXSENS_WITHOUT_PYTORCH": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert (run.returncode, run.stderr) == (0, "")


PAGES = sorted([ROOT / "README.md", *(ROOT / "jaxsens").rglob("README.md")])
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e-?\d+)?")


BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in PAGES}
DRIVER = """
import contextlib, io, json, sys, traceback
results = []
for block in json.load(sys.stdin):
    for name in [name for name in sys.modules if name.split(".")[0] == "jaxsens"]:
        del sys.modules[name]  # what a block does not import itself is not there
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(block, "block", "exec"), {"__name__": "__main__"})
        except Exception:
            error = traceback.format_exc()
    results.append((printed.getvalue(), error))
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def run_blocks(tmp_path_factory):
    """What each block of each page printed, and its error: in one process, as importing JAX takes seconds."""
    blocks = [block for page in PAGES for block in BLOCKS[page]]
    flags = " ".join(flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER], input=json.dumps(blocks), cwd=tmp_path_factory.mktemp("readme"),
        capture_output=True, text=True, check=False,
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(zip(blocks, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_readme_run_and_print_what_it_shows(page, run_blocks):
    for block in BLOCKS[page]:
        assert len([line for line in block.splitlines() if line.strip()]) <= 15
        text, error = run_blocks[block]
        assert not error
        printed = text.splitlines()
        assert printed
        for shown in re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE):
            like = [line for line in printed if NUMBER.sub("#", line) == NUMBER.sub("#", shown)]
            values = [[float(number) for number in NUMBER.findall(line)] for line in [shown, *like]]
            assert any(numbers == pytest.approx(values[0], rel=0.05, abs=1e-9) for numbers in values[1:]), text
