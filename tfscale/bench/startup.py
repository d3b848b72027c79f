"""`tfscale bench startup`: times cold starts, from the command to the end of one training step."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfscale.bench.contestant import Failed, command_of, environment_of, last_line
from tfscale.bench.flags import add_turn_arguments, add_variants_argument
from tfscale.bench.machine import Machine
from tfscale.bench.models import MODELS
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.peers.environment import peer_versions, reason_missing
from tfscale.bench.starting.phases import PHASES, Start, slowest
from tfscale.bench.variant import Variant

SUMMARY = "time cold starts, from the command to the end of one training step"

_DESCRIPTION = """\
Starts a program again and again, and times it from the command to the end of its first training
step, which is when its slowest worker has ended it. Processor time is that of all processes, with
the launcher's, to their end. The columns of the phases are medians of the slowest worker: the
launcher and the interpreter, imports, the strategy or process group with the wait for the other
workers, model and data, and the step itself.
"""
_EPILOG = """\
examples:
  tfscale bench startup                                all variants, the built-in model mlp
  tfscale bench startup --variants=torchrun,workers --rounds=10 --json

exit status: 0 timed (goals are informational), 1 a variant failed, 2 wrong usage.
"""

_PROGRAM = "tfscale.bench.starting.tensorflow_start"
_TORCH = "tfscale.bench.peers.torch_start"
VARIANTS = (
    Variant("stock", "fit, no strategy", program=_PROGRAM),
    Variant("one_device", "fit, one_device_strategy", peer="stock", program=_PROGRAM),
    Variant("torch", "PyTorch", peer="stock", program=_TORCH, requires="torch"),
    Variant(
        "torchrun",
        "PyTorch, torchrun and DDP, 2 workers",
        num_workers=2,
        program=_TORCH,
        requires="torch",
    ),
    Variant(
        "workers",
        "fit, tfscale launch, 2 workers",
        peer="torchrun",
        goal=1.2,
        num_workers=2,
        program=_PROGRAM,
    ),
)


@dataclass(frozen=True)
class Taken:
    """What a start took.

    Attributes:
        processor_seconds: User and system time of all processes to their end.
        phases: Seconds of each phase of the slowest worker.
    """

    processor_seconds: float
    phases: dict[str, float]

    @property
    def seconds(self) -> float:
        """Wall time from the command to the end of the first step."""
        return sum(self.phases.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench startup`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_start_arguments(parser, VARIANTS)


def add_start_arguments(parser: argparse.ArgumentParser, variants: Sequence[Variant]) -> None:
    """Adds the flags that choose variants and rounds.

    Args:
        parser: The parser to add them to.
        variants: The variants to choose from.
    """
    models = tuple(name for name in MODELS if name != "cnn")
    parser.add_argument(
        "--model", choices=models, default="mlp", help="a built-in model (default: mlp)"
    )
    add_variants_argument(parser, variants)
    add_turn_arguments(parser, rounds=6)


def subject(arguments: argparse.Namespace) -> str:
    """Returns what is measured: only runs of one subject are compared."""
    model: str = arguments.model
    return model


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Times the starts that the flags choose.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        Failed: If a variant does not end its step.
    """
    start = Start(
        arguments.model, arguments.threads or os.cpu_count() or 1, arguments.timeout_seconds
    )
    machine = Machine.of_this_host()
    missing = {v.name: reason_missing(v.requires) for v in arguments.variants if v.requires}
    missing = {name: reason for name, reason in missing.items() if reason}
    for name, reason in missing.items():
        say(f"{name}: skipped: {reason}")
    starts: dict[str, list[Taken]] = {v.name: [] for v in arguments.variants}
    for number in range(arguments.rounds):
        for variant in arguments.variants:
            if variant.name not in missing:
                starts[variant.name].append(started(variant, start))
        times = ", ".join(f"{n} {taken[-1].seconds:.2f}" for n, taken in starts.items() if taken)
        say(f"round {number + 1} of {arguments.rounds}, s: {times}")
    counted = arguments.rounds - 1
    return Outcome(
        kind="startup",
        subject=subject(arguments),
        text=f"{start.model} ({MODELS[start.model].text}): from the command to the end of the "
        f"first step, median of {counted} start{'s' if counted > 1 else ''} "
        f"({arguments.rounds} run, the first dropped)",
        settings={**dataclasses.asdict(start), "rounds": arguments.rounds},
        machine=machine.at_end(peer_versions()),
        rows=tuple(
            _row(variant, start, starts[variant.name][1:], missing.get(variant.name, ""))
            for variant in arguments.variants
        ),
    )


def started(variant: Variant, start: Start) -> Taken:
    """Starts a variant once and waits for its end.

    Args:
        variant: The variant.
        start: What its processes are given.

    Raises:
        Failed: If it fails, or takes longer than the deadline.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        before = _processor_seconds_of_children()
        start = dataclasses.replace(start, started=time.time())
        process = subprocess.Popen(
            command_of(variant, start, Path(folder)),
            env=environment_of(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=start.timeout_seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{variant.name}: no end in {start.timeout_seconds:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            raise Failed(
                f"{variant.name}: the process ended with status {process.returncode}. "
                f"Last line printed: {last_line(printed.decode(errors='replace'))}"
            )
        spent = _processor_seconds_of_children() - before
        try:
            return Taken(spent, slowest(Path(folder), variant.processes))
        except ValueError as error:
            raise Failed(f"{variant.name}: {error}") from error


def _processor_seconds_of_children() -> float:
    """Of all that have ended, with the descendants that they waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _row(variant: Variant, start: Start, starts: Sequence[Taken], skipped: str) -> Row:
    threads = start.threads_of(variant.processes)
    facts: dict[str, float | str] = {
        "threads": f"{variant.processes} x {threads}" if variant.processes > 1 else str(threads)
    }
    if starts:
        for phase in PHASES:
            facts[phase] = statistics.median(taken.phases[phase] for taken in starts)
    return Row(
        name=variant.name,
        text=variant.text,
        unit="s",
        rounds=tuple(taken.seconds for taken in starts),
        processor=tuple(taken.processor_seconds for taken in starts),
        peer=variant.peer,
        goal=variant.goal,
        facts=facts,
        skipped=skipped,
    )
