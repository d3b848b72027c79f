"""Level 2 of a preflight: the user's model, traced with its all-reduces and compiled for a chip."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strategies.extension import support
from tfscale.preflight.ahead_of_time.compilation import ChipCompiler
from tfscale.preflight.ahead_of_time.environment import (
    cache_folder,
    environment_python,
    make_environment,
)
from tfscale.preflight.ahead_of_time.fitting import Fitting, find_largest, fitting
from tfscale.preflight.ahead_of_time.replica_of_many import ReplicaOfMany
from tfscale.preflight.ahead_of_time.tracing import program_maker
from tfscale.preflight.batches import replica_batch
from tfscale.preflight.target import Target
from tfscale.verify.user_model import Subject


@dataclass(frozen=True)
class AheadOfTime:
    """What is asked of level 2.

    Attributes:
        python: The interpreter of the environment that compiles.
        searches_largest: Whether to look for the largest batch that fits: many compilations.
        timeout_seconds: Deadline of each compilation. Positive.
    """

    python: Path
    searches_largest: bool = False
    timeout_seconds: float = 1800.0


def asked_by(arguments: argparse.Namespace, say: Callable[[str], None]) -> AheadOfTime | None:
    """Returns what the flags ask for; makes the environment where they say so.

    Args:
        arguments: Of `flags.add_flags`.
        say: Told of the making.

    Raises:
        NoEnvironment: If there is no environment, or it cannot be made.
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
    subject: Subject,
    target: Target,
    asked: AheadOfTime,
    *,
    batch_size: int,
    say: Callable[[str], None],
) -> Fitting:
    """Builds a model, traces its step with the all-reduces of all replicas, compiles it for a chip.

    Args:
        subject: The user's function.
        target: The chips; not "cpu".
        asked: See there.
        batch_size: Examples of a global batch where the data are arrays. Positive.
        say: Told what is going on.

    Raises:
        CompilerFailed: If a compilation does not end in time.
        WrongUsage: If the function cannot be called or returns something else.
    """
    strategy = support(ReplicaOfMany(target.num_replicas))
    with strategy.scope():
        model, data = subject.build()
        batch = replica_batch(data, target.num_replicas, batch_size, None)
    model.jit_compile = False  # level 1 tells of it; a TPU compiles the whole step
    compiler = ChipCompiler(
        asked.python,
        target,
        cache_folder() / "compiled",
        timeout_seconds=asked.timeout_seconds,
        say=say,
    )
    make = program_maker(model, batch.spec, say, rows_vary=batch.rows_vary)
    result = fitting(make(batch.rows), target, compiler)
    if asked.searches_largest and not result.refusal:
        result.largest = find_largest(result, make, compiler, say)
    return result
