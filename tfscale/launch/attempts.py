"""Repeats the starts of a job until it succeeds, is stopped, or may not restart."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator

from tfscale.launch.events import Events, SignalReceived, next_event
from tfscale.launch.outcome import Outcome, WorkerFailure, signal_name
from tfscale.launch.output import say
from tfscale.launch.restarts import NoRestart, Restart, RestartPolicy


def run_with_restarts(
    attempt: Callable[[int], Outcome], policy: RestartPolicy, events: Events
) -> Outcome:
    """Runs a job, again if the policy says so.

    Args:
        attempt: Runs one start, given the number of earlier ones.
        policy: Decides about restarts.
        events: The job's queue. A signal in it ends the wait before a restart.

    Returns:
        How the last start ended.
    """
    failures: list[WorkerFailure] = []
    while True:
        restarts = len(failures)
        outcome = dataclasses.replace(attempt(restarts), restarts=restarts)
        # Never restart while processes of the previous start have survived SIGKILL.
        if outcome.first_failure is None or outcome.not_ended:
            return outcome
        if outcome.stop_signal is not None:
            received = f"{signal_name(outcome.stop_signal)} was received"
            reason = None if policy.max_restarts is None else received
            return dataclasses.replace(outcome, not_restarted=reason)
        failures.append(outcome.first_failure)
        match policy.decide(failures):
            case NoRestart(reason):
                return dataclasses.replace(outcome, not_restarted=reason)
            case Restart() as restart:
                uncounted = ", not counted (preempted)" if restart.free else ""
                say(
                    f"{outcome}. Restart in {restart.wait_seconds:g} s{uncounted}; "
                    f"{restart.used} of {policy.max_restarts} restarts used"
                )
                stop_signal = signal_until(time.monotonic() + restart.wait_seconds, events)
                if stop_signal is not None:
                    return Outcome(
                        stop_signal=stop_signal, all_saved=restart.free, restarts=restarts
                    )


@dataclasses.dataclass
class TimeLimit:
    """The time that a job may take.

    Attributes:
        seconds: The time. None: no limit.
        is_over: Whether it has passed, and the job is ended because of it.
    """

    seconds: float | None
    is_over: bool = False

    def told(self, outcome: Outcome) -> Outcome:
        """Returns the outcome, which names the limit if it has ended the job."""
        if outcome.stop_signal is None or not self.is_over:
            return outcome
        why = f"the time limit of {self.seconds:g} s is over"
        return dataclasses.replace(outcome, stopped_by=why)


@contextlib.contextmanager
def ended_after(seconds: float | None, events: Events) -> Iterator[TimeLimit]:
    """Makes the launcher end the job, as at SIGTERM, once its time is over.

    Args:
        seconds: The time. None: no limit.
        events: The job's queue.
    """
    limit = TimeLimit(seconds)
    if seconds is None:
        yield limit
        return

    def end() -> None:
        say(f"the time limit of {seconds:g} s is over; the workers get SIGTERM")
        limit.is_over = True
        events.put(SignalReceived(signal.SIGTERM))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield limit
    finally:
        timer.cancel()


def signal_until(deadline: float, events: Events) -> int | None:
    """Waits for a signal to the launcher. Other events are dropped.

    Args:
        deadline: End of the wait, on the clock of `time.monotonic`.
        events: The job's queue.

    Returns:
        The signal's number, or None at the deadline.
    """
    while (event := next_event(events, deadline)) is not None:
        if isinstance(event, SignalReceived):
            return event.number
    return None
