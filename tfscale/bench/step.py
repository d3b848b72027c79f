"""`tfscale bench step`: times a step of `fit`, under strategies, and as a bare loop."""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfscale.bench.flags import add_turn_arguments, add_variants_argument
from tfscale.bench.machine import Machine
from tfscale.bench.models import MODELS
from tfscale.bench.outcome import Outcome
from tfscale.bench.variant import VARIANTS, Race, Variant
from tfscale.cli.arguments import count, function_name

SUMMARY = "time a training step on one device, on replicas, on workers and as a bare loop"
TARGET_STEPS = 50
"""Default steps of a turn for the user's model."""

_DESCRIPTION = """\
Times training steps of several variants in one run: wall time, and the processor time of all
processes of a variant together. Peak RSS is that of one process.

FUNCTION takes no arguments and returns (model, data): a compiled model, and arrays (x, y), a
batched tf.data.Dataset or a keras.utils.PyDataset. The first batches are kept in memory and reused,
so reading data is not timed. The model is used as you compiled it. Note that Keras enables XLA for
one device and disables it for several replicas unless you pass jit_compile.
"""
_EPILOG = """\
examples:
  tfscale bench step --model=mlp                       all variants, on a built-in model
  tfscale bench step --model=tiny_mlp --steps_per_execution=20 --variants=stock,one_device,loop
  tfscale bench step mine:build --steps=100 --json     build() in mine.py; JSON for a program

exit status: 0 timed (goals are informational), 1 a variant failed, 2 wrong usage.
"""


_SEVERAL = (
    "Several processes divide the threads. The batch of a cluster is the batch of one device times "
    "its workers. Efficiency is the time of the limit divided by the time of the row."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench step`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "target",
        nargs="?",
        metavar="MODULE:FUNCTION",
        type=function_name,
        help="your model: build() in mine.py is mine:build; the current directory is importable",
    )
    add_race_arguments(parser, VARIANTS)


def add_race_arguments(parser: argparse.ArgumentParser, variants: Sequence[Variant]) -> None:
    """Adds the flags that all races have in common.

    Args:
        parser: The parser to add them to.
        variants: The variants to choose from.
    """
    default = f"default: {', '.join(f'{name} {model.steps}' for name, model in MODELS.items())}"
    parser.add_argument("--model", choices=tuple(MODELS), help="a built-in model (default: mlp)")
    add_variants_argument(parser, variants)
    parser.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help=f"optimizer steps in a turn ({default}; your model {TARGET_STEPS})",
    )
    parser.add_argument(
        "--steps_per_execution",
        type=count,
        metavar="N",
        help="steps that fit takes in one call (default: as compiled)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="rows of a batch if your data are arrays (default: 32)",
    )
    add_turn_arguments(parser)


def subject(arguments: argparse.Namespace) -> str:
    """Returns what the flags say is trained."""
    return arguments.target or arguments.model or "mlp"


def run(arguments: argparse.Namespace, say: Callable[[str], None]) -> Outcome:
    """Runs the race that the flags describe.

    Args:
        arguments: Parsed flags of `add_arguments`.
        say: Called with each line of progress.

    Raises:
        ValueError: If flags contradict each other.
        Failed: If a variant cannot be timed.
    """
    # Here: the help does not need these.
    from tfscale.bench.peers.environment import peer_versions
    from tfscale.bench.racing import rows_of, run_race

    race = race_of(arguments)
    machine = Machine.of_this_host()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        result = run_race(race, arguments.variants, Path(folder), say)
    needs_peers = any(variant.requires for variant in arguments.variants)
    has_several = any(variant.processes > 1 for variant in arguments.variants)
    return Outcome(
        kind="step",
        subject=subject(arguments),
        text=_text(race),
        settings=settings_of(race),
        machine=machine.at_end(peer_versions() if needs_peers else None),
        rows=rows_of(result),
        notes=(_SEVERAL,) if has_several else (),
    )


def settings_of(race: Race) -> dict[str, Any]:
    """Returns the settings of a race that have an influence on its times."""
    deadlines = ("timeout_seconds", "patience_seconds")
    fields = dataclasses.asdict(race).items()
    return {name: value for name, value in fields if name not in deadlines}


def _text(race: Race) -> str:
    subject = race.target or f"{race.model} ({MODELS[race.model].text})"
    rows = f"batch {MODELS[race.model].batch_size}, " if race.model else ""
    counted = race.rounds - 1
    return (
        f"{subject}: {rows}{race.steps} steps a turn, steps_per_execution "
        f"{race.steps_per_execution or 'as compiled'}, median of {counted} "
        f"round{'s' if counted > 1 else ''} ({race.rounds} run, the first dropped)"
    )


def race_of(arguments: argparse.Namespace) -> Race:
    """Returns the race that the flags describe.

    Raises:
        ValueError: If flags contradict each other.
    """
    target = arguments.target or ""
    if target and arguments.model:
        raise ValueError(
            "`--model` must be omitted if MODULE:FUNCTION is given. Received: both "
            f"{arguments.model} and {target}. Choose one."
        )
    if not target and arguments.batch_size is not None:
        raise ValueError(
            "`--batch_size` must be used with MODULE:FUNCTION. Received: "
            f"--batch_size={arguments.batch_size}. Built-in models have fixed batch sizes."
        )
    model = "" if target else subject(arguments)
    together = arguments.steps_per_execution
    steps = arguments.steps or (MODELS[model].steps if model else TARGET_STEPS)
    if together and steps % together:
        raise ValueError(
            f"`--steps` must be a multiple of --steps_per_execution={together}. Received: "
            f"--steps={steps}. Give both."
        )
    timeout = arguments.timeout_seconds
    return Race(
        model=model,
        target=target,
        rounds=arguments.rounds,
        steps=steps,
        steps_per_execution=together,
        batch_size=arguments.batch_size or 32,
        threads=arguments.threads or os.cpu_count() or 1,
        timeout_seconds=timeout,
        patience_seconds=timeout * (len(arguments.variants) + 1),
    )
