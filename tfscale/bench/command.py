"""`tfscale bench`: what a step of `fit` costs on one device, under our strategies, and at least."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfscale.bench.models import MODELS
from tfscale.bench.variant import VARIANTS, Race, Variant
from tfscale.cli.arguments import add_json_flag, at_least, function_name, seconds
from tfscale.cli.errors import complain

SUMMARY = "what a step of fit costs: one device, replicas, and the limit, side by side"
TARGET_STEPS = 50
"""Steps of a turn for a model of the user's own, where none are given."""

_DESCRIPTION = """\
Times training steps of several variants in one run: a warmed process a variant, turn by turn, so
that a busy machine slows all alike. Medians and ratios leave out the first round; a ratio is taken
round by round. Peak RSS is of one process. Nothing else should run while it does: the load average
before and after stands above the table.

FUNCTION takes nothing and returns (model, data): a compiled model, and arrays (x, y), a batched
tf.data.Dataset or a keras.utils.PyDataset. The first batches of data are kept in memory and trained
on again and again, so reading is not timed. Its model is compiled as you say: note that Keras turns
XLA on for one device and off for several replicas unless you pass jit_compile.
"""
_EPILOG = """\
examples:
  tfscale bench --model=mlp
  tfscale bench --model=tiny_mlp --steps_per_execution=20 --variants=stock,one_device,loop
  tfscale bench mine:build --steps=100 --json

exit status: 0 timed, goals met or not; 1 a variant failed; 2 wrong usage.
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
        help="a model of your own; the current directory is importable",
    )
    add_race_arguments(parser, VARIANTS)


def add_race_arguments(parser: argparse.ArgumentParser, variants: Sequence[Variant]) -> None:
    """Adds the flags that every race has, whatever its variants.

    Args:
        parser: Gets them.
        variants: Those to choose from.
    """
    names = [variant.name for variant in variants]

    def chosen(text: str) -> tuple[Variant, ...]:
        wanted = text.split(",")
        if set(wanted) - set(names) or len(set(wanted)) < len(wanted):
            raise argparse.ArgumentTypeError(
                f"must be different names of {', '.join(names)}, with commas. Received: {text!r}"
            )
        return tuple(variants[names.index(name)] for name in wanted)

    default = f"default: {', '.join(f'{name} {model.steps}' for name, model in MODELS.items())}"
    parser.add_argument("--model", choices=tuple(MODELS), help="a model of ours (default: mlp)")
    parser.add_argument(
        "--variants",
        type=chosen,
        default=tuple(variants),
        metavar="NAMES",
        help=f"with commas; what is raced, in turn (default: {','.join(names)})",
    )
    parser.add_argument(
        "--rounds",
        type=at_least(2),
        default=7,
        metavar="N",
        help="turns of each variant, the first not counted (default: 7)",
    )
    parser.add_argument(
        "--steps",
        type=at_least(1),
        metavar="N",
        help=f"optimizer steps of a turn ({default}, of your own {TARGET_STEPS})",
    )
    parser.add_argument(
        "--steps_per_execution",
        type=at_least(1),
        metavar="N",
        help="steps that fit takes in one call (default: 1; of your own as compiled)",
    )
    parser.add_argument(
        "--batch_size",
        type=at_least(1),
        metavar="N",
        help="rows of a batch where data of your own are arrays (default: 32)",
    )
    parser.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="threads of a process; workers of a cluster share them out (default: the CPUs)",
    )
    parser.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=300.0,
        metavar="S",
        help="deadline of start-up and of each turn (default: 300)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Races; prints the table."""
    return run_and_print("tfscale bench", arguments)


def run_and_print(program: str, arguments: argparse.Namespace) -> int:
    """Races what the flags say; prints the table, and progress on standard error.

    Args:
        program: What lines of progress begin with.
        arguments: Of `add_arguments`.

    Returns:
        The exit status.
    """
    # Here: these import what the help does not need.
    from tfscale.bench.contestant import Failed
    from tfscale.bench.racing import run_race
    from tfscale.bench.table import as_json, as_text

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
    """Returns the race that the flags ask for.

    Raises:
        ValueError: If flags contradict each other.
    """
    target = arguments.target or ""
    if target and arguments.model:
        raise ValueError(
            "`--model` must be left out where MODULE:FUNCTION is given. Received: both "
            f"{arguments.model} and {target}. Choose one."
        )
    if not target and arguments.batch_size is not None:
        raise ValueError(
            "`--batch_size` must go with a MODULE:FUNCTION of your own. Received: "
            f"--batch_size={arguments.batch_size}. The models of ours have their own."
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
