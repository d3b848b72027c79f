"""What a compiled step takes of a replica's memory, by what it is for and by layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tfscale.preflight.ahead_of_time.modules import argument_arrays, arrays_made
from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    METRICS,
    OPTIMIZER,
    OPTIMIZER_STATE,
    PARAMETERS,
    Program,
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one replica's main memory (HBM), padding included.

    Attributes:
        parameters: Weights and the state of random numbers.
        optimizer: The optimizer's slots.
        metrics: What metrics and the loss remember.
        batch: The examples.
        temporaries: What the step computes on the way: activations, gradients, buffers of the
            all-reduces. The most at any one time.
        outputs: What it returns and does not write in place of an argument.
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
        """All of it."""
        kept = self.parameters + self.optimizer + self.metrics + self.batch
        return kept + self.temporaries + self.outputs + self.code


@dataclass(frozen=True)
class Padding:
    """What tiling adds to the arrays of one layer.

    Attributes:
        layer: Its path, or a name in brackets.
        written_bytes: All arrays of the layer that a step reads or makes, as numbers.
        laid_out_bytes: The same as they lie in memory. They do not live at one time: the sum says
            what share of the traffic is padding, and not how much memory is.
    """

    layer: str
    written_bytes: int
    laid_out_bytes: int

    @property
    def wasted_bytes(self) -> int:
        """Bytes that hold nothing."""
        return self.laid_out_bytes - self.written_bytes


def memory_of(program: Program, sizes: Mapping[str, int], module: str) -> Memory:
    """Splits what the compiler counted.

    Total = argument + output - alias + temp + generated code; an alias is an output that is written
    in place of an argument, as a weight is.

    Args:
        program: What was compiled.
        sizes: The compiler's "argument", "output", "alias", "temp" and "generated_code", in bytes.
        module: Text of the optimized module.

    Raises:
        ValueError: If the compiled program takes other arguments than `program` names.
    """
    given = argument_arrays(module)
    laid_out = sum(array.laid_out_bytes for array in given)
    if len(given) != len(program.arguments) or laid_out != sizes["argument"]:
        raise ValueError(
            f"`module` must take the {len(program.arguments)} arguments of the step, of "
            f"{sizes['argument']} bytes. Received: {len(given)} arguments of {laid_out} bytes. "
            "Report it, with the program."
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
    """Returns what tiling adds, layer by layer, the most wasteful first.

    Args:
        program: What was compiled.
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
