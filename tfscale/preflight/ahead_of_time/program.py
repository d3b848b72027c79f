"""A training step as an HLO program, and the arrays in the text of an HLO module.

A TPU moves tiles of 8 x 128 numbers, so an array of 10 columns takes the memory of one of 128. XLA
writes `f32[25088,10]{0,1:T(8,128)}`: the dimensions, their order from the fastest, and the tile.
Source: XLA documentation, "Shapes and layout" and "Tiled layout".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

PARAMETERS, OPTIMIZER_STATE, METRICS, BATCH = "parameters", "optimizer", "metrics", "batch"
OPTIMIZER, ELSEWHERE = "(optimizer)", "(outside of the layers)"

# Prefixes that TensorFlow adds to scopes in gradients and in called functions.
_PREFIXES = re.compile(r"((gradient_tape|gradients|(Stateful)?PartitionedCall)/)+")


@dataclass(frozen=True)
class Argument:
    """An argument of the program, which stays in memory as long as the program runs.

    Attributes:
        kind: `PARAMETERS` (all weights and seeds), `OPTIMIZER_STATE`, `METRICS` or `BATCH`.
        layer: For a parameter, the path of its layer; "" for others.
    """

    kind: str
    layer: str = ""


@dataclass(frozen=True)
class Program:
    """The step of one replica, with the all-reduces between all replicas.

    Attributes:
        hlo: A serialized `HloModuleProto`.
        fingerprint: A hash that is equal for equal steps. `hlo` is not, because TensorFlow writes
            its parts in any order.
        num_replicas: Replicas that take part in the all-reduces. Positive.
        rows: Examples of one replica. Positive.
        arguments: The arguments, in the program's order.
        scopes: From the scope of operations to the path of their layer.
        optimizer: The scope of the optimizer's operations.
        largest: The operations that create the largest arrays in the trace, with bytes.
    """

    hlo: bytes = field(repr=False)
    fingerprint: str
    num_replicas: int
    rows: int
    arguments: tuple[Argument, ...]
    scopes: dict[str, str] = field(repr=False)
    optimizer: str = ""
    largest: tuple[tuple[str, int], ...] = ()

    def layer_of(self, operation: str) -> str:
        """Returns the path of the layer of an operation, or `OPTIMIZER` or `ELSEWHERE`.

        Args:
            operation: Its name in the graph, such as "gradient_tape/net_1/conv2d_1/Conv2D".
        """
        parts = _PREFIXES.sub("", operation, count=1).split("/")
        for end in range(len(parts), 0, -1):
            layer = self.scopes.get("/".join(parts[:end]))
            if layer is not None:
                return layer
        return OPTIMIZER if parts[0] == self.optimizer else ELSEWHERE


_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
_TILE = re.compile(r"T\(([\d,*]+)\)")
_MEMORY = re.compile(r"S\((\d+)\)")
_BITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Array:
    """An array on the chip.

    Attributes:
        written_bytes: Bytes without padding.
        laid_out_bytes: Bytes with padding.
        is_in_hbm: Whether it is in the chip's main memory, and not in a smaller, faster memory.
    """

    written_bytes: int
    laid_out_bytes: int
    is_in_hbm: bool = True


def arrays(text: str) -> Iterator[Array]:
    """Yields the array of a shape, or the arrays of a tuple.

    Args:
        text: A shape in the notation of HLO.

    Raises:
        ValueError: If a dtype is unknown.

    Example:
        >>> next(arrays("f32[25088,10]{0,1:T(8,128)}"))
        Array(written_bytes=1003520, laid_out_bytes=1605632, is_in_hbm=True)
    """
    for dtype, dimensions, order, layout in _SHAPE.findall(text):
        sizes = [int(size.lstrip("<=")) for size in dimensions.split(",") if size]
        fastest_first = [int(i) for i in order.split(",") if i]
        if len(fastest_first) != len(sizes):  # without a layout the last dimension is the fastest
            fastest_first = list(reversed(range(len(sizes))))
        slowest_first = [sizes[i] for i in reversed(fastest_first)]
        bits = _bits(dtype)
        tile = _TILE.search(layout)
        memory = _MEMORY.search(layout)
        padded = _padded(slowest_first, tile[1]) if tile else slowest_first
        yield Array(
            written_bytes=math.ceil(math.prod(sizes) * bits / 8),
            laid_out_bytes=math.ceil(math.prod(padded) * bits / 8),
            is_in_hbm=memory is None or memory[1] == "0",
        )


def _padded(sizes: list[int], tile: str) -> list[int]:
    """Rounds the fastest dimensions up to whole tiles. Nested tiles add no further padding."""
    sides = [1 if side == "*" else int(side) for side in tile.split(",")]
    padded = [1] * (len(sides) - len(sizes)) + sizes
    for i, side in enumerate(reversed(sides), start=1):
        padded[-i] = -(-padded[-i] // side) * side
    return padded


def _bits(dtype: str) -> int:
    """Returns the bits of a number in memory: `pred` takes a byte, `bf16` two, `f8e4m3fn` one."""
    if dtype == "pred":
        return 8
    if dtype in ("token", "opaque"):
        return 0
    found = _BITS.search(dtype)
    if found is None:
        raise ValueError(
            f"`dtype` must be an XLA type. Received: dtype={dtype!r}. Report this as a bug, with "
            "the program."
        )
    return int(found[0])


_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = ")
_OPCODE = re.compile(r" ([a-z][\w-]*)\(")
_NAME = re.compile(r'op_name="([^"]*)"')
_CALLED = re.compile(r"(?:body|condition|branch_computations)=(\{[^}]*\}|%[\w.-]+)")
# These create no array: they refer to one, start to move it, or are counted as arguments.
_VIEWS = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|while|conditional|call|after-all|.*-start"
)


@dataclass(frozen=True)
class Made:
    """An array that an instruction creates.

    Attributes:
        operation: The TensorFlow operation that it comes from, or "" if unknown.
        array: The array.
    """

    operation: str
    array: Array


def argument_arrays(module: str) -> list[Array]:
    """Returns the arguments of a program, in order, with their layout on the chip.

    Args:
        module: Text of an optimized HLO module.

    Raises:
        ValueError: If the text does not contain the layout of the arguments.
    """
    head = module.partition("\n")[0]
    found = re.search(r"entry_computation_layout=\{\((.*?)\)->", head)
    if found is None:
        raise ValueError(
            "`module` must begin with the layout of its arguments. Received: "
            f"{head[:100]!r}. Report this as a bug, with the program."
        )
    return list(arrays(found[1]))


def arrays_made(module: str) -> Iterator[Made]:
    """Yields the arrays in main memory that a program creates, each once.

    Arrays inside a fusion are not included, because they stay in registers. The arrays do not exist
    at the same time, so their sum is not the memory of the program.

    Args:
        module: Text of an optimized HLO module.
    """
    computations, entry = _computations(module)
    left, seen = [entry], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in computations.get(name, ()):
            for called in _CALLED.findall(line):
                left += re.findall(r"%([\w.-]+)", called)
            start = _INSTRUCTION.match(line)
            opcode = _OPCODE.search(line, start.end() if start else 0)
            if start is None or opcode is None or _VIEWS.fullmatch(opcode[1]):
                continue
            operation = _NAME.search(line)
            for array in arrays(line[start.end() : opcode.start()]):
                if array.is_in_hbm:
                    yield Made(operation[1] if operation else "", array)


def _computations(module: str) -> tuple[dict[str, list[str]], str]:
    computations: dict[str, list[str]] = {}
    entry, name = "", ""
    for line in module.split("\n")[1:]:
        head = _HEAD.match(line)
        if head:
            name = head[2]
            computations[name] = []
            if head[1]:
                entry = name
        elif name:
            computations[name].append(line)
    return computations, entry
