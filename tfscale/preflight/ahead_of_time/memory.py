"""The memory of a compiled step on one replica: by purpose, by layer, and what is missing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    ELSEWHERE,
    METRICS,
    OPTIMIZER,
    OPTIMIZER_STATE,
    PARAMETERS,
    Program,
    argument_arrays,
    arrays_made,
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one replica's main memory (HBM), padding included.

    Attributes:
        parameters: Weights and random seeds.
        optimizer: The optimizer's slots.
        metrics: State of the metrics and the loss.
        batch: The examples.
        temporaries: Peak of the intermediate results: activations, gradients and buffers of the
            all-reduces.
        outputs: Outputs that are not written in place of an argument.
        code: The compiled program.
    """

    parameters: int
    optimizer: int
    metrics: int
    batch: int
    temporaries: int
    outputs: int
    code: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        kept = self.parameters + self.optimizer + self.metrics + self.batch
        return kept + self.temporaries + self.outputs + self.code


@dataclass(frozen=True)
class Padding:
    """The padding that tiling adds to the arrays of one layer.

    Attributes:
        layer: Its path, or a name in brackets.
        written_bytes: Bytes of all arrays of the layer that a step reads or creates, unpadded.
        laid_out_bytes: The same with padding. The arrays do not exist at the same time, so the sum
            shows which fraction of the traffic is padding, not how much memory.
    """

    layer: str
    written_bytes: int
    laid_out_bytes: int

    @property
    def wasted_bytes(self) -> int:
        """Bytes of padding."""
        return self.laid_out_bytes - self.written_bytes


def memory_of(program: Program, sizes: Mapping[str, int], module: str) -> Memory:
    """Splits the compiler's sizes by purpose.

    Total = argument + output - alias + temp + generated code. An alias is an output that is written
    in place of an argument, such as a weight.

    Args:
        program: The compiled program.
        sizes: The compiler's "argument", "output", "alias", "temp" and "generated_code", in bytes.
        module: Text of the optimized module.

    Raises:
        ValueError: If the arguments of the compiled program differ from those of `program`.
    """
    given = argument_arrays(module)
    laid_out = sum(array.laid_out_bytes for array in given)
    if len(given) != len(program.arguments) or laid_out != sizes["argument"]:
        raise ValueError(
            f"`module` must have the {len(program.arguments)} arguments of the step, of "
            f"{sizes['argument']} bytes. Received: {len(given)} arguments of {laid_out} bytes. "
            "Report this as a bug, with the program."
        )
    by_kind: defaultdict[str, int] = defaultdict(int)
    for argument, array in zip(program.arguments, given, strict=True):
        by_kind[argument.kind] += array.laid_out_bytes
    return Memory(
        parameters=by_kind[PARAMETERS],
        optimizer=by_kind[OPTIMIZER_STATE],
        metrics=by_kind[METRICS],
        batch=by_kind[BATCH],
        temporaries=sizes["temp"],
        outputs=sizes["output"] - sizes["alias"],
        code=sizes["generated_code"],
    )


def padding_by_layer(program: Program, module: str) -> list[Padding]:
    """Returns the padding of each layer, the largest first.

    Args:
        program: The compiled program.
        module: Text of the optimized module.
    """
    written: defaultdict[str, int] = defaultdict(int)
    laid_out: defaultdict[str, int] = defaultdict(int)

    def count(layer: str, bytes_written: int, bytes_laid_out: int) -> None:
        written[layer] += bytes_written
        laid_out[layer] += bytes_laid_out

    for argument, array in zip(program.arguments, argument_arrays(module), strict=True):
        optimizers = OPTIMIZER if argument.kind == OPTIMIZER_STATE else f"({argument.kind})"
        count(argument.layer or optimizers, array.written_bytes, array.laid_out_bytes)
    for made in arrays_made(module):
        layer = program.layer_of(made.operation)
        count(layer, made.array.written_bytes, made.array.laid_out_bytes)
    rows = [Padding(layer, written[layer], laid_out[layer]) for layer in written]
    return sorted(rows, key=lambda row: row.wasted_bytes, reverse=True)


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
    """One of the largest arrays that the compiler could not location.

    Attributes:
        layer: Path of the layer that creates it, or a name in brackets.
        shape: Its shape in XLA's notation.
        bytes: Its size with padding.
        unpadded_bytes: Its size without padding.
    """

    layer: str
    shape: str
    bytes: int
    unpadded_bytes: int


@dataclass(frozen=True)
class OutOfMemory:
    """How much memory is missing for a step.

    Attributes:
        needed_bytes: Main memory of one replica that the step needs; 0 if not reported.
        needed_for: The part of the step that needs it, as the compiler reports it; "" for all.
        offered_bytes: Main memory of one replica; 0 if not reported.
        largest: The largest buffers that the compiler reports; if none, the largest traced array of
            each layer.
        is_named_by_compiler: Whether the compiler reports any buffers.
    """

    needed_bytes: int
    offered_bytes: int
    largest: tuple[Buffer, ...]
    needed_for: str = ""
    is_named_by_compiler: bool = True


def read_out_of_memory(message: str, program: Program) -> OutOfMemory:
    """Parses the compiler's message about missing memory.

    Args:
        message: The message of an answer of kind "out_of_memory".
        program: The program that was compiled.
    """
    used = next((found for found in (form.search(message) for form in _USED) if found), None)
    starts = [found.start() for found in _ALLOCATION.finditer(message)]
    entries = [message[a:b] for a, b in zip(starts, [*starts[1:], len(message)], strict=False)]
    named = tuple(_buffer(entry, program) for entry in entries)
    by_layer: dict[str, int] = {}
    for operation, size in program.largest:
        by_layer.setdefault(program.layer_of(operation), size)
    # Of equal sizes a layer comes before the loss, whose arrays are as large as its inputs.
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
    """Returns the bytes of a size in XLA's notation, which is rounded to a few digits.

    Args:
        text: A number with a power of 1024, such as "15.75G".

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
