"""`tfscale bench scaling`: step time against parameters, replicas and workers, and its law."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from strategies.extension import integers
from tfscale.bench.cost_law import CostLaw, Setup, fitted, residuals
from tfscale.bench.figures import spread
from tfscale.bench.flags import add_turn_arguments
from tfscale.bench.machine import Machine
from tfscale.bench.models import SIZED_BATCH, model_named
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.variant import Race, Variant
from tfscale.cli.arguments import count, number_type

SUMMARY = "time a step against parameters, replicas and workers, and fit a cost law"
PROGRAM = "tfscale.bench.scaling_child"

_DESCRIPTION = f"""\
Times a step of MLPs of growing width: on one device, on logical replicas of one process, and on
workers of this host. The global batch is {SIZED_BATCH} rows in all of them, so replicas and workers
divide the work and share the processors. The sizes of a model are measured one after the other, and
the setups of one size take turns. Then the law

  t = a + b sqrt(P) + c P + (d + e P) (R-1) + (f + g P) (W-1)

of P parameters, R replicas and W workers is fitted to the medians, with terms that are not
negative, and printed with its errors. Setups that need more memory than --memory_gib together are
skipped, and on a host with GPUs those that need more GPUs than there are.
"""
_EPILOG = """\
examples:
  tfscale bench scaling --html=scaling.html            several minutes; the law with its picture
  tfscale bench scaling --parameters=1e4,1e5,1e6 --replicas=1,2 --workers=1
  tfscale bench scaling --json > a.json                JSON for a program and for --against

exit status: 0 measured, 1 a setup failed, 2 wrong usage.
"""
_TURN_SECONDS = 0.4  # About how long a turn lasts on one device of a small host.
_PROCESS_BYTES = 650 * 2**20  # TensorFlow, Keras and the batches.
_BYTES_A_PARAMETER = 28  # Weight, gradient, two slots of Adam, and temporaries, float32.
_SHARE_OF_MEMORY = 0.6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench scaling`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "--parameters",
        type=_sizes,
        default=(10**4, 10**5, 10**6, 10**7, 10**8),
        metavar="NUMBERS",
        help="sizes of the model, separated by commas (default: 1e4,1e5,1e6,1e7,1e8)",
    )
    parser.add_argument(
        "--replicas",
        type=_counts,
        default=(1, 2, 4, 8),
        metavar="NUMBERS",
        help="replicas of one process; 1 is always measured (default: 1,2,4,8)",
    )
    parser.add_argument(
        "--workers",
        type=_counts,
        default=(1, 2, 3, 4),
        metavar="NUMBERS",
        help="workers of this host; 1 is one device (default: 1,2,3,4)",
    )
    parser.add_argument(
        "--memory_gib",
        type=count,
        metavar="N",
        help=f"memory of all processes (default: {_SHARE_OF_MEMORY:.0%}% of this host's)",
    )
    add_turn_arguments(parser, rounds=6)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):
        sizes = ()
    if not sizes or min(sizes) < 100 or len(set(sizes)) < len(sizes):
        raise argparse.ArgumentTypeError(
            "must be different numbers, at least 100, separated by commas. Received: "
            f"{text!r}. Example: 1e4,1e6."
        )
    return tuple(sorted(sizes))


def _counts(text: str) -> tuple[int, ...]:
    counts = {1, *(number_type(integers(at_least=1))(part) for part in text.split(","))}
    return tuple(sorted(counts))


def subject(arguments: argparse.Namespace) -> str:
    """Returns what is trained, whatever the flags are."""
    return "MLPs"


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Measures every setup that the flags describe, and fits the law.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        Failed: If a setup cannot be timed.
    """
    machine = Machine.of_this_host()
    budget = (
        arguments.memory_gib * 2**30
        if arguments.memory_gib
        else int(_SHARE_OF_MEMORY * machine.memory_bytes)
    )
    rows: list[Row] = []
    for parameters in arguments.parameters:
        setups = [
            *(Setup(parameters, replicas=replicas) for replicas in arguments.replicas),
            *(Setup(parameters, workers=workers) for workers in arguments.workers if workers > 1),
        ]
        say(f"{size_of(parameters)} parameters: {len(setups)} setups")
        rows += _measured(arguments, setups, budget, say)
    law, rows, notes = with_law(rows)
    return Outcome(
        kind="scaling",
        subject=subject(arguments),
        text=f"MLPs 64-w-w-10: global batch {SIZED_BATCH}, median of {arguments.rounds - 1} rounds "
        f"({arguments.rounds} run, the first dropped), the sizes one after the other",
        settings={
            name: getattr(arguments, name) or "default"
            for name in ("parameters", "replicas", "workers", "rounds", "threads", "memory_gib")
        },
        machine=machine.at_end(),
        rows=tuple(rows),
        notes=tuple(notes),
        law=law,
    )


def _measured(
    arguments: argparse.Namespace,
    setups: Sequence[Setup],
    budget: int,
    say: Callable[[str], None],
) -> Iterator[Row]:
    from tfscale.bench.racing import rows_of, run_race

    parameters = int(setups[0].parameters)
    raced = fitting(setups, budget)
    steps = max(2, min(200, round(_TURN_SECONDS / (0.002 + 1e-8 * parameters))))
    timeout = arguments.timeout_seconds
    race = Race(
        model=f"mlp_{parameters}",
        target="",
        rounds=arguments.rounds,
        steps=steps,
        steps_per_execution=1,
        batch_size=SIZED_BATCH,
        threads=arguments.threads or os.cpu_count() or 1,
        timeout_seconds=timeout,
        patience_seconds=timeout * (len(raced) + 1),
    )
    by_name: Mapping[str, Row] = {}
    if raced:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            variants = [_variant(setup) for setup in raced]
            rows = rows_of(run_race(race, variants, Path(folder), say))
            by_name = {row.name: row for row in rows}
    size = size_of(parameters)
    for setup in setups:
        variant = _variant(setup)
        row = by_name.get(variant.name) or Row(
            variant.name,
            variant.text,
            "ms a step",
            (),
            peer=variant.peer,
            skipped=f"needs {memory_of(setup) / 2**30:.0f} GiB beside the others",
        )
        yield dataclasses.replace(
            row,
            name=f"{row.text}, {size}",
            text="",
            peer=f"one device, {size}" if row.peer else None,
            group=f"{size} parameters ({model_named(race.model).text})",
            facts={**row.facts, **dataclasses.asdict(setup)},
        )


def size_of(parameters: float) -> str:
    """Returns a number of parameters as it is written on the command line.

    Example:
        >>> size_of(10_000), size_of(250_000)
        ('1e4', '2.5e5')
    """
    mantissa, power = f"{parameters:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(power)}"


def fitting(setups: Sequence[Setup], budget: int) -> list[Setup]:
    """Returns the setups whose processes fit into a number of bytes together, in their order."""
    result: list[Setup] = []
    for setup in setups:
        needed = memory_of(setup)
        if needed <= budget:
            result.append(setup)
            budget -= needed
    return result


def memory_of(setup: Setup) -> int:
    """Returns about how many bytes the processes of a setup need together."""
    copies = setup.replicas * setup.workers
    # Several copies also have buffers for the reduce.
    buffers = 8 * setup.parameters * copies if copies > 1 else 0
    size = _BYTES_A_PARAMETER * setup.parameters * copies + buffers
    return int(_PROCESS_BYTES * setup.workers + size)


def name_of(setup: Setup) -> str:
    """Returns what a setup has besides its size."""
    if setup.workers > 1:
        return f"{setup.workers} workers"
    return f"{setup.replicas} replicas" if setup.replicas > 1 else "one device"


def _variant(setup: Setup) -> Variant:
    if setup.workers > 1:
        name, workers = f"workers_{setup.workers}", setup.workers
    else:
        name, workers = f"replicas_{setup.replicas}", 0
    peer = None if name == "replicas_1" else "replicas_1"
    return Variant(name, name_of(setup), peer=peer, num_workers=workers, program=PROGRAM)


def with_law(rows: Sequence[Row]) -> tuple[dict[str, Any] | None, list[Row], list[str]]:
    """Fits laws of wall and processor time.

    Args:
        rows: Rows whose facts are the fields of a `Setup`.

    Returns:
        The laws as JSON values, or None if the rows do not determine one; the rows, with what the
        law of wall time predicts and by how much it is off; and sentences about the laws.
    """
    measured = [row for row in rows if row.rounds]
    setups = [setup_of(row) for row in measured]
    laws: dict[str, CostLaw] = {}
    notes = []
    for name in ("wall", "processor"):
        values = [row.rounds if name == "wall" else row.processor for row in measured]
        times = {setup: spread(each).median for setup, each in zip(setups, values, strict=True)}
        try:
            laws[name] = fitted(times)
        except ValueError as error:
            return None, list(rows), [f"No law: {error}"]
        off = [abs(error) for error in residuals(laws[name], times)]
        notes.append(
            f"{name} time in ms: {laws[name]}. Off by {100 * spread(off).median:.0f} % in the "
            f"median and {100 * max(off):.0f} % at most."
        )
    notes.append("P parameters, R replicas of one process, W workers of this host.")
    result = [_predicted(row, laws["wall"]) if row.rounds else row for row in rows]
    return {name: law.to_json() for name, law in laws.items()}, result, notes


def setup_of(row: Row) -> Setup:
    """Returns the setup of a row."""
    fields = (row.facts[each.name] for each in dataclasses.fields(Setup))
    parameters, replicas, workers = (int(value) for value in fields)
    return Setup(parameters, replicas, workers)


def _predicted(row: Row, law: CostLaw) -> Row:
    time = law.time(setup_of(row))
    off = time / spread(row.rounds).median - 1
    return dataclasses.replace(row, facts={**row.facts, "law": time, "off by %": round(100 * off)})
