"""One launcher of an elastic job, from the rendezvous to the end of the job."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

from strategies import Cluster
from tfscale.files.room import free_memory
from tfscale.launch.attempt import Job, started_worker
from tfscale.launch.elastic.connection import Connection, RendezvousLost
from tfscale.launch.elastic.messages import (
    Ended,
    Finish,
    Leaving,
    Note,
    Offer,
    Refused,
    Start,
    Welcome,
)
from tfscale.launch.elastic.rendezvous import Rendezvous
from tfscale.launch.elastic.rendezvous_server import SILENT_SECONDS
from tfscale.launch.elastic.supervision import ElasticSupervision
from tfscale.launch.events import (
    ConnectionLost,
    MessageArrived,
    SignalReceived,
    next_event,
)
from tfscale.launch.outcome import PREEMPTED_STATUS, signal_name
from tfscale.launch.output import say
from tfscale.launch.ports import ReservedPort, reserve_port


@dataclass(frozen=True)
class ElasticOutcome:
    """How a job, or this host's part of it, ended.

    Attributes:
        status: Exit status of the launcher: 0 if every worker succeeded; 42 if all was saved after
            a signal; 128 + s after signal s; else the status of the worker at fault, or 1.
        sentence: Why, without an end mark.
        restarts: Restarts of the job, including those after a change of its size.
    """

    status: int
    sentence: str
    restarts: int = 0

    def __str__(self) -> str:
        return self.sentence


def stopped(number: int, *, saved: bool = False, restarts: int = 0) -> ElasticOutcome:
    """Returns the outcome of a launcher whose host has left the job because of a signal."""
    sentence = f"{signal_name(number)} received; this host has left the job"
    if saved:
        return ElasticOutcome(PREEMPTED_STATUS, f"{sentence}, all saved before", restarts)
    return ElasticOutcome(128 + number, sentence, restarts)


class Launcher:
    """One launcher, from the rendezvous to the end of the job.

    Args:
        job: The settings of its workers.
        rendezvous: For messages and waits.
        connection: To the rendezvous; `Hello` is said.
        ports: Holds the ports of the present start.
        is_host: Whether the rendezvous runs in this process.
    """

    def __init__(
        self,
        job: Job,
        rendezvous: Rendezvous,
        connection: Connection,
        ports: contextlib.ExitStack,
        is_host: bool,
    ) -> None:
        self._job, self._rendezvous, self._connection = job, rendezvous, connection
        self._ports, self._is_host = ports, is_host
        self._reserved: list[ReservedPort] = []
        self._restarts = 0
        self._has_saved = False

    def run(self) -> ElasticOutcome:
        """Starts workers whenever the rendezvous says so, until the job is over."""
        welcome = self._wait(SILENT_SECONDS)
        if isinstance(welcome, ElasticOutcome):
            return welcome
        if not isinstance(welcome, Welcome):
            raise self._lost("it does not say Welcome")
        self._job = dataclasses.replace(self._job, name=welcome.job)
        while True:
            self._offer()
            start = self._wait(None)
            if isinstance(start, ElasticOutcome):
                return start
            if isinstance(start, Start):
                outcome = self._run_workers(start)
                if outcome is not None:
                    return outcome

    def _offer(self) -> None:
        with contextlib.ExitStack() as stack:
            # The ports of the previous start are still reserved, so that none is reused.
            count = self._rendezvous.workers_per_host
            self._reserved = [stack.enter_context(reserve_port()) for _ in range(count)]
            self._ports.close()
            self._ports.push(stack.pop_all())
        numbers = tuple(port.number for port in self._reserved)
        self._connection.send(Offer(numbers, free_memory()))

    def _wait(self, seconds: float | None) -> Welcome | Start | ElasticOutcome:
        """Waits for what the rendezvous says next, which shows life while nothing happens."""
        deadline = None if seconds is None else time.monotonic() + seconds
        stop: int | None = None
        while True:
            match next_event(self._job.events, deadline):
                case None:
                    raise self._lost(f"no answer for {seconds:g} s")
                case ConnectionLost(reason):
                    raise self._lost(reason)
                case SignalReceived(number):
                    stop = stop or number
                    self._leave(number)
                    if not self._is_host:
                        return stopped(stop, saved=self._has_saved, restarts=self._restarts)
                case MessageArrived(Note(text)):
                    say(text)
                case MessageArrived(Refused(reason)):
                    raise ValueError(
                        "`rendezvous` must be that of a job with the same arguments. Received: "
                        f"rendezvous={self._rendezvous.address!r}, which refuses this launcher: "
                        f"{reason}. Start all launchers of a job with the same arguments, and "
                        "give another job another port."
                    )
                case MessageArrived(Finish() as finish):
                    return ElasticOutcome(finish.status, finish.sentence, finish.restarts)
                case MessageArrived(Welcome() | Start() as message):
                    if stop is None:
                        return message
                case _:
                    pass  # of an earlier start

    def _run_workers(self, start: Start) -> ElasticOutcome | None:
        """Runs the workers of one start. Returns how the job ended, or None if it goes on."""
        job, self._restarts = self._job, start.restart
        for port in self._reserved:
            port.release()
        indices = range(start.first, start.first + job.num_workers)
        clusters = [Cluster({"worker": start.addresses}, "worker", index) for index in indices]
        workers = [
            started_worker(job, c, c.task_index, start.restart, first=start.first) for c in clusters
        ]
        send = self._connection.send
        supervision = ElasticSupervision(workers, job.events, job.grace_seconds, job.guard, send)
        outcome = supervision.run()
        ended = supervision.ended()
        self._has_saved = ended.saved
        if supervision.finish is not None:
            finish = supervision.finish
            return ElasticOutcome(finish.status, finish.sentence, finish.restarts)
        if supervision.lost is not None:
            raise self._lost(supervision.lost.reason)
        if outcome.not_ended:
            send(Leaving(f"SIGKILL did not end workers {list(outcome.not_ended)}", 1))
        send(ended)
        return self._own_end(outcome.stop_signal, outcome.output_error, outcome.not_ended, ended)

    def _own_end(
        self,
        stop_signal: int | None,
        output_error: str | None,
        not_ended: Sequence[int],
        ended: Ended,
    ) -> ElasticOutcome | None:
        """Returns how this host's part ended if it has left the job, or else None."""
        if stop_signal is None and output_error is None and not not_ended:
            return None
        if self._is_host:  # the job is over once the workers of the other hosts have ended, too
            found = self._wait(None)
            while not isinstance(found, ElasticOutcome):
                found = self._wait(None)
            return found
        if stop_signal is not None:
            return stopped(stop_signal, saved=ended.saved, restarts=self._restarts)
        why = (
            f"output cannot be written ({output_error})"
            if output_error is not None
            else f"SIGKILL did not end workers {list(not_ended)}"
        )
        return ElasticOutcome(1, f"{why}; this host has left the job", self._restarts)

    def _leave(self, number: int) -> None:
        self._connection.send(Leaving(f"{signal_name(number)} received", 128 + number))

    def _lost(self, reason: str) -> RendezvousLost:
        address = self._rendezvous.address
        if not self._job.name:
            return RendezvousLost(
                f"what answers at the rendezvous {address} is not a launcher of this job: "
                f"{reason}. Another program may use the port: choose another one on all hosts."
            )
        return RendezvousLost(
            f"the rendezvous {address} is lost: {reason}. This host's workers have ended. The job "
            "ends with the launcher that runs the rendezvous: restart it on all hosts, and it "
            "resumes from its last checkpoint."
        )
