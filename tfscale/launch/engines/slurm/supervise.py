"""Program: the batch job. Starts the workers, starts them again, or puts the job into the queue.

    python -m tfscale.launch.engines.slurm.supervise --job_id=ID --folder=DIR ... -- COMMAND

| the workers | then |
|---|---|
| all succeed (with parameter servers: the chief) | the job succeeds |
| all exit with 42, preempted and saved | the job is requeued |
| one fails, all hosts answer | all are started again in this allocation, up to --max_restarts |
| one fails, a host does not answer | the job is requeued |
| end after `tfscale jobs stop` | the job ends |

With --least_workers a job that has lost a host starts all workers again on those that answer, if
they are enough, and is requeued only if not. Requeued, it may get as many as it asked for.

If Slurm ends the batch job itself, it decides: it requeues a preempted job, and one whose host it
found lost. The record of all starts is in the job's folder, so that nothing is forgotten.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strategies.extension import JOB_VARIABLE, RESTART_VARIABLE, read_exit_reason
from tfscale.launch.engines.engine_tools import EngineFailed
from tfscale.launch.engines.job_request import task_names
from tfscale.launch.engines.slurm.allocation import Allocation, start_step
from tfscale.launch.engines.slurm.starts import (
    FAILED,
    HOST_LOST,
    PREEMPTED,
    STOPPED,
    SUCCEEDED,
    StartEnd,
    Starts,
)
from tfscale.launch.engines.slurm.worker_task import end_file, read_end
from tfscale.launch.outcome import PREEMPTED_STATUS, Task, WorkerFailure, at_fault
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy
from tfscale.launch.task_files import exit_reason_file

STOP_FILE = "stop"
"""In the job's folder: its user wants it to end."""
_REQUEUE_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """What the batch job runs; the arguments of this program."""

    job_id: str
    folder: Path
    log_dir: Path
    command: tuple[str, ...]
    tasks: tuple[str, ...]
    num_ps: int
    max_restarts: int | None
    early_seconds: float
    requeue: bool
    srun: tuple[str, ...]
    # Of a job whose number of workers may change; None if it is fixed.
    least_workers: int | None = None
    workers_per_host: int = 1

    @property
    def policy(self) -> RestartPolicy:
        """Decides about starts. Without `max_restarts` there is none after a failure.

        After a preemption there is: the scheduler preempts jobs for its own reasons.
        """
        return RestartPolicy(self.max_restarts or 0, early_seconds=self.early_seconds)


@dataclass(frozen=True)
class Place:
    """Where a start runs: its hosts, its tasks, and the flags of srun for both."""

    hosts: str
    tasks: tuple[str, ...]
    flags: tuple[str, ...]


class Supervisor:
    """Supervises a batch job.

    Args:
        plan: What it runs.
        allocation: Where it runs.
    """

    def __init__(self, plan: Plan, allocation: Allocation) -> None:
        self._plan = plan
        self._allocation = allocation
        member = allocation.member
        self._starts = Starts(plan.folder, member)
        self._log_dir = plan.log_dir / member
        self._id = f"{plan.job_id}-{member}" if member else plan.job_id
        self._is_ended_by_slurm = threading.Event()

    def run(self) -> int:
        """Runs the workers until the job is over, or is requeued. Returns its exit status.

        Raises:
            OSError: If the job's folder cannot be written, or srun cannot be started.
            ValueError: If the record of earlier starts is damaged.
        """
        signal.signal(signal.SIGTERM, lambda *_: self._is_ended_by_slurm.set())
        self._log_dir.mkdir(parents=True, exist_ok=True)
        while True:
            place = self._place()
            restart = self._starts.begin(place.hosts)
            _say(f"start {restart} on {place.hosts}.")
            began = time.monotonic()
            step_status = self._run_step(restart, place)
            end = self._end_of(restart, place, step_status, time.monotonic() - began)
            self._starts.end(end)
            _say(f"{end.said}.")
            if self._is_ended_by_slurm.is_set():
                return end.status  # Slurm has already decided what follows.
            if end.kind in (SUCCEEDED, STOPPED):
                return self._finished(end)
            if end.kind == FAILED and self._plan.max_restarts is None:
                return self._finished(end)
            decision = self._plan.policy.decide(self._starts.failures)
            if isinstance(decision, NoRestart):
                return self._finished(end, decision.reason)
            if end.kind == PREEMPTED or (end.kind == HOST_LOST and not self._has_enough_hosts()):
                return self._requeued(end)
            if not self._waited(decision):
                return end.status

    def _place(self) -> Place:
        """Returns where the next start runs. If the size may change, on all hosts that answer."""
        plan = self._plan
        if plan.least_workers is None:
            return Place(self._allocation.hosts, plan.tasks, (f"--ntasks={len(plan.tasks)}",))
        names = self._allocation.answering_hosts()
        tasks = plan.tasks[: len(names) * plan.workers_per_host]
        flags = (
            *(f"--nodes={len(names)}", f"--ntasks={len(tasks)}"),
            *(f"--ntasks-per-node={plan.workers_per_host}", f"--nodelist={','.join(names)}"),
            # Slurm 22.05 goes on counting what a step had that ended with a lost host, so that the
            # next step would wait for it.
            *("--overlap", "--mem=0"),
        )
        return Place(",".join(names), tasks, flags)

    def _has_enough_hosts(self) -> bool:
        plan = self._plan
        if plan.least_workers is None:
            return False
        count = len(self._allocation.answering_hosts()) * plan.workers_per_host
        if count < plan.least_workers:
            _say(f"{count} workers have hosts that answer, and {plan.least_workers} are needed.")
            return False
        return True

    def _run_step(self, restart: int, place: Place) -> int:
        plan = self._plan
        program = (
            *(sys.executable, "-m", "tfscale.launch.engines.slurm.worker_task"),
            *(f"--log_dir={self._log_dir}", f"--restart={restart}", f"--num_ps={plan.num_ps}"),
            *("--", *plan.command),
        )
        flags = (*plan.srun, *place.flags)
        variables = {JOB_VARIABLE: self._id, RESTART_VARIABLE: str(restart)}
        # Only with the job's time limit as its deadline: a training takes as long as it takes.
        return start_step(flags, program, variables).wait()

    def _end_of(self, restart: int, place: Place, step_status: int, seconds: float) -> StartEnd:
        tasks = [self._task(index, name, restart) for index, name in enumerate(place.tasks)]
        counted = tasks[:1] if self._plan.num_ps else tasks
        codes = {task.returncode for task in counted}
        if codes == {0}:
            what = "the chief" if self._plan.num_ps else "every worker"
            return StartEnd(SUCCEEDED, f"{what} succeeded", 0)
        if codes == {PREEMPTED_STATUS}:
            failure = WorkerFailure(0, PREEMPTED_STATUS, seconds)
            if self._is_stopped():
                return StartEnd(STOPPED, "stopped, all saved before", PREEMPTED_STATUS)
            return StartEnd(PREEMPTED, "preempted, all saved", PREEMPTED_STATUS, failure)
        if self._is_stopped():
            return StartEnd(STOPPED, "stopped", 128 + signal.SIGTERM)
        return self._failure(tasks, place, step_status, seconds)

    def _failure(
        self, tasks: Sequence[Task], place: Place, step_status: int, seconds: float
    ) -> StartEnd:
        # A worker that was preempted is not at fault, also if it ended first.
        judged = [
            dataclasses.replace(task, returncode=0) if task.returncode == PREEMPTED_STATUS else task
            for task in tasks
        ]
        if any(task.returncode for task in judged):
            failure = at_fault(judged, is_late=True)
            assert failure is not None
        else:
            missing = [task.name for task in tasks if task.returncode is None]
            why = f"no status of {', '.join(missing)}"
            failure = WorkerFailure(0, step_status or 1, seconds, task="srun", why=why)
        if self._is_ended_by_slurm.is_set():
            return StartEnd(FAILED, f"Slurm ends this job; {failure}", failure.status)
        silent = dataclasses.replace(self._allocation, hosts=place.hosts).silent_hosts()
        if silent:
            said = f"{failure}. Not all of {place.hosts} answer: {silent}"
            lost = WorkerFailure(0, PREEMPTED_STATUS, seconds)  # free, as a preemption is
            return StartEnd(HOST_LOST, said, failure.status, lost)
        return StartEnd(FAILED, str(failure), failure.status, failure)

    def _task(self, index: int, name: str, restart: int) -> Task:
        end = read_end(end_file(self._log_dir, name, restart))
        reason = read_exit_reason(exit_reason_file(self._log_dir, name, restart))
        words = name.replace("-", " ")
        return Task(
            worker=index,
            name=words,
            started=end.started if end else 0.0,
            returncode=end.returncode if end else None,
            ended=end.ended if end else None,
            exit_reason=reason,
            task=words,
        )

    def _is_stopped(self) -> bool:
        return (self._plan.folder / STOP_FILE).exists()

    def _finished(self, end: StartEnd, reason: str | None = None) -> int:
        self._starts.finish()
        if reason:
            _say(f"not started again: {reason}.")
        return end.status

    def _requeued(self, end: StartEnd) -> int:
        if not self._plan.requeue:
            return self._finished(end, "`requeue` is no")
        _say(f"requeues job {self._allocation.job}.")
        try:
            self._allocation.requeue()
        except EngineFailed as error:
            return self._finished(end, f"{error}".rstrip("."))
        # Slurm ends this program; to end before would complete the job instead.
        self._is_ended_by_slurm.wait(_REQUEUE_SECONDS)
        return end.status

    def _waited(self, restart: Restart) -> bool:
        """Waits before a restart. Returns whether there will be one."""
        wait, limit = restart.wait_seconds, self._plan.max_restarts or 0
        _say(f"all workers start again in {wait:g} s: {restart.used} of {limit} restarts used.")
        is_ended = self._is_ended_by_slurm.wait(wait)
        if self._is_stopped():
            self._starts.finish()
            return False
        return not is_ended


def main(arguments: list[str] | None = None) -> int:
    """Runs the batch job. Returns its exit status."""
    try:
        return Supervisor(_plan(arguments), Allocation.of(os.environ)).run()
    except (OSError, ValueError, EngineFailed) as error:
        _say(str(error))
        return 1


def _plan(arguments: list[str] | None) -> Plan:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job_id", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--log_dir", type=Path, required=True)
    parser.add_argument("--num_workers", type=int, required=True)
    parser.add_argument("--num_ps", type=int, default=0)
    parser.add_argument("--least_workers", type=int)
    parser.add_argument("--workers_per_host", type=int, default=1)
    parser.add_argument("--max_restarts", type=int)
    parser.add_argument("--early_seconds", type=float, required=True)
    parser.add_argument("--no_requeue", action="store_true")
    parser.add_argument("--srun", action="append", default=[])
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    return Plan(
        job_id=given.job_id,
        folder=given.folder,
        log_dir=given.log_dir,
        command=tuple(given.command),
        tasks=task_names(given.num_workers, given.num_ps),
        num_ps=given.num_ps,
        max_restarts=given.max_restarts,
        early_seconds=given.early_seconds,
        requeue=not given.no_requeue,
        srun=tuple(given.srun),
        least_workers=given.least_workers,
        workers_per_host=given.workers_per_host,
    )


def _say(sentence: str) -> None:
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] tfscale launch: {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
