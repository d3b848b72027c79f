"""Program: the driver of a job on Ray. It starts the workers, and restarts them after a failure.

    python -m tfscale.launch.engines.ray.driver      # TFSCALE_RAY_JOB says what to run

`ray job submit` runs it on the cluster; see engine.py. The loss of a node ends the actors on it,
which counts as the failure of their workers. The next start waits until there is room again.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from strategies.extension import Deadline, start_seconds_from_environment
from tfscale.launch.attempts import ended_after, run_with_restarts
from tfscale.launch.engines.end_report import EndReport, reported_task
from tfscale.launch.engines.ray.engine import JOB_FILE_VARIABLE, STACKS_FILE, STOP_FILE
from tfscale.launch.engines.ray.worker import RayWorker
from tfscale.launch.events import Events, SignalReceived, signals_as_events
from tfscale.launch.outcome import (
    JUDGE_SECONDS,
    PREEMPTED_STATUS,
    Outcome,
    Task,
    WorkerFailure,
    at_fault,
)
from tfscale.launch.output import say
from tfscale.launch.restarts import RestartPolicy

_POLL_SECONDS = 0.5
_LOST = -int(signal.SIGKILL)  # an actor ends with its node without saying how


def main() -> int:
    """Runs the job. Returns its exit status."""
    job = json.loads(os.environ.pop(JOB_FILE_VARIABLE))
    events: Events = queue.SimpleQueue()
    policy = RestartPolicy(job["max_restarts"], job["early_seconds"])
    with signals_as_events(events), ended_after(job["time_limit"], events) as limit:
        ray.init(address="auto", log_to_driver=True)
        outcome = run_with_restarts(
            lambda restart: _Start(job, restart, events).run(), policy, events
        )
    outcome = limit.told(outcome)
    if outcome.status != 0:
        say(str(outcome))
    return outcome.status


class _Start:
    """One start of the job."""

    def __init__(self, job: Mapping[str, Any], restart: int, events: Events) -> None:
        self._job, self._restart, self._events = job, restart, events
        self._began = time.monotonic()
        self._ends: dict[int, EndReport] = {}
        self._signal: int | None = None
        self._failure: WorkerFailure | None = None
        self._judge_at: float | None = None
        self._workers: list[Any] = []

    def run(self) -> Outcome:
        """Starts the workers and waits until all have ended."""
        job, count = self._job, self._job["num_workers"]
        seconds = start_seconds_from_environment({**os.environ, **job["environment"]})
        group = placement_group([job["resources"]] * count, strategy=job["placement"])
        try:
            if not self._await_room(group, seconds):
                if self._signal is not None:
                    return Outcome(stop_signal=self._signal)
                why = f"no room for {count} workers with {job['resources']} within {seconds:g} s"
                return Outcome(first_failure=WorkerFailure(0, 1, seconds, task="Ray", why=why))
            self._workers = [self._worker(group, rank) for rank in range(count)]
            try:
                addresses = ray.get([w.address.remote() for w in self._workers], timeout=seconds)
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
                why = f"it did not start all workers ({type(error).__name__})"
                passed = time.monotonic() - self._began
                return Outcome(first_failure=WorkerFailure(0, 1, passed, task="Ray", why=why))
            ranks = {w.run.remote(tuple(addresses)): i for i, w in enumerate(self._workers)}
            self._await_ends(ranks)
            return self._outcome()
        finally:
            for worker in self._workers:
                ray.kill(worker)
            remove_placement_group(group)

    def _await_room(self, group: Any, seconds: float) -> bool:
        deadline, ready = Deadline(seconds), group.ready()
        while not deadline.is_over() and self._signal is None:
            if ray.wait([ready], timeout=_POLL_SECONDS)[0]:
                return True
            self._look()
        return False

    def _worker(self, group: Any, rank: int) -> Any:
        resources = self._job["resources"]
        options = {
            "num_cpus": resources["CPU"],
            "num_gpus": resources.get("GPU", 0),
            "memory": resources.get("memory"),
            "max_concurrency": 3,  # it is asked to stop while it runs
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=rank
            ),
        }
        actor = ray.remote(RayWorker).options(**options)
        return actor.remote(rank, self._job, self._restart)

    def _await_ends(self, running: dict[Any, int]) -> None:
        while running:
            ended, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            for future in ended:
                rank = running.pop(future)
                self._ends[rank] = self._end_of(future, rank)
                if self._ends[rank].returncode and not self._is_ending:
                    self._judge_at = self._judge_at or time.monotonic() + JUDGE_SECONDS
            self._look()
            if self._judge_at is not None and not self._is_ending:
                is_late = time.monotonic() >= self._judge_at or not running
                self._failure = at_fault(self._tasks(), is_late)
                if self._failure is not None and running:
                    what = self._failure.sentence(with_why=False)
                    say(f"{what}; ending the others within {self._job['grace_seconds']:g} s")
                    self._stop()

    @property
    def _is_ending(self) -> bool:
        return self._failure is not None or self._signal is not None

    def _end_of(self, future: Any, rank: int) -> EndReport:
        try:
            report = ray.get(future)
            assert isinstance(report, EndReport)
            return report
        except ray.exceptions.RayTaskError as error:
            say(f"worker {rank} could not be run: {error.cause or error}")
            return EndReport(rank, 1, 0.0, time.time(), reason=None)
        except ray.exceptions.RayError:
            say(f"worker {rank} was lost with its actor or its node")
            passed = time.monotonic() - self._began
            return EndReport(rank, _LOST, passed, time.time(), reason=None)

    def _look(self) -> None:
        """Takes signals, and requests in the job's folder."""
        folder = Path(self._job["job_folder"])
        if self._signal is None:
            with contextlib.suppress(queue.Empty):
                event = self._events.get_nowait()
                if isinstance(event, SignalReceived):
                    self._end_for(event.number)
        if self._signal is None and (folder / STOP_FILE).exists():
            self._end_for(int(signal.SIGTERM))
        if (folder / STACKS_FILE).exists():
            with contextlib.suppress(OSError):
                (folder / STACKS_FILE).unlink()
            for worker in self._workers:
                worker.ask_for_stacks.remote()

    def _end_for(self, number: int) -> None:
        self._signal = number
        self._stop()

    def _stop(self) -> None:
        for rank, worker in enumerate(self._workers):
            if rank not in self._ends:
                worker.stop.remote()

    def _outcome(self) -> Outcome:
        if self._failure is not None:
            return Outcome(first_failure=self._failure, stop_signal=self._signal)
        if self._signal is not None:
            saved = {report.returncode for report in self._ends.values()} == {PREEMPTED_STATUS}
            return Outcome(stop_signal=self._signal, all_saved=saved)
        return Outcome()

    def _tasks(self) -> list[Task]:
        ranks = range(self._job["num_workers"])
        return [reported_task(rank, self._ends.get(rank)) for rank in ranks]


if __name__ == "__main__":
    sys.exit(main())
