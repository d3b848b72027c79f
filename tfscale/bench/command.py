"""`tfscale bench`: times a step of `fit` on one device, under strategies, and as a bare loop."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from strategies.extension import integers
from tfscale.bench.models import MODELS
from tfscale.bench.variant import VARIANTS, Race, Variant
from tfscale.cli.arguments import add_json_flag, count, function_name, number_type, seconds
from tfscale.cli.errors import complain

SUMMARY = "time a training step on one device, on replicas and as a bare loop, side by side"
TARGET_STEPS = 50
"""Default steps of a turn for the user's model."""

_DESCRIPTION = """\
Times training steps of several variants in one run. Each variant has one warmed-up process, and the
processes take turns, so that load on the machine slows all of them equally. Medians and ratios
exclude the first round. Ratios are computed per round. Peak RSS is that of one process. Run nothing
else at the same time; the load average before and after is printed above the table.

FUNCTION takes no arguments and returns (model, data): a compiled model, and arrays (x, y), a
batched tf.data.Dataset or a keras.utils.PyDataset. The first batches are kept in memory and reused,
so reading data is not timed. The model is used as you compiled it. Note that Keras enables XLA for
one device and disables it for several replicas unless you pass jit_compile.
"""
_EPILOG = """\
examples:
  tfscale bench --model=mlp                            all variants, on a built-in model
  tfscale bench --model=tiny_mlp --steps_per_execution=20 --variants=stock,one_device,loop
  tfscale bench mine:build --steps=100 --json          build() in mine.py; JSON for a program

exit status: 0 timed (goals are informational), 1 a variant failed, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale bench`."""
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
    names = [variant.name for variant in variants]

    def chosen(text: str) -> tuple[Variant, ...]:
        wanted = text.split(",")
        if set(wanted) - set(names) or len(set(wanted)) < len(wanted):
            raise argparse.ArgumentTypeError(
                f"must be different names of {', '.join(names)}, separated by commas. "
                f"Received: {text!r}"
            )
        return tuple(variants[names.index(name)] for name in wanted)

    default = f"default: {', '.join(f'{name} {model.steps}' for name, model in MODELS.items())}"
    parser.add_argument("--model", choices=tuple(MODELS), help="a built-in model (default: mlp)")
    parser.add_argument(
        "--variants",
        type=chosen,
        default=tuple(variants),
        metavar="NAMES",
        help=f"variants to time, in order, separated by commas: names of {','.join(names)} "
        "(default: all of them)",
    )
    parser.add_argument(
        "--rounds",
        type=number_type(integers(at_least=2)),
        default=7,
        metavar="N",
        help="turns of each variant; the first is not counted (default: 7)",
    )
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
        help="steps that fit takes in one call (default: 1; your model: as compiled)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        metavar="N",
        help="rows of a batch if your data are arrays (default: 32)",
    )
    parser.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads of a process; the workers of a cluster divide them (default: all CPUs)",
    )
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=300.0,
        metavar="S",
        help="seconds allowed for start-up and for each turn (default: 300)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the race and prints its table. Returns the exit status."""
    return run_and_print("tfscale bench", arguments)


def run_and_print(program: str, arguments: argparse.Namespace) -> int:
    """Runs the race that the flags describe. Prints its table, and progress on standard error.

    Args:
        program: The start of progress lines, such as "tfscale bench".
        arguments: Parsed flags of `add_arguments`.

    Returns:
        The exit status.
    """
    # Here: these import what the help does not need.
    from tfscale.bench.contestant import Failed
    from tfscale.bench.racing import run_race
    from tfscale.bench.table import as_json, as_text

    # Lines only: a clock that is redrawn takes time from the processes that are timed.
    def say(line: str) -> None:
        complain(program, line)

    try:
        race = race_of(arguments)
    except ValueError as error:
        say(str(error))
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = run_race(race, arguments.variants, Path(folder), say)
    except Failed as failure:
        say(str(failure))
        return 2 if failure.is_wrong_usage else 1
    print(json.dumps(as_json(result)) if arguments.json else as_text(result), flush=True)
    return 0


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
    model = "" if target else arguments.model or "mlp"
    together = arguments.steps_per_execution or (1 if model else None)
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
