"""Writes a chosen plan as a command line of `tfscale launch`, for each engine."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfscale.plan.simulation.planned_job import PlannedJob

_HOUR = 3600.0
_RECIPES = "recipes."
_EXCEEDED = 0.01
_LAST_STEPS = 3
_DEFAULT_GRACE = 10
_SPARE_TIME = 1.25  # of the time that one job in ten exceeds


@dataclass(frozen=True)
class LaunchRequest:
    """A plan as a command.

    Attributes:
        engine: Which runs it.
        words: The command line, from "tfscale" on.
        dry_run: What `--dry_run` prints: what would be submitted.
    """

    engine: str
    words: tuple[str, ...]
    dry_run: str

    def __str__(self) -> str:
        return shlex.join(self.words)


def launch_request(
    planned: PlannedJob,
    *,
    engine: str,
    program: Sequence[str],
    gpus_per_worker: int | None = None,
    options: Mapping[str, str] | None = None,
) -> LaunchRequest:
    """Writes the command that runs a plan, and has the engine check it.

    The flags are those of the job: workers and servers, restarts that 99 of 100 simulated jobs do
    not exceed, a quarter more time than nine of ten take, and time for a last save. A recipe also
    gets its own flags.

    Args:
        planned: The plan.
        engine: A value of `--engine`.
        program: The training program and its arguments.
        gpus_per_worker: GPUs of each worker. None: the engine's default.
        options: Settings that only this engine has.

    Raises:
        ValueError: If the engine cannot do what is asked, or needs an option. Names the flag.

    Example:
        >>> step = tfscale.plan.StepPrediction(
        ...     "ring", 2, 2, 20, 0.5, 0.5, 0.6, {"communication": 0.1, "input": 0.0}, 1.0, 40.0,
        ...     "compute", False, ""
        ... )
        >>> plan = tfscale.plan.best_plan([step], tfscale.plan.Circumstances(examples=144_000))
        >>> request = launch_request(plan.chosen, engine="slurm", program=["python", "train.py"])
        >>> print(" ".join(request.words[2:6]))
        --engine=slurm --num_workers=2 --max_restarts=0 --time_limit=2h
        >>> "#SBATCH --ntasks=2" in request.dry_run
        True
    """
    step, job = planned.prediction, planned.job
    least = "" if job.least_workers is None else f"{job.least_workers}:"
    words = ["tfscale", "launch", f"--engine={engine}", f"--num_workers={least}{step.workers}"]
    if job.parameter_servers:
        words.append(f"--num_ps={job.parameter_servers}")
    if gpus_per_worker is not None:
        words.append(f"--gpus_per_worker={gpus_per_worker}")
    words.append(f"--max_restarts={_restarts(planned)}")
    # A preempted job ends after two or three more steps and a save: docs/howto/checkpoints.md.
    grace = math.ceil(_LAST_STEPS * job.mean_step_seconds + job.saves.seconds)
    if grace > _DEFAULT_GRACE:
        words.append(f"--grace_seconds={grace}")
    hours = math.ceil(_SPARE_TIME * planned.high_seconds / _HOUR)
    if engine != "tpu_vm":  # which has no scheduler
        words.append(f"--time_limit={hours}h")
    words += [f"--option={name}={value}" for name, value in (options or {}).items()]
    command = [*program, *recipe_flags(planned, program)]
    return LaunchRequest(engine, (*words, "--", *command), _dry_run(words[2:], command))


def recipe_flags(planned: PlannedJob, program: Sequence[str]) -> list[str]:
    """Returns the flags that a recipe needs for a plan; none for another program.

    Raises:
        ValueError: If recipes have no flags for the strategy.
    """
    if not any(word.startswith(_RECIPES) for word in program):
        return []
    step = planned.prediction
    strategy, _, stage = step.strategy.partition("sharded_")
    names = {
        "mirrored": "mirrored",
        "ring": "multi_worker_mirrored",
        "": "multi_worker_mirrored",
        "parameter_servers": "parameter_server",
    }
    if strategy not in names:
        raise ValueError(
            "`program` must be a program of your own with the strategy "
            f"{step.strategy}: recipes have no flag for it. Received: {shlex.join(program)!r}. "
            "Write one, or leave the strategy out of --strategies."
        )
    flags = [f"--distribution_strategy={names[strategy]}"]
    if strategy == "mirrored":
        flags.append(f"--num_replicas={step.replicas}")
    if stage:
        flags.append(f"--shard={stage}")
    flags.append(f"--global_batch_size={step.global_batch_size}")
    if planned.job.every < planned.job.steps:
        flags.append(f"--checkpoint_every={planned.job.every}")
    return flags


def program_lines(planned: PlannedJob) -> list[str]:
    """Returns lines of Python that a program of the user needs for a plan."""
    step, job = planned.prediction, planned.job
    several = "multi_worker_mirrored_strategy"
    factories = {
        "mirrored": f"mirrored_strategy(num_replicas={step.replicas})",
        "ring": f"{several}()",
        "local_updates": f"{several}()",
        "parameter_servers": "parameter_server_strategy()",
        **{f"sharded_{stage}": f"{several}(shard={stage})" for stage in (1, 2, 3)},
    }
    lines = []
    if step.strategy in factories:
        lines.append(f"strategy = strategies.{factories[step.strategy]}")
    lines.append(f"global_batch_size = {step.global_batch_size}")
    if job.steps_between_averages == 1:
        return [*lines, f"callbacks = [tfscale.callbacks.Checkpoint(folder, every={job.every})]"]
    # Replicas differ within an epoch, so Checkpoint accepts the end of one only.
    if job.every < job.steps:
        lines.append(f"steps_per_epoch = {job.every}  # of fit, with data that repeats")
    local = f"tfscale.callbacks.LocalUpdates(every={job.steps_between_averages})"
    return [*lines, f"callbacks = [{local}, tfscale.callbacks.Checkpoint(folder)]"]


def _restarts(planned: PlannedJob) -> int:
    """Returns restarts that 99 of 100 jobs do not exceed; with servers, those of each worker."""
    job, forecast = planned.job, planned.forecast
    most = 0 if forecast is None else forecast.most_restarts
    if not job.parameter_servers or job.failures is None or forecast is None:
        return most
    mean = planned.high_seconds / job.failures.seconds
    # A Poisson distribution. Counts that are so much less than its mean have no probability.
    count = max(0, int(mean - 20 * math.sqrt(mean)))
    more = 1.0  # the probability that a worker fails more often
    while True:
        probability = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
        more -= probability
        # Beyond the mean a geometric series is more than the rest, which `more` rounds.
        ratio = mean / (count + 1)
        rest = probability * ratio / (1 - ratio) if ratio < 1 else 1.0
        if min(more, rest) * job.workers <= _EXCEEDED:
            return max(most, count)
        count += 1


def _dry_run(flags: Sequence[str], command: Sequence[str]) -> str:
    """Returns what the engine would submit: its own parser and its own checks see the flags."""
    # Here: only a plan that writes a request needs the launcher.
    from tfscale.launch.command import add_arguments
    from tfscale.launch.running import submission_of

    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    add_arguments(parser)
    try:
        arguments = parser.parse_args([*flags, "--dry_run"])
    except argparse.ArgumentError as error:
        raise ValueError(f"`engine` must be able to run the plan. {error}") from error
    arguments.command = list(command)
    return str(submission_of(arguments))
