"""``dir``, tab completion and ``help`` show the names of ``__all__``, and no private or imported ones."""

import importlib
import pkgutil
import pydoc
import re
import types

import jaxsens
from jaxsens import statistics
from jaxsens.statistics import estimate


def test_packages_list_public_names_only():
    """Packages, and the modules that they name."""
    for module in pkgutil.walk_packages(jaxsens.__path__, "jaxsens."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            assert dir(package) == sorted(package.__all__), module.name
            for name in package.__all__:
                part = getattr(package, name)
                if isinstance(part, types.ModuleType):
                    assert dir(part) == sorted(part.__all__), part.__name__
    for part in (jaxsens.perturb, jaxsens.changes, jaxsens.scales, jaxsens.substitution):
        assert dir(part) == sorted(part.__all__), part.__name__
    assert not [name for name in dir(jaxsens) if name.startswith("_") and name != "__version__"]
    assert statistics.Estimate is estimate.Estimate


def test_help_shows_public_names_only():
    """Of every package, the functions, classes and constants that ``help`` lists are those of ``__all__``."""
    packages = [m.name for m in pkgutil.walk_packages(jaxsens.__path__, "jaxsens.") if m.ispkg]
    for package in map(importlib.import_module, ["jaxsens", *packages]):
        sections = re.split(r"^([A-Z ]+)$", pydoc.plain(pydoc.render_doc(package)), flags=re.MULTILINE)
        text = dict(zip(sections[1::2], sections[2::2], strict=True))
        listed = re.findall(
            r"^    (?:class )?(\w+)\(", text.get("CLASSES", "") + text.get("FUNCTIONS", ""), re.MULTILINE
        )
        listed += re.findall(r"^    (\w+) = ", text.get("FUNCTIONS", "") + text.get("DATA", ""), re.MULTILINE)
        bases = {"builtins", "typing", "object"}
        named = {name for name in listed if name not in bases}
        assert named <= set(package.__all__), package.__name__
        parts = re.findall(r"^    (\w+)", text.get("PACKAGE CONTENTS", ""), re.MULTILINE)
        assert not [name for name in parts if name.startswith("_")], package.__name__
