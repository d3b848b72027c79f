"""`tfscale preflight`: what a TPU's compiler would refuse, found on this machine in seconds."""

from __future__ import annotations

import argparse
import json
import re
import shlex

from tfscale.cli.arguments import add_json_flag, count
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.preflight.ahead_of_time.flags import add_flags, check_flags
from tfscale.preflight.target import Target, parse_target

SUMMARY = "would a TPU take your training step? found without a TPU"

DEFAULT_FUNCTION = "model_and_data"
_DESCRIPTION = """\
Builds your model as under a TPU strategy of so many replicas, traces the step that `fit` would run,
and looks at every operation in it, inside branches and loops too: those that XLA cannot compile,
sizes that are not known, batches that do not divide, float64, outputs in half precision. Then XLA
compiles the step, with its kernels for CPUs in place of the TPU's. Nothing is run and no TPU is
needed; so it shows that a step compiles, never that it runs on a TPU or fits there.

FUNCTION takes nothing and returns (model, data): a compiled model, and (x, y) arrays, a batched
tf.data.Dataset, a keras.utils.PyDataset or a Pipeline. Without one it is model_and_data. A recipe
(a module with define_flags) takes flags of its own by --flags.
"""
_EPILOG = """\
examples:
  tfscale preflight mine:build --target=v5e:2x2
  tfscale preflight recipes.image_classification --flags="--global_batch_size=1024"
  tfscale preflight mine:build --target=v5litepod-8 --json
  tfscale preflight mine:build --target=v5e:2x2 --aot --make_environment --largest_batch

exit status: 0 nothing to change (there may be warnings), 1 something to change, 2 wrong usage.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfscale preflight`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.add_argument(
        "subject",
        metavar="MODULE[:FUNCTION]",
        type=_function_name,
        help="where model and data come from; the current directory is importable",
    )
    parser.add_argument(
        "--target",
        type=_target,
        default=parse_target("v5e"),
        metavar="CHIP[:TOPOLOGY]",
        help="cpu, v4, v5e, v5p, v6e or tpu7x, with chips a side: v5e:2x4 (default: v5e:1x1)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        default=32,
        metavar="N",
        help="examples of a global batch where the data are arrays (default: 32)",
    )
    parser.add_argument(
        "--flags",
        default="",
        metavar="TEXT",
        help='flags of a recipe, in one text: --flags="--dataset=digits --dropout=0.1"',
    )
    add_json_flag(parser)
    add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Looks at the step and prints the report; returns 1 where something has to be changed."""
    from strategies import require_importable_wheels

    try:
        check_flags(arguments)
        require_importable_wheels()
    except (ImportError, ValueError) as error:
        _say(str(error))
        return 2
    # Here: these import TensorFlow, which the help does not need.
    from tfscale.preflight import report
    from tfscale.preflight.ahead_of_time import level
    from tfscale.preflight.ahead_of_time import report as chip_report
    from tfscale.preflight.ahead_of_time.compilation import CompilerFailed
    from tfscale.preflight.ahead_of_time.environment import NoEnvironment
    from tfscale.preflight.examination import preflight
    from tfscale.preflight.recipe_flags import parse_recipe_flags
    from tfscale.verify.user_model import Subject, WrongUsage

    target, batch_size, chip = arguments.target, arguments.batch_size, None
    try:
        with progress("tfscale preflight") as say:
            asked = level.asked_by(arguments, say)  # where there is no environment, before all else
            subject = Subject(arguments.subject)
            parse_recipe_flags(subject.module, shlex.split(arguments.flags))
            result = preflight(subject, target, batch_size=batch_size, say=say)
            if asked is not None and result.is_fine:
                chip = level.compile_ahead(subject, target, asked, batch_size=batch_size, say=say)
    except (WrongUsage, NoEnvironment, ValueError) as error:
        _say(str(error))
        return 2
    except CompilerFailed as error:
        _say(str(error))
        return 1
    if arguments.json:
        found = report.as_json(result)
        if asked is not None:
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
