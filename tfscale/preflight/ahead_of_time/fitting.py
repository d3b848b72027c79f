"""Does a step fit on a chip: the compiler asked, its answer read."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

from tfscale.preflight.ahead_of_time.compilation import ChipCompiler, CompilerFailed
from tfscale.preflight.ahead_of_time.largest_batch import LargestBatch, largest_batch
from tfscale.preflight.ahead_of_time.memory import (
    Memory,
    Padding,
    memory_of,
    padding_by_layer,
)
from tfscale.preflight.ahead_of_time.out_of_memory import OutOfMemory, read_out_of_memory
from tfscale.preflight.ahead_of_time.program import Program
from tfscale.preflight.target import Target


@dataclass
class Fitting:
    """What the compiler for a chip said of a step.

    Attributes:
        target: The chips.
        rows: Examples of one replica. Positive.
        memory: What it takes, where it compiles.
        padding: What tiling adds, by layer, where it compiles.
        unread: Why `padding` holds the arguments alone, or "".
        shortage: Why it does not fit, where memory is the reason.
        refusal: The compiler's words where it refuses for another reason.
        largest: The largest batch that fits, where it was searched for.
        seconds: What the compilation took, when it was done.
        is_cached: Whether it was done before.
        versions: Of JAX and libtpu.
        date: Today, in UTC.
    """

    target: Target
    rows: int
    memory: Memory | None = None
    padding: list[Padding] = field(default_factory=list)
    unread: str = ""
    shortage: OutOfMemory | None = None
    refusal: str = ""
    largest: LargestBatch | None = None
    seconds: float = 0.0
    is_cached: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    date: str = field(default_factory=lambda: str(datetime.datetime.now(datetime.UTC).date()))

    @property
    def is_fine(self) -> bool:
        """Whether it compiles and fits."""
        return self.memory is not None


def fitting(program: Program, target: Target, compiler: ChipCompiler) -> Fitting:
    """Compiles a step for a chip and reads what it takes there.

    Args:
        program: The step.
        target: What `compiler` compiles for.
        compiler: Asked once.

    Raises:
        CompilerFailed: If it does not answer in time.
    """
    answer = compiler.compile(program)
    result = Fitting(
        target,
        program.rows,
        seconds=answer.seconds,
        is_cached=answer.is_cached,
        versions=answer.versions,
    )
    if answer.kind == "compiled":
        result.memory = memory_of(program, answer.sizes, answer.module)
        result.padding = padding_by_layer(program, answer.module)
        result.unread = answer.message
    elif answer.kind == "out_of_memory":
        result.shortage = read_out_of_memory(answer.message, program)
    else:
        result.refusal = answer.message
    return result


def find_largest(
    first: Fitting,
    make: Callable[[int], Program],
    compiler: ChipCompiler,
    say: Callable[[str], None],
) -> LargestBatch:
    """Searches for the largest batch that fits, beginning with one whose answer is known.

    Args:
        first: That answer: it fits, or memory is the reason why not.
        make: Traces the step for so many examples of one replica.
        compiler: Asked once a size.
        say: Told of each answer.

    Raises:
        CompilerFailed: If the compiler does not answer, or refuses a size for another reason.
    """

    def fits(rows: int) -> bool:
        tried = first if rows == first.rows else fitting(make(rows), first.target, compiler)
        if tried.refusal:
            raise CompilerFailed(f"with {rows} examples: {tried.refusal}")
        say(f"{rows} examples of a replica {'fit' if tried.is_fine else 'do not fit'}")
        return tried.is_fine

    return largest_batch(fits, first.rows)
