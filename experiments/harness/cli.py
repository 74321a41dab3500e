"""Configurations: one frozen dataclass, made on the command line, written as JSON, and compared with another.

A field may carry ``metadata``: ``help`` (the text of its flag), ``flag=False`` (no flag: only presets set it), and
``identity=False`` (it changes where or how fast a run works, never its numbers: a data folder, a number of devices).
"""

import argparse
import dataclasses
import math
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import numpy as np

C = TypeVar("C")


def to_json(value: Any, name: str = "config") -> Any:
    """Return ``value`` as what JSON can hold: tuples become lists, dataclasses become dicts with their class's name.

    Raises:
        ValueError: a value that is not None, bool, int, float (finite), str, or a tuple, list, dict or dataclass of
            these; the message names the place, such as ``config.model.width``.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} = {value!r} is not finite: use None for a value that is not there")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [to_json(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: to_json(item, f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__} | to_json(fields, name)
    raise ValueError(
        f"{name} = {value!r} is a {type(value).__name__}: allowed are None, bool, int, float, str, and tuples, "
        "lists, dicts with str keys and dataclasses of these"
    )


def describe(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of ``config`` as JSON: those that identify a run, and those with ``identity=False``.

    Raises:
        ValueError: ``config`` is not an instance of a frozen dataclass, or a field holds what JSON cannot.
    """
    if isinstance(config, type) or not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:
        raise ValueError(f"config = {config!r} is not an instance of a frozen dataclass: decorate its class with one")
    identity, setting = {}, {}
    for field in dataclasses.fields(config):
        kept = identity if field.metadata.get("identity", True) else setting
        kept[field.name] = to_json(getattr(config, field.name), f"config.{field.name}")
    return identity, setting


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say in which entries two nested dicts of JSON differ: ``["model.width: 64, now 128"]``; absent ones included."""
    before, after = _flatten(old), _flatten(new)
    said = []
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after or before[name] != after[name]:
            was, now = (repr(side[name]) if name in side else "absent" for side in (before, after))
            said.append(f"{name}: {was}, now {now}")
    return said


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return flat


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """What a command line asked for.

    Attributes:
        preset: name of the preset that the configuration started from.
        config: the preset, with the fields that were given as flags replaced.
        out: folder of the run.
        compilation_cache: whether compiled programs are kept on disk, for later processes.
    """

    preset: str
    config: C
    out: Path
    compilation_cache: bool = True


def parse(
    experiment: str,
    presets: Mapping[str, C],
    argv: Sequence[str] | None = None,
    *,
    default: str = "laptop",
    out_fields: Sequence[str] = (),
    description: str | None = None,
) -> Command[C]:
    """Read ``--preset``, ``--out``, ``--no-compilation-cache`` and a ``--flag`` for every field from a command line.

    Flags are typed from the annotations: int, float (finite), str, bool (``--x``, ``--no-x``), ``Literal``,
    ``tuple[...]`` (``--widths 64,128``) and unions of these with None (``--x none``). A flag that is unknown or
    shortened, or a value that its type or the configuration's own checks refuse, ends the program with status 2.
    ``--help`` shows the description as it is, with its commands.

    Args:
        experiment: name of the experiment.
        presets: configurations by name, all of one frozen dataclass that has a field ``seed: int``.
        argv: arguments; those of the process if None.
        default: the preset if none is asked for.
        out_fields: fields whose values stand in the default output folder ``runs/<experiment>-<preset>[-<value>...]``.
        description: what ``--help`` says first.

    Returns:
        Command: preset, configuration and output folder.

    Raises:
        TypeError: a field has a type that no flag can give, or a name that is taken, or there is no ``seed: int``.
        ValueError: no presets, presets of several classes, or a ``default`` or ``out_fields`` that is not there.
    """
    classes = {type(preset) for preset in presets.values()}
    if len(classes) != 1:
        raise ValueError(f"presets are of classes {sorted(c.__name__ for c in classes)}: allowed is exactly one class")
    if default not in presets:
        raise ValueError(f"default = {default!r} is not a preset: allowed are {sorted(presets)}")
    for preset in presets.values():
        describe(preset)
    kind = classes.pop()
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if missing := [name for name in out_fields if name not in fields]:
        raise ValueError(f"out_fields = {missing} are not fields of {kind.__name__}: allowed are {sorted(fields)}")

    parser = _Parser(
        prog=f"python -m experiments.{experiment}",
        usage="%(prog)s [--preset NAME] [--out DIR] [--FLAG VALUE ...]",
        description=description,
        epilog=_VALUES,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--preset", choices=list(presets), default=default, help=f"settings to start from ({default})")
    parser.add_argument("--out", type=Path, help="folder of the run; one that holds its units continues it")
    parser.add_argument(
        "--no-compilation-cache", dest="compilation_cache", action="store_false",
        help="compile everything, and keep no compiled programs on disk",
    )  # fmt: skip
    hints = typing.get_type_hints(kind)
    if hints.get("seed") is not int:
        raise TypeError(f"{kind.__name__} has no field seed: int, which every run needs")
    for name, field in fields.items():
        if name in ("preset", "out", "compilation_cache", "help"):
            raise TypeError(f"field {name!r} of {kind.__name__} takes the name of the flag --{name}: rename it")
        if not field.metadata.get("flag", True):
            continue
        how = _flag(hints[name], f"{kind.__name__}.{name}")
        value = getattr(presets[default], name)
        shown = "none" if value is None else _text(value)
        text = f"{field.metadata.get('help', '')} ({default}: {shown})".strip()
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, default=argparse.SUPPRESS, help=text.replace("%", "%%"), **how)

    parsed = vars(parser.parse_args(argv))
    preset, out, cache = (parsed.pop(name) for name in ("preset", "out", "compilation_cache"))
    try:
        config = dataclasses.replace(presets[preset], **parsed)
    except ValueError as error:
        parser.error(str(error))
    if out is None:
        parts = [experiment, preset, *(_text(getattr(config, name)) for name in out_fields)]
        out = Path("runs") / "-".join(parts).replace("/", "_")
    return Command(preset, config, out, cache)


def _flag(hint: Any, where: str) -> dict[str, Any]:
    """How argparse is to read a field."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    read = _reader(hint, where)

    def typed(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not of type {_name(hint)}: {error}") from error

    return {"type": typed, "metavar": _metavar(hint)}


class _Parser(argparse.ArgumentParser):
    """A parser that says how lists are written where a value stands alone."""

    def error(self, message: str) -> NoReturn:
        start, _, rest = message.partition("unrecognized arguments: ")
        if not start and rest and not rest.startswith("-"):
            message += ": values of a list are separated by commas, without spaces, such as 64,128"
        super().error(message)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description, and the values of a list in one piece, to be copied."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


_VALUES = """\
Values of a list are separated by commas, without spaces: --widths 64,128. The word none stands for no value. After the
text of a flag is its value in the default preset."""


def _metavar(hint: Any) -> str:
    """Return how a value is written: ``int``, ``small|paper``, ``int,int,...``, ``float|none``."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        first = _metavar(inner[0])
        return f"{first},{first},..." if Ellipsis in inner else ",".join(map(_metavar, inner))
    if inner:
        return "|".join("none" if kind is types.NoneType else _metavar(kind) for kind in inner)
    return hint.__name__


def _reader(hint: Any, where: str) -> Callable[[str], Any]:
    """What turns the text of a flag into a value of type ``hint``."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return lambda text: _pick(text, {str(choice): choice for choice in inner})
    if origin in (typing.Union, types.UnionType) and len(inner) == 2 and types.NoneType in inner:
        some = _reader(next(kind for kind in inner if kind is not types.NoneType), where)
        return lambda text: None if text.lower() == "none" else some(text)
    if origin is tuple and inner and not any(typing.get_origin(kind) is tuple for kind in inner):
        readers = [_reader(kind, where) for kind in inner if kind is not Ellipsis]
        return lambda text: _split(text, readers, Ellipsis in inner)
    raise TypeError(
        f"{where}: no flag can give a {_name(hint)}; allowed are int, float, str, bool, Literal, flat tuples and their "
        "unions with None, or metadata={'flag': False}"
    )


def _split(text: str, readers: list[Callable[[str], Any]], repeated: bool) -> tuple[Any, ...]:
    parts = text.split(",") if text else []
    if repeated:
        readers = readers * len(parts)
    if len(parts) != len(readers):
        raise ValueError(f"it needs {len(readers)} parts with commas between them, not {len(parts)}")
    return tuple(read(part) for read, part in zip(readers, parts, strict=True))


def _pick(text: str, choices: dict[str, Any]) -> Any:
    if text not in choices:
        raise ValueError(f"allowed are {', '.join(choices)}")
    return choices[text]


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError("it must be finite")
    return value


_PLAIN: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: _finite,
    str: str,
    bool: lambda text: _pick(text.lower(), {"true": True, "false": False}),
}


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
