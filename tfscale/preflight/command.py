"""`tfscale preflight`: finds what a TPU's compiler would reject, on this machine in seconds."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tfscale.cli.arguments import add_json_flag, count, seconds
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.preflight.ahead_of_time.environment import (
    DISK_MB,
    WHEELS_MB,
    default_environment,
)
from tfscale.preflight.target import Target, parse_target

SUMMARY = "find what a TPU would reject in your training step, without a TPU"

DEFAULT_FUNCTION = "model_and_data"
_DESCRIPTION = """\
Builds your model under a stand-in for a TPU strategy, traces the step that `fit` would run, and
checks every operation in it, including branches and loops. It finds operations that XLA cannot
compile, unknown sizes, batches that do not divide evenly, float64, and outputs in half precision.
Then XLA compiles the step with its CPU kernels. Nothing is run, and no TPU is needed. So the result
shows that a step compiles, but not that it runs on a TPU or fits in its memory (see --aot).

FUNCTION takes no arguments and returns (model, data): a compiled model, and (x, y) arrays, a
batched tf.data.Dataset, a keras.utils.PyDataset or a Pipeline. The default is model_and_data. A
recipe (a module with define_flags) takes its flags from --flags.
"""
_EPILOG = """\
examples:
  tfscale preflight mine:build --target=v5e:2x2        build() in mine.py, for four chips
  tfscale preflight recipes.image_classification --flags="--dataset=digits --dropout=0.1"
  tfscale preflight mine:build --target=v5litepod-8 --json
  tfscale preflight mine:build --target=v5e:2x2 --aot --make_environment --largest_batch

exit status: 0 no errors (there may be warnings), 1 at least one error, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale preflight`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "function",
        metavar="MODULE[:FUNCTION]",
        type=_function_name,
        help="your model: build() in mine.py is mine:build; the current directory is importable",
    )
    parser.add_argument(
        "--target",
        type=_target,
        default=parse_target("v5e"),
        metavar="CHIP[:TOPOLOGY]",
        help="cpu, v4, v5e, v5p, v6e or tpu7x, with its topology: v5e:2x4; or Google Cloud's type "
        "of a v5e or v6e: v5litepod-8, v6e-8 (default: v5e:1x1)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        default=32,
        metavar="N",
        help="examples of a global batch if your data are arrays (default: 32)",
    )
    parser.add_argument(
        "--flags",
        default="",
        metavar="TEXT",
        help="flags of a recipe, as one string; see the examples",
    )
    add_json_flag(parser)
    add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examines the step and prints the report. Returns the exit status."""
    from strategies import require_importable_wheels

    try:
        check_flags(arguments)
        require_importable_wheels()
    except (ImportError, ValueError) as error:
        _say(str(error))
        return 2
    # Imported here, because these import TensorFlow and the help does not need it.
    from tfscale.preflight import report
    from tfscale.preflight.ahead_of_time import fitting
    from tfscale.preflight.ahead_of_time import report as chip_report
    from tfscale.preflight.ahead_of_time.compilation import CompilerFailed
    from tfscale.preflight.ahead_of_time.environment import NoEnvironment
    from tfscale.preflight.examination import preflight
    from tfscale.verify.user_model import UserModel, WrongUsage

    target, batch_size, chip = arguments.target, arguments.batch_size, None
    try:
        with progress("tfscale preflight") as say:
            # First, so that a missing environment fails early.
            settings = fitting.requested_by(arguments, say)
            user_model = UserModel(arguments.function)
            parse_recipe_flags(user_model.module, shlex.split(arguments.flags))
            result = preflight(user_model, target, batch_size=batch_size, say=say)
            if settings is not None and result.is_fine:
                chip = fitting.compile_ahead(
                    user_model, target, settings, batch_size=batch_size, say=say
                )
    except (WrongUsage, NoEnvironment, ValueError) as error:
        _say(str(error))
        return 2
    except CompilerFailed as error:
        _say(str(error))
        return 1
    if arguments.json:
        found = report.as_json(result)
        if settings is not None:
            found["ahead_of_time"] = None if chip is None else chip_report.as_json(chip)
        print(json.dumps(found), flush=True)
    else:
        print(report.as_text(result), flush=True)
        if chip is not None:
            print(f"\n{chip_report.as_text(chip)}", flush=True)
    return 0 if result.is_fine and (chip is None or chip.is_fine) else 1


def _say(line: str) -> None:
    complain("tfscale preflight", line)


def _target(text: str) -> Target:
    try:
        return parse_target(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _function_name(text: str) -> str:
    name = r"[^\W\d]\w*"
    found = re.fullmatch(rf"({name}(?:\.{name})*)(?::({name}))?", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"must be MODULE or MODULE:FUNCTION. Received: {text!r}. Example: mine:build for "
            "build() in mine.py"
        )
    return f"{found[1]}:{found[2] or DEFAULT_FUNCTION}"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ahead-of-time compilation, as a group."""
    group = parser.add_argument_group(
        "ahead of time",
        "compile the step, with the all-reduces between replicas, with the chip's compiler",
    )
    group.add_argument(
        "--aot",
        action="store_true",
        help="compile for the chip and report the step's memory on it; takes minutes",
    )
    group.add_argument(
        "--make_environment",
        action="store_true",
        help=f"first create the compiler's environment if it does not exist: {WHEELS_MB} MB to "
        f"download, {DISK_MB} MB on disk",
    )
    group.add_argument(
        "--environment",
        type=Path,
        default=default_environment(),
        metavar="DIR",
        help="folder of the compiler's environment (default: %(default)s)",
    )
    group.add_argument(
        "--largest_batch",
        action="store_true",
        help="search for the largest batch that fits, with about ten compilations",
    )
    group.add_argument(
        "--timeout_seconds",
        type=seconds,
        default=1800.0,
        metavar="S",
        help="seconds allowed for each compilation (default: 1800)",
    )


def check_flags(arguments: argparse.Namespace) -> None:
    """Checks that the flags do not contradict each other.

    Args:
        arguments: Parsed flags.

    Raises:
        ValueError: If a flag needs --aot, or --aot has no chip to compile for.
    """
    if not arguments.aot:
        for name in ("make_environment", "largest_batch"):
            if getattr(arguments, name):
                raise ValueError(f"`--{name}` must be used with --aot. Received: no --aot. Add it.")
    elif not arguments.target.is_tpu:
        raise ValueError(
            f"`--aot` must have a TPU as its target. Received: --target={arguments.target}. Pass "
            "one, such as --target=v5e:2x2."
        )


def parse_recipe_flags(module: ModuleType, given: Sequence[str]) -> None:
    """Defines and parses the flags of a module that has `define_flags`, as if it were run.

    Args:
        module: The user's module.
        given: Its flags, such as `["--global_batch_size=128"]`.

    Raises:
        WrongUsage: If a flag is unknown or its value is invalid, or the module has no flags.
    """
    from absl import flags

    from tfscale.verify.user_model import WrongUsage

    define_flags = getattr(module, "define_flags", None)
    if define_flags is None:
        if given:
            raise WrongUsage(
                f"`--flags` must be omitted for a module without define_flags. Received: "
                f"--flags={' '.join(given)!r} for {module.__name__}. Remove it."
            )
        return
    define_flags()
    try:
        rest = flags.FLAGS([module.__name__, *given])
    except flags.Error as error:
        raise WrongUsage(f"`--flags` must be flags of {module.__name__}. {error}") from error
    if len(rest) > 1:
        raise WrongUsage(
            f"`--flags` must contain only flags. Received: {' '.join(rest[1:])!r}. Flags start "
            "with two dashes."
        )
