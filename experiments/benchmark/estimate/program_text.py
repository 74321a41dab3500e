"""The text of a compiled program, as instructions; and from it the kernels with their operations and bytes.

XLA prints a program as named computations of instructions. On a GPU an instruction of the main computation, or of the
body of one of its loops, is a kernel: a fusion, a call of a library, a copy.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Instruction", "Kernel", "ProgramText", "kernels", "parse"]

_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([0-9,<=]*)\]")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_NAME = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(calls|body|to_apply|branch_computations|called_computations)=\{?([%\w.\-, ]+)\}?")
_FREE = frozenset((
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id",
    "opt-barrier", "copy-done", "async-done", "domain",
))  # fmt: skip
"""Instructions that run nothing."""
_READS_A_PART = frozenset(("dynamic-slice", "slice", "gather"))


@dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
        name: Its name.
        shape: Its result, as text: the type and the sizes of one or several arrays.
        operation: What it does.
        operands: Names of what it reads.
        text: What stands in its parentheses.
        attributes: What follows the operands.
        root: Whether it is the result of its computation.
    """

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    text: str
    attributes: str
    root: bool

    def called(self) -> list[str]:
        """Return the names of the computations that it calls."""
        groups = [names.split(",") for _, names in _CALLED.findall(self.attributes)]
        return [name.strip().lstrip("%") for names in groups for name in names if name.strip().startswith("%")]


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class ProgramText:
    """Computations by name, and the name of the main one."""

    computations: dict[str, Computation] = field(default_factory=dict)
    main: str = ""


@dataclass(frozen=True)
class Kernel:
    """A kernel, and how often it runs.

    Attributes:
        name: Name of the instruction.
        kind: What it is: the operation, with the kind of the fusion or the name of the library's function.
        times: How often it runs in a run of the program.
        operations: Floating-point operations of its matrix products and convolutions, in one run.
        bytes: Bytes that it reads and writes, in one run.
        cycles: Cycles as the compiler estimates them, on a TPU; else 0.
    """

    name: str
    kind: str
    times: int
    operations: float
    bytes: float
    cycles: float


def parse(text: str) -> ProgramText:
    """Return the instructions of a program."""
    computations: dict[str, Computation] = {}
    main, current = "", None
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header:
                current = computations.setdefault(header[2], {})
                main = header[2] if header[1] else main
        elif line.startswith("}"):
            current = None
        else:
            instruction = _instruction(line)
            if instruction is not None:
                current[instruction.name] = instruction
    return ProgramText(computations, main)


def _instruction(line: str) -> Instruction | None:
    head = _NAME.match(line)
    if head is None:
        return None
    rest = line[head.end() :]
    stop = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:stop], rest[stop:].lstrip()
    operation, _, _ = rest.partition("(")
    stop = _closing(rest, len(operation))
    inside = rest[len(operation) + 1 : stop]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(head[2], shape, operation, operands, inside, rest[stop + 1 :], bool(head[1]))


def _closing(text: str, start: int) -> int:
    """Return where the bracket that opens at ``start`` is closed."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place
    return len(text) - 1


def kernels(text: str, trips: Sequence[int] = (1,)) -> list[Kernel]:
    """Return the kernels of a program.

    Args:
        text: The compiled program.
        trips: How often loops run whose number of steps is data: the outer ones, those inside them, and so on; the last
            number holds for all that are deeper.
    """
    program = parse(text)
    return list(_walk(program, program.main, 1, tuple(trips)))


def _walk(program: ProgramText, name: str, times: int, trips: tuple[int, ...]) -> Iterator[Kernel]:
    within = program.computations[name]
    for instruction in within.values():
        if instruction.operation in _FREE:
            continue
        if instruction.operation == "while":
            trip_count = re.search(r"known_trip_count[^0-9]*(\d+)", instruction.attributes)
            (body,) = re.findall(r"body=%?([\w.\-]+)", instruction.attributes)
            inner = trips if trip_count else (trips[1:] or trips)
            yield from _walk(program, body, times * (int(trip_count[1]) if trip_count else trips[0]), inner)
        elif instruction.operation == "conditional":
            branches = [_total(list(_walk(program, branch, times, trips))) for branch in instruction.called()]
            yield from max(branches, key=lambda branch: branch[0], default=(0, []))[1]
        elif instruction.operation in ("call", "async-start"):
            for callee in instruction.called():
                yield from _walk(program, callee, times, trips)
        else:
            yield _kernel(program, within, instruction, times)


def _total(found: list[Kernel]) -> tuple[float, list[Kernel]]:
    """Return the kernels of a branch, after what decides which branch counts: the one that moves more bytes."""
    return sum(kernel.times * (kernel.bytes + 1) for kernel in found), found


def _kernel(program: ProgramText, within: Computation, one: Instruction, times: int) -> Kernel:
    kind, read = one.operation, sum(_bytes(within[name].shape) for name in one.operands if name in within)
    written, operations = _bytes(one.shape), _operations(program, within, one)
    if kind == "fusion":
        (callee,) = one.called()
        read, written = _moved_by_fusion(program.computations[callee])
        label = "triton" if "triton" in one.attributes else "".join(re.findall(r"kind=k(\w+)", one.attributes))
        kind = f"fusion, {label.lower()}"
    elif kind == "custom-call":
        kind = "".join(re.findall(r'custom_call_target="([^"]*)"', one.attributes))
        if operations:  # the second result is memory to work in
            written = _bytes(_ARRAY.search(one.shape)[0])
    elif kind == "dynamic-slice":
        read = written
    elif kind == "dynamic-update-slice":
        read = written = _bytes(within[one.operands[1]].shape)
    cycles = re.search(r'"estimated_cycles":"(\d+)"', one.attributes)
    return Kernel(one.name, kind, times, operations, read + written, float(cycles[1]) if cycles else 0.0)


def _operations(program: ProgramText, within: Computation, one: Instruction) -> float:
    """Return the floating-point operations of products and convolutions in an instruction."""
    target = "".join(re.findall(r'custom_call_target="([^"]*)"', one.attributes))
    if one.operation == "dot" or "matmul" in target or "gemm" in target:
        contracted = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([0-9,"]*)', one.attributes)
        sizes = _sizes(within[one.operands[0]].shape)
        summed = math.prod(sizes[int(axis)] for axis in re.findall(r"\d+", contracted[1]))
        return 2.0 * math.prod(_sizes(one.shape)) * summed
    if one.operation == "convolution" or "conv" in target.lower():
        labels = re.search(r"dim_labels=\w+?_(\w+)->", one.attributes)
        if labels is None:
            return 0.0
        kernel = _sizes(within[one.operands[1]].shape)
        return 2.0 * math.prod(_sizes(one.shape)) * math.prod(kernel) / kernel[labels[1].index("o")]
    if one.operation != "fusion":
        return 0.0
    inside = [program.computations[name] for name in one.called()]
    return sum(_operations(program, computation, each) for computation in inside for each in computation.values())


def _moved_by_fusion(inside: Computation) -> tuple[float, float]:
    """Return the bytes that a fusion reads and writes: of an array of which it uses a part, those of the part."""
    read = written = 0.0
    for parameter in inside.values():
        if parameter.operation != "parameter":
            continue
        names = {parameter.name}
        for instruction in inside.values():  # in the order of the program, so that a view of a view is found
            if instruction.operation in ("bitcast", "reshape") and instruction.operands[0] in names:
                names.add(instruction.name)
        users = [
            instruction
            for instruction in inside.values()
            if instruction.name not in names and names & set(instruction.operands)
        ]
        whole = _bytes(parameter.shape)
        if users and all(u.operation in _READS_A_PART and u.operands[0] in names for u in users):
            whole = min(whole, sum(_bytes(u.shape) for u in users))
        elif users and all(u.operation == "dynamic-update-slice" and u.operands[0] in names for u in users):
            whole = 0
        read += whole
    (root,) = [instruction for instruction in inside.values() if instruction.root]
    for part in [inside[name] for name in root.operands] if root.operation == "tuple" else [root]:
        while part.operation == "bitcast":
            part = inside[part.operands[0]]
        updated = part.operation == "dynamic-update-slice"
        written += _bytes(inside[part.operands[1]].shape if updated else part.shape)
    return read, written


def _sizes(shape: str) -> list[int]:
    """Return the sizes of the first array of a shape."""
    match = _ARRAY.search(shape)
    return [int(size.strip("<=")) for size in match[2].split(",") if size] if match else []


def _bytes(shape: str) -> float:
    """Return the bytes of all arrays of a shape."""
    return float(sum(_width(kind) * math.prod(_sizes(f"{kind}[{sizes}]")) for kind, sizes in _ARRAY.findall(shape)))


def _width(kind: str) -> float:
    """Return the bytes of a number of a type such as ``f32``, ``pred`` or ``f8e4m3fn``."""
    if kind in ("pred", "token", "opaque"):
        return 1.0 if kind == "pred" else 0.0
    bits = re.match(r"(?:bf|[fsuc])(\d+)", kind)
    return int(bits[1]) / 8 if bits else 0.0
