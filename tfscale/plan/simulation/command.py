"""`tfscale plan --what=job`: the best job under limits, and the commands that run it."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from typing import Any

from tfscale.cli import POSITIVE, floats, integers
from tfscale.cli.arguments import count, count_or_zero, number_type, seconds_or_zero
from tfscale.cli.errors import complain
from tfscale.cli.progress import progress
from tfscale.launch.elastic.flags import WorkerRange, count_or_range
from tfscale.launch.engine_flags import duration
from tfscale.launch.engines.registry import ENGINES
from tfscale.plan.speed import command as speed

DEFAULTS: dict[str, Any] = {
    "deadline": None,
    "budget": None,
    "watts": None,
    "energy_limit": None,
    "mtbf": None,
    "num_workers": None,
    "save_seconds": None,
    "replace_seconds": 0.0,
    "spares": 0,
    "straggler_spread": 0.0,
    "slow_share": 0.0,
    "slow_factor": 1.0,
    "repeats": 50,
    "seed": 0,
    "engine": None,
    "option": None,
    "gpus_per_worker": None,
    "program": "python train.py",
}
"""Flags of this kind of plan. None, while a plan of another kind may be meant."""
SHARED: dict[str, Any] = {**speed.DEFAULTS, "memory_per_device": None}
"""Flags of other kinds that this one takes too."""

_NEEDED = (
    ("budget", "cost_per_hour"),
    ("energy_limit", "watts"),
    ("replace_seconds", "mtbf"),
    ("spares", "mtbf"),
    ("num_workers", "mtbf"),
    ("slow_share", "slow_factor"),
    ("slow_factor", "slow_share"),
)
"""Flags that do nothing without another one."""
_BYTES_A_SECOND = 0.65e9  # of a save to a local disk: docs/howto/checkpoints.md
_PART = floats("a number from 0 to 1", "0.01", lambda value: 0 <= value <= 1)
_FACTOR = floats("from 1 to 1000", "3", lambda value: 1 <= value <= 1000)
_SPREAD = floats("from 0 to 2", "0.1", lambda value: 0 <= value <= 2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that only a plan of a job has."""
    flags = parser.add_argument_group("with --what=job, beside those of --what=speed")
    flags.add_argument(
        "--deadline", type=duration, metavar="T", help="the job may take so long: 90m, 12h, 2d"
    )
    flags.add_argument(
        "--budget",
        type=number_type(POSITIVE),
        metavar="X",
        help="it may cost so much, in the unit of --cost_per_hour",
    )
    flags.add_argument(
        "--energy_limit",
        type=number_type(POSITIVE),
        metavar="KWH",
        help="it may take so many kWh, at --watts",
    )
    flags.add_argument(
        "--watts", type=number_type(POSITIVE), metavar="W", help="mean power of a worker"
    )
    flags.add_argument(
        "--mtbf",
        type=duration,
        metavar="T",
        help="mean time between failures of one worker, such as 90d (default: none fails)",
    )
    flags.add_argument(
        "--num_workers",
        type=_range,
        metavar="MIN:MAX",
        help="the job starts with MAX workers, and continues with as few as MIN while hosts are "
        "missing (default: it waits for them). Predicts MAX workers only",
    )
    flags.add_argument(
        "--save_seconds",
        type=seconds_or_zero,
        metavar="S",
        help="until a checkpoint is written (default: its bytes at 0.65 GB/s, a local disk)",
    )
    flags.add_argument(
        "--replace_seconds",
        type=seconds_or_zero,
        metavar="S",
        help="until another host is there in the place of one that failed (default: 0, the same "
        "host starts the worker again)",
    )
    flags.add_argument(
        "--spares", type=count_or_zero, metavar="N", help="hosts that wait for one to fail"
    )
    flags.add_argument(
        "--straggler_spread",
        type=number_type(_SPREAD),
        metavar="X",
        help="standard deviation of a worker's step over its mean, such as 0.1 (default: 0)",
    )
    flags.add_argument(
        "--slow_share",
        type=number_type(_PART),
        metavar="X",
        help="part of a worker's steps that are slow (default: 0)",
    )
    flags.add_argument(
        "--slow_factor",
        type=number_type(_FACTOR),
        metavar="X",
        help="how many times as long those take (default: 1)",
    )
    flags.add_argument(
        "--repeats", type=count, metavar="N", help="how often each job is drawn (default: 50)"
    )
    flags.add_argument(
        "--seed",
        type=number_type(integers(at_least=0)),
        metavar="N",
        help="of the random numbers (default: 0)",
    )
    flags.add_argument(
        "--engine",
        action="append",
        choices=tuple(ENGINES),
        help="write the command of `tfscale launch` for this engine; may be repeated (default: "
        "local and slurm; slurm with --num_workers, because a local range needs --rendezvous)",
    )
    flags.add_argument(
        "--option",
        action="append",
        metavar="ENGINE.NAME=VALUE",
        help="a setting that only this engine has, such as slurm.partition=gpu; may be repeated",
    )
    flags.add_argument(
        "--gpus_per_worker", type=count, metavar="N", help="GPUs of each worker, in that command"
    )
    flags.add_argument(
        "--program",
        metavar="COMMAND",
        help="the training program in that command, in quotes (default: 'python train.py')",
    )


def run(arguments: argparse.Namespace) -> int:
    """Predicts, simulates, chooses and prints. Returns the exit status."""
    from tfscale.files.output_files import write_whole
    from tfscale.plan.simulation.choosing import best_plan
    from tfscale.plan.simulation.picture import svg_picture
    from tfscale.plan.simulation.table import as_json, as_text, commands
    from tfscale.plan.speed.child import MeasurementFailed
    from tfscale.verify.user_model import WrongUsage

    try:
        if arguments.examples is None:
            raise ValueError(
                "`--examples` must be given with --what=job. Received: nothing. Add the examples "
                "of an epoch, and --epochs."
            )
        _plan_range(arguments)
        options, program = _options(arguments.option), _program(arguments.program)
        found = speed.predicted(arguments)
        if found is None:  # another worker prints
            return 0
        measured, predictions = found
        circumstances = _circumstances(arguments, measured.state_bytes)
        with progress("tfscale plan") as say:
            missing = _bytes_missing(arguments, say)
            plan = best_plan(predictions, circumstances, bytes_missing=missing, say=say)
        if arguments.picture is not None:
            write_whole(arguments.picture, svg_picture(arguments.target, plan))
        written = commands(
            plan,
            engines=arguments.engine or _engines(plan),
            program=program,
            gpus_per_worker=arguments.gpus_per_worker,
            options=options,
        )
    except (WrongUsage, ValueError, OSError) as error:
        complain("tfscale plan", error)
        return 2
    except MeasurementFailed as error:
        complain("tfscale plan", error)
        return 1
    if arguments.json:
        print(json.dumps(as_json(arguments.target, circumstances, plan, written)), flush=True)
    else:
        print(as_text(arguments.target, circumstances, plan, written), flush=True)
    return 0 if plan.chosen is not None else 1


def _range(text: str) -> WorkerRange:
    found = count_or_range(text)
    if not isinstance(found, WorkerRange):
        raise argparse.ArgumentTypeError(
            f"must be MIN:MAX. Received: {text!r}. Example: 2:4. A number that does not change is "
            "--workers."
        )
    return found


def _plan_range(arguments: argparse.Namespace) -> None:
    """Has the largest number of workers predicted."""
    given = arguments.num_workers
    if given is None:
        return
    if arguments.workers not in (None, given.most):
        raise ValueError(
            f"`--workers` must be {given.most}, the most of --num_workers={given}, or be left out. "
            f"Received: --workers={arguments.workers}. Leave it out."
        )
    arguments.workers = given.most


def _engines(plan: Any) -> tuple[str, ...]:
    """Returns the engines whose commands are written by default."""
    is_elastic = plan.chosen is not None and plan.chosen.job.least_workers is not None
    return ("slurm",) if is_elastic else ("local", "slurm")  # local ones need --rendezvous


def _circumstances(arguments: argparse.Namespace, state_bytes: int) -> Any:
    from tfscale.plan.simulation.choosing import Circumstances
    from tfscale.plan.simulation.failures import Failures
    from tfscale.plan.simulation.job import Saves
    from tfscale.plan.simulation.planned_job import Limits
    from tfscale.plan.simulation.stragglers import Stragglers

    for flag, needed in _NEEDED:
        _refuse_without(arguments, flag, needed)
    failures = None
    if arguments.mtbf is not None:
        failures = Failures(
            arguments.mtbf,
            replace_seconds=arguments.replace_seconds,
            spares=arguments.spares,
            least_workers=arguments.num_workers and arguments.num_workers.least,
        )
    save = arguments.save_seconds
    return Circumstances(
        examples=arguments.examples * (arguments.epochs or 1),
        saves=Saves(state_bytes / _BYTES_A_SECOND if save is None else save),
        failures=failures,
        stragglers=Stragglers(
            arguments.straggler_spread,
            slow_share=arguments.slow_share,
            slow_factor=arguments.slow_factor,
        ),
        steps_between_averages=arguments.every,
        parameter_servers=arguments.servers,
        limits=Limits(
            deadline_seconds=arguments.deadline,
            budget=arguments.budget,
            energy_kwh=arguments.energy_limit,
            cost_per_hour=arguments.cost_per_hour,
            watts=arguments.watts,
        ),
        repeats=arguments.repeats,
        seed=arguments.seed,
    )


def _refuse_without(arguments: argparse.Namespace, flag: str, needed: str) -> None:
    defaults = {**SHARED, **DEFAULTS}
    value = getattr(arguments, flag)
    if value != defaults[flag] and getattr(arguments, needed) == defaults[needed]:
        raise ValueError(
            f"`--{flag}` must come with --{needed}. Received: --{flag}={value}. Add it."
        )


def _bytes_missing(
    arguments: argparse.Namespace, say: Callable[[str], object]
) -> Callable[[Any], int] | None:
    """Returns the function that asks the plan of memory, or None without a size of devices."""
    if arguments.memory_per_device is None:
        return None
    # Imports TensorFlow.
    from tfscale.plan.memory.planning import Untraceable, memory_plan
    from tfscale.verify.user_model import UserModel

    def missing(step: Any) -> int:
        say(f"planning the memory of {step.strategy} on {step.workers} workers")
        strategy, _, stage = step.strategy.partition("sharded_")
        is_pipeline = strategy == "pipeline"
        try:
            plan = memory_plan(
                UserModel(arguments.target).build,
                replicas=step.replicas,
                workers=step.workers,
                global_batch_size=step.global_batch_size,
                memory_per_device=arguments.memory_per_device,
                shard=(int(stage or 0),),
                microbatches=(arguments.pipeline_microbatches if is_pipeline else 1,),
                recompute=("as_is",),
                pipeline_stages=(arguments.stages if is_pipeline else 1,),
            )
        except Untraceable as error:
            raise ValueError(str(error)) from error
        return 0 if plan.cheapest is not None else plan.missing_bytes

    return missing


def _options(texts: list[str] | None) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {engine: {} for engine in ENGINES}
    for text in texts or ():
        engine, dot, rest = text.partition(".")
        name, equals, value = rest.partition("=")
        if engine not in ENGINES or not dot or not name or not equals:
            raise ValueError(
                f"`--option` must be ENGINE.NAME=VALUE, with an engine of {', '.join(ENGINES)}. "
                f"Received: {text!r}. Example: --option=slurm.partition=gpu."
            )
        found[engine][name] = value
    return found


def _program(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"`--program` must be a command in a shell's words. Received: {text!r} ({error}). "
            "Example: --program='python train.py'."
        ) from error
    if not words:
        raise ValueError(
            f"`--program` must name a program. Received: {text!r}. Example: "
            "--program='python train.py'."
        )
    return words
