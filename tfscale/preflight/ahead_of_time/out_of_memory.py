"""The compiler's words about memory that is not enough, told by Keras layer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfscale.preflight.ahead_of_time.program import ELSEWHERE, Program

_SIZE = r"[\d.]+[KMGT]?"
_USED = (
    re.compile(rf"Used (?P<needed>{_SIZE})\w* of (?P<offered>{_SIZE})\w* hbm"),
    re.compile(
        rf"required for (?P<part>.*?) \((?P<needed>{_SIZE})\) exceeds available HBM "
        rf"\((?P<offered>{_SIZE})\)"
    ),
)
_ALLOCATION = re.compile(r"^\s*\d+\. Size: ([\d.]+[KMGT]?)", re.MULTILINE)
_OPERATOR = re.compile(r'op_name="([^"]*)"')
_SHAPE = re.compile(r"Shape: (\S+)")
_UNPADDED = re.compile(r"Unpadded size: ([\d.]+[KMGT]?)")
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Buffer:
    """One of the largest arrays that the compiler could not place.

    Attributes:
        layer: Path of the layer that makes it, or a name in brackets.
        shape: As XLA writes it.
        bytes: Padding included.
        unpadded_bytes: Without.
    """

    layer: str
    shape: str
    bytes: int
    unpadded_bytes: int


@dataclass(frozen=True)
class OutOfMemory:
    """How far a step is from fitting.

    Attributes:
        needed_bytes: What it takes of one replica's main memory; 0 if the compiler does not say.
        needed_for: What takes so much, in the compiler's words; "" if it is all of the step.
        offered_bytes: What there is; 0 if the compiler does not say.
        largest: The largest buffers that the compiler names; where it names none, the largest
            array of each layer as traced.
        is_named_by_compiler: Whether it names any.
    """

    needed_bytes: int
    offered_bytes: int
    largest: tuple[Buffer, ...]
    needed_for: str = ""
    is_named_by_compiler: bool = True


def read_out_of_memory(message: str, program: Program) -> OutOfMemory:
    """Reads the compiler's message.

    Args:
        message: Of an answer of the kind "out_of_memory".
        program: What was to be compiled; knows the layers.
    """
    used = next((found for found in (form.search(message) for form in _USED) if found), None)
    starts = [found.start() for found in _ALLOCATION.finditer(message)]
    entries = [message[a:b] for a, b in zip(starts, [*starts[1:], len(message)], strict=False)]
    named = tuple(_buffer(entry, program) for entry in entries)
    by_layer: dict[str, int] = {}
    for operation, size in program.largest:
        by_layer.setdefault(program.layer_of(operation), size)
    # Of equals a layer comes before the loss, whose arrays are as large as what it is given.
    ordered = sorted(by_layer.items(), key=lambda item: (-item[1], item[0] == ELSEWHERE))
    traced = tuple(Buffer(layer, "", size, size) for layer, size in ordered)
    return OutOfMemory(
        needed_bytes=in_bytes(used["needed"]) if used else 0,
        offered_bytes=in_bytes(used["offered"]) if used else 0,
        largest=named or traced,
        needed_for=used.groupdict().get("part", "") if used else "",
        is_named_by_compiler=bool(named),
    )


def in_bytes(text: str) -> int:
    """Returns the bytes of a size as XLA writes it; it rounds to a few digits.

    Args:
        text: A number and a power of 1024: "15.75G".

    Example:
        >>> in_bytes("1.5K")
        1536
    """
    unit = text[-1] if text[-1] in "KMGT" else ""
    return round(float(text.removesuffix(unit)) * _FACTORS[unit])


def _buffer(entry: str, program: Program) -> Buffer:
    size = _ALLOCATION.search(entry)
    operator = _OPERATOR.search(entry)
    shape = _SHAPE.search(entry)
    unpadded = _UNPADDED.search(entry)
    whole = in_bytes(size[1]) if size else 0
    return Buffer(
        layer=program.layer_of(operator[1] if operator else ""),
        shape=shape[1] if shape else "",
        bytes=whole,
        unpadded_bytes=in_bytes(unpadded[1]) if unpadded else whole,
    )
