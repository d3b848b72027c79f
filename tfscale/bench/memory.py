"""`tfscale bench memory`: resident memory of each process, beside what the model itself needs."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tfscale.bench.contestant import Contestant, Memory, Missing
from tfscale.bench.flags import add_turn_arguments, add_variants_argument
from tfscale.bench.machine import Machine
from tfscale.bench.models import MODELS, model_named
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.peers.environment import peer_versions
from tfscale.bench.variant import TORCH_PROGRAM, Race, Variant

SUMMARY = "measure the memory of each process, beside what the model itself needs"

_DESCRIPTION = """\
Measures the resident memory of training processes, one variant after another: the peak of the
largest process, its memory after the last turn, and the peaks of all processes together. The need
is that of one replica: parameters, gradients, Adam's two slots and one batch. Most of a small
model's memory is that of the libraries, which have rows too.
"""
_EPILOG = """\
examples:
  tfscale bench memory                                 three built-in models
  tfscale bench memory --models=mlp --variants=imported,one_device,mirrored --json

exit status: 0 measured, 1 a variant failed, 2 wrong usage.
"""

_PROGRAM = "tfscale.bench.memory_child"
VARIANTS = (
    Variant("imported", "TensorFlow and Keras, no model", program=_PROGRAM),
    Variant("stock", "fit, no strategy", peer="imported", program=_PROGRAM),
    Variant("one_device", "fit, one_device_strategy", peer="stock", program=_PROGRAM),
    Variant("mirrored", "fit, mirrored_strategy(2)", peer="stock", program=_PROGRAM),
    Variant(
        "workers",
        "fit, multi_worker_mirrored_strategy, 2 workers",
        peer="stock",
        num_workers=2,
        program=_PROGRAM,
    ),
    Variant("torch_imported", "PyTorch, no model", program=TORCH_PROGRAM, requires="torch"),
    Variant("torch", "PyTorch", peer="torch_imported", program=TORCH_PROGRAM, requires="torch"),
    Variant(
        "torch_ddp",
        "PyTorch, DDP with gloo, 2 workers",
        peer="torch",
        num_workers=2,
        program=TORCH_PROGRAM,
        requires="torch",
    ),
)
LIBRARIES = ("imported", "torch_imported")
"""The variants that train nothing. To be measured before the others."""
_MIB = 2**20
_COPIES = 4
"""Parameters, gradients and two slots of Adam."""
_FLOAT_BYTES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench memory`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add_memory_arguments(parser, VARIANTS)


def add_memory_arguments(parser: argparse.ArgumentParser, variants: Sequence[Variant]) -> None:
    """Adds the flags that choose models, variants and turns.

    Args:
        parser: The parser to add them to.
        variants: The variants to choose from.
    """

    def chosen(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(text.split(",")))
        try:
            for name in names:
                model_named(name)
        except KeyError:
            raise argparse.ArgumentTypeError(
                f"must be names of {', '.join(MODELS)} or mlp_N, separated by commas. "
                f"Received: {text!r}"
            ) from None
        return names

    parser.add_argument(
        "--models",
        type=chosen,
        default=("mlp", "transformer", "mlp_10000000"),
        metavar="NAMES",
        help=f"built-in models: names of {','.join(MODELS)}, or mlp_N for an MLP of about N "
        "parameters (default: mlp,transformer,mlp_10000000)",
    )
    add_variants_argument(parser, variants)
    add_turn_arguments(parser, rounds=3)


def subject(arguments: argparse.Namespace) -> str:
    """Returns what is measured: only runs of one subject are compared."""
    return ",".join(arguments.models)


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Measures the variants that the flags choose.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        Failed: If a variant cannot be measured.
    """
    threads = arguments.threads or os.cpu_count() or 1
    machine = Machine.of_this_host()
    rows: list[Row] = []
    for name in arguments.models:
        seconds = arguments.timeout_seconds
        steps = model_named(name).steps
        race = Race(name, "", arguments.rounds, steps, 1, 32, threads, seconds, seconds)
        rows.append(_need(name))
        libraries: dict[str, float] = {}
        for variant in arguments.variants:
            try:
                row = _row(variant, race, measured(variant, race), libraries)
            except Missing as error:
                row = _row(variant, race, (), libraries, str(error))
            rows.append(row)
            found = f"{row.rounds[0]:.0f} MiB" if row.rounds else f"skipped: {row.skipped}"
            say(f"{name}, {variant.name}: {found}")
    return Outcome(
        kind="memory",
        subject=subject(arguments),
        text=f"peak resident memory of the largest process, after {arguments.rounds + 1} turns",
        settings={
            "models": list(arguments.models),
            "rounds": arguments.rounds,
            "threads": threads,
            "timeout_seconds": arguments.timeout_seconds,
        },
        machine=machine.at_end(peer_versions()),
        rows=tuple(rows),
        notes=(
            "Beyond libraries is the peak without that of a process that only imports them. Steady "
            "is the memory of the largest process after its last turn, all the sum of the peaks of "
            "all processes. Pages that processes share count for each of them.",
        ),
    )


def measured(variant: Variant, race: Race) -> Sequence[Memory]:
    """Trains a variant for all turns and returns the memory of each of its processes.

    Args:
        variant: The variant.
        race: What is trained, and how long.

    Raises:
        Missing: If the variant needs something that is not installed.
        Failed: If it cannot be trained.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        contestant = Contestant(variant, race, Path(folder))
        try:
            contestant.wait_until_ready()
            for _ in range(race.rounds):
                contestant.take_turn()
        finally:
            contestant.end()
        return contestant.memory


def needed_bytes(model: str) -> int:
    """Returns what a replica needs: parameters, gradients, Adam's slots and one batch.

    Args:
        model: A name that `model_named` accepts.
    """
    named = model_named(model)
    batch = sum(part.nbytes for part in named.examples(named.batch_size))
    return named.parameters * _FLOAT_BYTES * _COPIES + int(batch)


def _need(model: str) -> Row:
    need = needed_bytes(model) / _MIB
    return Row(f"need, {model}", "of one replica, in theory", "MiB", (need,), group=model)


def _row(
    variant: Variant,
    race: Race,
    memory: Sequence[Memory],
    libraries: dict[str, float],
    skipped: str = "",
) -> Row:
    """Returns the row of a variant; keeps the MiB of the libraries by what a variant requires."""
    threads = race.threads_of(variant.processes)
    facts: dict[str, float | str] = {
        "threads": f"{variant.processes} x {threads}" if variant.processes > 1 else str(threads)
    }
    rounds: tuple[float, ...] = ()
    if memory:
        rounds = (max(each.peak_bytes for each in memory) / _MIB,)
        if variant.name in LIBRARIES:
            libraries[variant.requires] = rounds[0]
        elif variant.requires in libraries:
            facts["beyond libraries"] = round(rounds[0] - libraries[variant.requires])
        facts["steady"] = round(max(each.resident_bytes for each in memory) / _MIB)
        facts["all"] = round(sum(each.peak_bytes for each in memory) / _MIB)
        if any(each.device_bytes for each in memory):
            facts["GPU"] = round(max(each.device_bytes for each in memory) / _MIB)
    return Row(
        name=f"{variant.name}, {race.model}",
        text=variant.text,
        unit="MiB",
        rounds=rounds,
        peer=variant.peer and f"{variant.peer}, {race.model}",
        facts=facts,
        group=race.model,
        skipped=skipped,
    )
