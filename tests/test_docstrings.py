"""The examples of docstrings run, and give what they show."""

import doctest
import importlib
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


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for path in sorted(FILES):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        module = importlib.import_module(name)
        yield from (test for test in finder.find(module, name, extraglobs=GLOBALS) if test.examples)


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_an_example_gives_what_it_shows(example):
    lines = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=lines.append)
    assert results.failed == 0, "".join(lines)
