"""`tfscale sweep`: a training command with many values of its flags, to find the best ones."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path

from tfscale.cli.arguments import add_json_flag, count, seconds, seconds_or_zero, seed
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.sweep.plan import DIRECTIONS, PRUNERS, SAMPLERS, Plan, grid_points
from tfscale.sweep.space import KINDS, Axis, parsed

SUMMARY = "try a training command with many values of its flags, and find the best"
# Everything after `--` is the command to run, in `arguments.command`.
TAKES_COMMAND = True

_PROGRAM = "tfscale sweep"
_TRIALS = 20
_DESCRIPTION = """\
Runs COMMAND once for each trial, with values of the flags below that optuna chooses from the
results so far: --learning_rate=0.003 is added at the end, or {learning_rate} in an argument is
replaced. A trial has a folder of its own, {folder} in an argument; recipes get it as --model_dir.

A trial reports values while it runs: by tfscale.callbacks.ReportTrial() in the callbacks of fit,
which recipes have, or by lines of JSON, {"step": 1, "val_loss": 0.4}, in the file that the variable
TFSCALE_TRIAL names. Its value is the last one of --goal. A trial whose values are worse than those
of others at the same step is pruned: it gets SIGTERM, and SIGKILL after --grace_seconds.

Ctrl-C ends the trials that run. The same command continues the sweep in --folder, also after it was
killed, and with more --trials; trials that were interrupted are run again in their folder. With the
same --seed and --jobs=1 it tries the same values.
"""
_EPILOG = """\
examples:
  tfscale sweep --trials=20 --log learning_rate=1e-4..1e-1 --choice optimizer=sgd,adam \\
      --goal=val_accuracy --direction=maximize -- python train.py
  tfscale sweep --int units=16..128:16 --goal=loss --direction=minimize --pruner=hyperband \\
      --jobs=2 -- python train.py --out={folder}
  tfscale sweep --float dropout=0.1..0.5 --goal=val_loss --direction=minimize --num_workers=2 \\
      -- python train.py
  tfscale sweep --float dropout=0.1..0.5 --goal=val_loss --direction=minimize \\
      -- tfscale launch --num_workers=2 --max_restarts=1 -- python train.py

exit status: 0 there is a best trial, 1 none was completed or the first three all failed, 2 wrong
usage, 128 + s after signal s.
"""
_HELP = {
    "float": ("NAME=LOW..HIGH", "numbers from LOW to HIGH"),
    "log": ("NAME=LOW..HIGH", "numbers from LOW to HIGH, evenly by their logarithm"),
    "int": ("NAME=LOW..HIGH[:STEP]", "whole numbers from LOW to HIGH"),
    "log_int": ("NAME=LOW..HIGH", "whole numbers, evenly by their logarithm"),
    "choice": ("NAME=A,B,...", "one of these values"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.usage = (
        "tfscale sweep --log NAME=LOW..HIGH ... --goal=NAME --direction=D [FLAG ...] -- COMMAND"
    )
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    space = parser.add_argument_group("what to vary; each may be repeated")
    for kind in KINDS:
        metavar, text = _HELP[kind]
        space.add_argument(
            f"--{kind}",
            dest="space",
            action="append",
            type=_axis_type(kind),
            metavar=metavar,
            help=text,
        )
    parser.add_argument(
        "--goal", required=True, metavar="NAME", help="the reported value that counts"
    )
    parser.add_argument(
        "--direction", required=True, choices=DIRECTIONS, help="which values of it are better"
    )
    parser.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help="trials in the end, with those that failed and those of an earlier call (default: "
        "20, or all of a grid)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/sweep"),
        metavar="DIR",
        help="local folder of the sweep (default: runs/sweep)",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        metavar="N",
        help="trials at once, each with an equal part of the CPUs and GPUs (default: 1)",
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="seed of the values that are tried (default: 0)",
    )
    parser.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="tpe",
        help="how values are chosen; grid: all of --choice and --int (default: tpe)",
    )
    parser.add_argument(
        "--pruner",
        choices=PRUNERS,
        default="median",
        help="which trials are ended early (default: median)",
    )
    parser.add_argument(
        "--num_workers",
        type=count,
        metavar="N",
        help="workers of each trial, by tfscale launch (default: the command is run itself)",
    )
    parser.add_argument(
        "--grace_seconds",
        type=seconds_or_zero,
        default=10.0,
        metavar="S",
        help="seconds between SIGTERM and SIGKILL when a trial is ended (default: 10)",
    )
    parser.add_argument(
        "--trial_seconds",
        type=seconds,
        default=86_400.0,
        metavar="S",
        help="a trial that takes longer is ended, and has failed (default: 86400, a day)",
    )
    add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the sweep, prints the table, and returns the exit status."""
    # Here: the help needs none of it.
    from tfscale.sweep import result
    from tfscale.sweep.running import FirstTrialsFailed, run_trials
    from tfscale.sweep.study import SweepStudy

    space = tuple(arguments.space or ())
    try:
        trials = arguments.trials
        if trials is None:
            trials = grid_points(space) if arguments.sampler == "grid" else _TRIALS
        plan = Plan(
            trials=trials,
            command=tuple(arguments.command),
            space=space,
            goal=arguments.goal,
            direction=arguments.direction,
            folder=arguments.folder,
            jobs=arguments.jobs,
            seed=arguments.seed,
            sampler=arguments.sampler,
            pruner=arguments.pruner,
            num_workers=arguments.num_workers,
            grace_seconds=arguments.grace_seconds,
            trial_seconds=arguments.trial_seconds,
        )
        with SweepStudy(plan) as study:
            failure, ended_by = None, None
            with progress(_PROGRAM) as say:
                try:
                    ended_by = run_trials(plan, study, say)
                except FirstTrialsFailed as error:
                    failure = error
            found = result.as_json(plan, study.study)
            print(
                json.dumps(found) if arguments.json else result.table(plan, study.study),
                flush=True,
            )
    except (ValueError, ImportError) as error:
        complain(_PROGRAM, error)
        return 2
    except OSError as error:
        if error.strerror and not error.filename:  # such as a full disk
            complain(
                _PROGRAM,
                f"{plan.folder} could not be written: {error.strerror}. Make room there; the same "
                "command continues.",
            )
        else:
            complain(_PROGRAM, error)
        return 2
    if failure is not None:
        complain(_PROGRAM, failure)
        return 1
    if ended_by is not None:
        complain(_PROGRAM, f"ended early. The same command continues in {plan.folder}.")
        return 128 + ended_by
    return 0 if found["best"] is not None else 1


def _axis_type(kind: str) -> Callable[[str], Axis]:
    parse = functools.partial(parsed, kind)

    def axis(text: str) -> Axis:
        try:
            return parse(text)
        except ValueError as error:  # argparse shows the text of its own error only
            raise argparse.ArgumentTypeError(str(error)) from error

    return axis
