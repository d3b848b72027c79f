"""`tfscale bench all_reduce`: times sums over the workers of one host, engine by engine."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfscale.bench.collectives.reduction import Reduction, calls_of, size_name, size_of
from tfscale.bench.contestant import Contestant, Missing, Turn
from tfscale.bench.flags import add_turn_arguments, add_variants_argument
from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.peers.environment import peer_versions
from tfscale.bench.variant import Variant
from tfscale.cli.arguments import count

SUMMARY = "time an all-reduce of several sizes on two workers, engine by engine"

_DESCRIPTION = """\
Times an all-reduce between the workers of this host: inside a tf.function under the strategy of
tfscale and under TensorFlow's, and that of the peers. A turn is a chain of all-reduces of one size.
Processor time is that of all workers together. The limits move the same number of bytes without
adding: one copy in every process at a time, and TCP in both directions at a time.
"""
_EPILOG = """\
examples:
  tfscale bench all_reduce                             all engines; 1 KB, 1 MB, 25 MB, 100 MB
  tfscale bench all_reduce --sizes=4KB,8MB --engines=tensorflow,ring --json

exit status: 0 measured (goals are informational), 1 an engine failed, 2 wrong usage.
"""

_OURS = "tfscale.bench.collectives.tensorflow_engines"
_LIMITS = "tfscale.bench.collectives.physical_limits"
_PEERS = "tfscale.bench.peers"

ENGINES = (
    Variant("tensorflow", "stock strategy, gRPC ring", None, None, 2, _OURS, limit="tcp"),
    Variant("ring", "ours, gRPC ring", "tensorflow", None, 2, _OURS, limit="tcp"),
    Variant("mpi", "ours, MPI", "tensorflow", None, 2, _OURS, limit="memcpy"),
    Variant(
        "gloo",
        "torch.distributed",
        peer="tensorflow",
        num_workers=2,
        program=f"{_PEERS}.torch_all_reduce",
        limit="tcp",
        requires="torch",
    ),
    Variant(
        "mpi4py",
        "Allreduce in place",
        peer="tensorflow",
        num_workers=2,
        program=f"{_PEERS}.mpi_all_reduce",
        limit="memcpy",
        requires="mpi4py",
    ),
    Variant("tcp", "limit: loopback, both directions", num_workers=2, program=_LIMITS),
    Variant("memcpy", "limit: a copy in every process", num_workers=2, program=_LIMITS),
)
GOALS: Mapping[tuple[str, str], float] = {("mpi", "1 KB"): 0.1, ("mpi", "25 MB"): 0.4}
"""By engine and size, the largest ratio to TensorFlow's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench all_reduce`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_engine_arguments(parser, ENGINES)


def add_engine_arguments(parser: argparse.ArgumentParser, variants: Sequence[Variant]) -> None:
    """Adds the flags that choose engines, sizes and rounds.

    Args:
        parser: The parser to add them to.
        variants: The engines to choose from.
    """

    def sizes(text: str) -> tuple[int, ...]:
        try:
            return tuple(dict.fromkeys(size_of(each) for each in text.split(",")))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    add_variants_argument(parser, variants, "--engines")
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=sizes("1KB,1MB,25MB,100MB"),
        metavar="SIZES",
        help="bytes to add up, in units of 2^10 or 2^20 (default: 1KB,1MB,25MB,100MB)",
    )
    parser.add_argument(
        "--num_workers", type=count, default=2, metavar="N", help="workers (default: 2)"
    )
    add_turn_arguments(parser)


def subject(arguments: argparse.Namespace) -> str:
    """Returns what is measured: only runs of one subject are compared."""
    return f"{arguments.num_workers} workers"


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Times the engines that the flags choose.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        Failed: If an engine cannot be timed.
    """
    timeout = arguments.timeout_seconds
    reduction = Reduction(
        sizes=arguments.sizes,
        rounds=arguments.rounds,
        threads=arguments.threads or os.cpu_count() or 1,
        timeout_seconds=timeout,
        patience_seconds=timeout * (len(arguments.engines) + 1),
    )
    engines = [
        dataclasses.replace(engine, num_workers=arguments.num_workers)
        if engine.num_workers
        else engine
        for engine in arguments.engines
    ]
    machine = Machine.of_this_host()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        turns, missing = timed(reduction, engines, Path(folder), say)
    counted = reduction.rounds - 1
    return Outcome(
        kind="all_reduce",
        subject=subject(arguments),
        text=f"all-reduce of float32 between {arguments.num_workers} workers with "
        f"{reduction.threads_of(arguments.num_workers)} threads each, median of {counted} "
        f"round{'s' if counted > 1 else ''} ({reduction.rounds} run, the first dropped)",
        settings={**dataclasses.asdict(reduction), "num_workers": arguments.num_workers},
        machine=machine.at_end(peer_versions()),
        rows=tuple(
            _row(engine, size, turns, missing) for size in reduction.sizes for engine in engines
        ),
        notes=("Efficiency is the time of the limit divided by the time of the row.",),
    )


def timed(
    reduction: Reduction, engines: Sequence[Variant], folder: Path, say: Callable[[str], None]
) -> tuple[dict[tuple[str, int], list[Turn]], dict[str, str]]:
    """Warms up the processes of all engines, then lets them take turns, size by size.

    Args:
        reduction: Sizes and rounds.
        engines: At least one, with different names.
        folder: An empty folder for sockets and logs, with a short path. Readable by this user only.
        say: Called with each line of progress.

    Returns:
        The turns of each engine and size, without the first round; and why an engine is missing.

    Raises:
        Failed: If an engine cannot be timed. The others are ended too.
    """
    turns: dict[tuple[str, int], list[Turn]] = {}
    contestants: dict[str, Contestant] = {}
    missing: dict[str, str] = {}
    try:
        for engine in engines:
            contestants[engine.name] = Contestant(engine, reduction, folder)
        for name, contestant in tuple(contestants.items()):
            try:
                contestant.wait_until_ready()
            except Missing as error:
                missing[name] = str(error)
                say(f"{name}: skipped: {error}")
                contestants.pop(name).end()
            else:
                say(f"{name}: ready")
        for number in range(reduction.rounds):
            for size in reduction.sizes:
                for name, contestant in contestants.items():
                    turns.setdefault((name, size), []).append(contestant.take_turn())
            times = ", ".join(
                f"{name} {_milliseconds(turns[name, reduction.sizes[-1]][-1].seconds, size):.3g}"
                for name in contestants
            )
            say(f"round {number + 1} of {reduction.rounds}, ms for {size_name(size)}: {times}")
    finally:
        for contestant in contestants.values():
            contestant.end()
    return {key: taken[1:] for key, taken in turns.items()}, missing


def _row(
    engine: Variant,
    size: int,
    turns: Mapping[tuple[str, int], Sequence[Turn]],
    missing: Mapping[str, str],
) -> Row:
    taken = turns.get((engine.name, size), ())
    name = size_name(size)
    return Row(
        name=f"{engine.name}, {name}",
        text=engine.text,
        unit="ms",
        rounds=tuple(_milliseconds(turn.seconds, size) for turn in taken),
        processor=tuple(_milliseconds(turn.processor_seconds, size) for turn in taken),
        peer=engine.peer and f"{engine.peer}, {name}",
        goal=GOALS.get((engine.name, name)),
        limit=engine.limit and f"{engine.limit}, {name}",
        group=name,
        skipped=missing.get(engine.name, ""),
    )


def _milliseconds(turn_seconds: float, size: int) -> float:
    return 1e3 * turn_seconds / calls_of(size)
