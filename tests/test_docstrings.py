"""The examples of docstrings run, and give what they show."""

import doctest
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsens

ROOT = Path(jaxsens.__file__).parent
FILES = [path for path in ROOT.rglob("*.py") if path.name != "fashion_mnist_idx.py"]  # imports tensorflow_datasets
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
GLOBALS = {"jax": jax, "jnp": jnp, "np": np} | {name: getattr(jaxsens, name) for name in ("perturb", "substitution")}


WITHOUT = ("jaxsens.data.tfds.data_folder", "jaxsens.data.tfds.open_splits")
"""What imports tensorflow_datasets."""


def modules():
    for path in sorted(FILES):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in modules():
        found = finder.find(module, module.__name__, extraglobs=GLOBALS)
        yield from (test for test in found if test.examples)


def test_every_public_function_and_class_has_an_example():
    """Those of ``__all__`` of every module, where they are defined; a compiled function too, whatever its type."""
    missing = set()
    for module in modules():
        for name in module.__all__:
            part = getattr(module, name)
            own = getattr(part, "__module__", None) == module.__name__ and not inspect.ismodule(part)
            if own and callable(part) and hasattr(part, "__qualname__") and ">>> " not in (part.__doc__ or ""):
                missing.add(f"{module.__name__}.{name}")
    assert not {name for name in missing if not name.startswith(WITHOUT)}


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_an_example_gives_what_it_shows(example):
    lines = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=lines.append)
    assert results.failed == 0, "".join(lines)
