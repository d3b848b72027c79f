"""Finds out with the chip's compiler whether a step fits on a chip."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from strategies.extension import support
from tfscale.preflight.ahead_of_time.compilation import ChipCompiler, CompilerFailed
from tfscale.preflight.ahead_of_time.environment import (
    cache_folder,
    environment_python,
    make_environment,
)
from tfscale.preflight.ahead_of_time.memory import (
    Memory,
    OutOfMemory,
    Padding,
    memory_of,
    padding_by_layer,
    read_out_of_memory,
)
from tfscale.preflight.ahead_of_time.program import Program
from tfscale.preflight.ahead_of_time.tracing import ReplicaOfMany, program_maker
from tfscale.preflight.batches import replica_batch
from tfscale.preflight.target import Target
from tfscale.verify.user_model import UserModel

COARSENESS = 16
"""The search stops at a sixteenth of the batch size, because a compilation takes minutes."""

_LARGEST = 2**20


@dataclass(frozen=True)
class LargestBatch:
    """The result of a search for the largest batch.

    Attributes:
        rows: Most examples per replica that fit; 0 if not even one does.
        refused_rows: Fewest tried examples per replica that do not fit; None if all fit.
    """

    rows: int
    refused_rows: int | None


def largest_batch(fits: Callable[[int], bool], first: int, *, most: int = _LARGEST) -> LargestBatch:
    """Searches for the largest batch for which `fits` is true.

    Doubles or halves from `first` until the answer changes, then bisects until the two sizes differ
    by a sixteenth or by one. Assumes that smaller batches fit if a larger one does.

    Args:
        fits: Returns whether the given number of examples fits. Called at most once per size.
        first: Examples to begin with, from 1 to `most`.
        most: Largest number of examples to try.

    Raises:
        ValueError: If `first` is out of range.

    Example:
        >>> largest_batch(lambda rows: rows <= 100, first=8)
        LargestBatch(rows=100, refused_rows=104)
    """
    if not 1 <= first <= most:
        raise ValueError(
            f"`first` must be between 1 and {most}. Received: first={first!r}. Begin with the "
            "batch size of your training."
        )
    low, high = (first, 0) if fits(first) else (0, first)
    while not high:
        if low == most:
            return LargestBatch(low, None)
        tried = min(2 * low, most)
        low, high = (tried, 0) if fits(tried) else (low, tried)
    while not low:
        if high == 1:
            return LargestBatch(0, 1)
        tried = high // 2
        low, high = (tried, high) if fits(tried) else (0, tried)
    while high - low > max(1, low // COARSENESS):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return LargestBatch(low, high)


@dataclass
class Fitting:
    """The result of compiling a step for a chip.

    Attributes:
        target: The chips.
        rows: Examples of one replica. Positive.
        memory: The memory of the step, or None if it does not compile.
        padding: What tiling adds, by layer, if it compiles.
        unread: Why `padding` covers only the arguments, or "".
        shortage: The missing memory, or None if memory is not the problem.
        refusal: The compiler's error if it fails for another reason, or "".
        largest: The largest batch that fits, if it was searched for.
        seconds: Seconds that the compilation took when it was run.
        is_cached: Whether the answer comes from the cache.
        versions: The versions of JAX and libtpu.
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
        """Whether the step compiles and fits."""
        return self.memory is not None


def fitting(program: Program, target: Target, compiler: ChipCompiler) -> Fitting:
    """Compiles a step for a chip and reads its memory.

    Args:
        program: The step.
        target: The target of `compiler`.
        compiler: The compiler, which is called once.

    Raises:
        CompilerFailed: If the compiler crashes or exceeds its deadline.
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
    """Searches for the largest batch that fits, starting from a known result.

    Args:
        first: The known result: it fits, or memory is the reason why not.
        make: Traces the step for the given number of examples per replica.
        compiler: The compiler, which is called once per size.
        say: Called with a line for each result.

    Raises:
        CompilerFailed: If the compiler crashes, exceeds its deadline, or fails for another reason.
    """

    def fits(rows: int) -> bool:
        tried = first if rows == first.rows else fitting(make(rows), first.target, compiler)
        if tried.refusal:
            raise CompilerFailed(f"with {rows} examples: {tried.refusal}")
        say(f"{rows} examples per replica {'fit' if tried.is_fine else 'do not fit'}")
        return tried.is_fine

    return largest_batch(fits, first.rows)


@dataclass(frozen=True)
class AheadOfTime:
    """The settings of ahead-of-time compilation.

    Attributes:
        python: The Python interpreter of the compiler's environment.
        searches_largest: Whether to search for the largest batch that fits (many compilations).
        timeout_seconds: Deadline of each compilation. Positive.
    """

    python: Path
    searches_largest: bool = False
    timeout_seconds: float = 1800.0


def requested_by(arguments: argparse.Namespace, say: Callable[[str], None]) -> AheadOfTime | None:
    """Returns the settings that the flags give, or None. Creates the environment if requested.

    Args:
        arguments: Parsed flags.
        say: Called with each line of progress.

    Raises:
        NoEnvironment: If there is no environment, or it cannot be created.
    """
    if not arguments.aot:
        return None
    if arguments.make_environment:
        make_environment(arguments.environment, say)
    return AheadOfTime(
        python=environment_python(arguments.environment),
        searches_largest=arguments.largest_batch,
        timeout_seconds=arguments.timeout_seconds,
    )


def compile_ahead(
    user_model: UserModel,
    target: Target,
    settings: AheadOfTime,
    *,
    batch_size: int,
    say: Callable[[str], None],
) -> Fitting:
    """Builds the user's model, traces its step with all-reduces, and compiles it for a chip.

    Args:
        user_model: The user's function.
        target: The chips; not "cpu".
        settings: The settings.
        batch_size: Examples of a global batch if the data are arrays. Positive.
        say: Called with each line of progress.

    Raises:
        CompilerFailed: If the compiler crashes or exceeds its deadline.
        WrongUsage: If the function cannot be called or returns something else.
    """
    strategy = support(ReplicaOfMany(target.num_replicas))
    with strategy.scope():
        model, data = user_model.build()
        batch = replica_batch(data, target.num_replicas, batch_size, None)
    model.jit_compile = False  # reported by level 1; a TPU compiles the whole step
    compiler = ChipCompiler(
        settings.python,
        target,
        cache_folder() / "compiled",
        timeout_seconds=settings.timeout_seconds,
        say=say,
    )
    make = program_maker(model, batch.spec, say, rows_vary=batch.rows_vary)
    result = fitting(make(batch.rows), target, compiler)
    if settings.searches_largest and not result.refusal:
        result.largest = find_largest(result, make, compiler, say)
    return result
