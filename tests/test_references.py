"""Modules, names and files that docstrings, comments and readmes speak of exist."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for folder in ("jaxsens", "experiments") for p in (ROOT / folder).rglob("*.py"))
COMMANDS = [ROOT / "pyproject.toml", *sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())]
PAGES = sorted([ROOT / "README.md", *(ROOT / "experiments").rglob("*.md")])
PLACEHOLDERS = {"NAME", "depth"}
"""``NAME`` stands for any experiment; ``depth`` is the experiment that experiments/README.md shows how to begin."""
VARIABLES = {"config", "equinox", "nearest", "nnx", "screening", "tfds", "tokenizer"}
"""Modules of the library that are also names of variables or of another package."""
CACHES = {"jaxsens/xla"}
"""Folders of the user's cache."""


def module_of(parts):
    """Return how many leading parts of a dotted name are a module or a folder."""
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        if path.is_dir() or path.with_suffix(".py").is_file():
            return count
    return 0


def has(value, names):
    """Whether a value has an attribute, which has the next one, and so on; fields of dataclasses count."""
    for name in names:
        if not hasattr(value, name):
            return name in getattr(value, "__dataclass_fields__", {})
        value = getattr(value, name)
    return True


def resolves(name):
    parts = name.split(".")
    count = module_of(parts)
    return count == len(parts) or (count > 0 and has(importlib.import_module(".".join(parts[:count])), parts[count:]))


def missing(pattern, paths, exists):
    return [
        (str(p.relative_to(ROOT)), n) for p in paths for n in set(re.findall(pattern, p.read_text())) if not exists(n)
    ]


def test_full_names_of_modules_and_what_they_contain_exist():
    pattern = r"(?<![\w./-])(?:jaxsens|experiments)(?:\.(?!(?:py|md)\b)\w+)+"
    assert not missing(pattern, SOURCES + COMMANDS + PAGES, lambda n: PLACEHOLDERS & set(n.split(".")) or resolves(n))


def test_short_names_of_the_library_exist():
    """``training.fit`` and the like: a module of that name somewhere in the library contains what follows."""
    modules = {}
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "jaxsens" and path.stem != "fashion_mnist_idx":  # needs an optional dependency
            parts = parts[:-1] if path.stem == "__init__" else parts
            modules.setdefault(parts[-1], []).append(".".join(parts))

    def exists(name):
        first, *rest = name.split(".")
        return first not in modules.keys() - VARIABLES or any(
            has(importlib.import_module(m), rest) for m in modules[first]
        )

    library = [path for path in SOURCES if path.is_relative_to(ROOT / "jaxsens")]
    assert not missing(r"``([a-z_]+(?:\.\w+)+)(?:\([^`]*\))?``", library, exists)
    assert not missing(r"`([a-z_]+(?:\.(?!md|py|csv)\w+)+)(?:\([^`]*\))?`", PAGES, exists)


def test_paths_exist():
    pattern = r"(?<![\w./-])(?:jaxsens|experiments|tests|scripts)(?:/[\w.-]*\w)+"
    allowed = CACHES | {f"experiments/depth/{name}.py" for name in ("__main__", "experiment")}
    assert not missing(pattern, SOURCES + COMMANDS + PAGES, lambda n: n in allowed or (ROOT / n).exists())


def test_links_and_images_of_readmes_exist():
    for page in PAGES:
        links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
        local = [link for link in links if not re.match(r"[a-z]+:", link)]
        assert not [link for link in local if not (page.parent / link).exists()], page
