"""The doctors of all tasks of a cluster, which wait for each other with deadlines.

    with Meeting(cluster, seconds=30.0, versions=versions) as meeting:
        meeting.connect()
        meeting.publish({"matmul_gflops": 90.0})
        table = meeting.collect()
        print(report)
        meeting.gather("end")

A task that ended first with status 1 would make a launcher end the others before they have printed
what they found. So each keeps answering until all have printed.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import strategies
from strategies.extension import Deadline, host_and_port
from tfscale.doctor.cluster_configuration import own_task, tasks_of
from tfscale.doctor.peers.protocol import Conversation, Listener, NotADoctor
from tfscale.doctor.peers.row import ATTEMPT_SECONDS, learn, own_machine
from tfscale.doctor.peers.shared_folder import answer_about
from tfscale.doctor.threads import each_within

_PAUSE_SECONDS = 0.1


class Meeting:
    """This task's part in the exchange. It listens from `__enter__` to `__exit__`.

    Args:
        cluster: The cluster, with this process's task.
        seconds: How long to wait for other tasks, in each part.
        versions: What is installed here, by name.
        shared_dir: The folder that the tasks share, or None.

    Attributes:
        task: The name of this task.
        row: What this task has learned of each other one; see `row.learn`.
        listening_error: Why this task cannot listen at its address, or None.
    """

    def __init__(
        self,
        cluster: strategies.Cluster,
        *,
        seconds: float,
        versions: Mapping[str, str],
        shared_dir: Path | None = None,
    ) -> None:
        self.task = own_task(cluster)
        self.row: dict[str, dict[str, Any]] = {}
        self.listening_error: OSError | None = None
        self._addresses = tasks_of(cluster)
        self._order = tuple(self._addresses)
        self._own_address = self._addresses.pop(self.task, None)
        self._seconds = seconds
        self._shared_dir = shared_dir
        self._hello = {
            "task": self.task,
            "jobs": {job: list(addresses) for job, addresses in cluster.jobs.items()},
            "host": socket.gethostname(),
            "machine": own_machine(),
            "versions": dict(versions),
            "has_shared_dir": shared_dir is not None,
        }
        self._facts: dict[str, Any] = {"is_complete": False}
        self._arrived: dict[str, set[str]] = {}
        self._changed = threading.Condition()
        self._listener: Listener | None = None
        self._table: dict[str, Any] = {}

    def __enter__(self) -> Meeting:
        self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.pause()

    @property
    def is_whole(self) -> bool:
        """Whether every task has reached every other one, as far as this task knows."""
        return (
            all(
                facts is not None and all(seen["reached"] for seen in facts["row"].values())
                for facts in self._table.values()
            )
            and len(self._table) == len(self._addresses) + 1
        )

    @property
    def machines(self) -> dict[str, str]:
        """The machine of every task that was reached, and of this one, in the cluster's order."""
        known = {peer: self.row[peer]["machine"] for peer in self._reached()}
        known[self.task] = own_machine()
        return {task: known[task] for task in (*self._order, self.task) if task in known}

    def resume(self) -> None:
        """Listens at this task's address, if it has one."""
        if self._own_address is not None and self._listener is None:
            _, port = host_and_port(self._own_address)
            try:
                self._listener = Listener(port, self._answer)
            except OSError as error:
                self.listening_error = error

    def pause(self) -> None:
        """Stops listening, so that TensorFlow can."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def connect(self) -> None:
        """Tries to reach all other tasks, at the same time, until all are or time is over."""
        deadline = Deadline(self._seconds)

        def work(peer: str) -> None:
            learned = learn(
                peer,
                self._addresses[peer],
                hello=self._hello,
                deadline=deadline,
                shared_dir=self._shared_dir,
            )
            with self._changed:
                self.row[peer] = learned

        # A look-up of a name has no deadline of its own.
        each_within(self._seconds + 4 * ATTEMPT_SECONDS, work, self._addresses)
        with self._changed:
            for peer in self._addresses:
                failed = {"reached": False, "failure": "silent", "error": "no answer in time"}
                self.row.setdefault(peer, failed)
            self.row = {peer: self.row[peer] for peer in self._addresses}

    def publish(self, figures: Mapping[str, float] | None) -> None:
        """Tells the others what this task has learned and measured.

        Args:
            figures: What the check of its health has measured, or None.
        """
        with self._changed:
            self._facts = {"is_complete": True, "row": self.row, "figures": figures}

    def collect(self) -> dict[str, dict[str, Any] | None]:
        """Returns the `row` and `figures` of every task by name; None of one that tells nothing."""
        deadline = Deadline(2 * self._seconds)
        found: dict[str, Any] = {}

        def work(peer: str) -> None:
            while not deadline.is_over():
                try:
                    facts = self._ask(peer, {"ask": "facts"})
                    if facts.get("is_complete") and _is_row(facts.get("row")):
                        found[peer] = {"row": facts["row"], "figures": facts.get("figures")}
                        return
                except ConnectionRefusedError:
                    return  # it was there, and has ended
                except (OSError, NotADoctor):
                    pass
                time.sleep(_PAUSE_SECONDS)

        each_within(2 * self._seconds + ATTEMPT_SECONDS, work, self._reached())
        own = {"row": self.row, "figures": self._facts.get("figures")}
        named = {**{peer: found.get(peer) for peer in self._addresses}, self.task: own}
        self._table = {task: named[task] for task in (*self._order, self.task) if task in named}
        return self._table

    def gather(self, point: str) -> bool:
        """Waits until all tasks that can are at a point, or time is over.

        Args:
            point: The name of the point.

        Returns:
            Whether all of them came.
        """
        if self._own_address is None:
            return False  # an evaluator that the others do not know
        deadline = Deadline(self._seconds)
        expected = {
            peer
            for peer in self._reached()
            if (facts := self._table.get(peer)) is None
            or facts["row"].get(self.task, {}).get("reached")
        }

        def work(peer: str) -> None:
            while not deadline.is_over():
                question = {"ask": "arrived", "point": point, "from": self.task}
                try:
                    if self._ask(peer, question).get("is_noted"):
                        return
                except (ConnectionError, NotADoctor):
                    if peer in self._arrived.get(point, ()):
                        return  # It was here, has noted this task, and has moved on.
                except OSError:
                    pass
                time.sleep(_PAUSE_SECONDS)

        each_within(self._seconds + ATTEMPT_SECONDS, work, self._reached())
        with self._changed:
            return self._changed.wait_for(
                lambda: expected <= self._arrived.get(point, set()),
                timeout=deadline.left() if self._listener is not None else 0.0,
            )

    def _reached(self) -> list[str]:
        return [peer for peer, learned in self.row.items() if learned["reached"]]

    def _ask(self, peer: str, question: Mapping[str, Any]) -> dict[str, Any]:
        with Conversation(self._addresses[peer], ATTEMPT_SECONDS) as conversation:
            return conversation.ask(question)

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        received = time.time()
        ask = question.get("ask")
        if ask == "time":
            return {"received": received, "sent": time.time()}
        if ask == "hello":
            return self._hello
        if ask == "facts":
            with self._changed:
                return dict(self._facts)
        peer = str(question.get("from"))
        if ask == "arrived" and peer in self._addresses:
            with self._changed:
                self._arrived.setdefault(str(question.get("point"))[:40], set()).add(peer)
                self._changed.notify_all()
            return {"is_noted": True}
        return answer_about(self._shared_dir, question)


def _is_row(row: object) -> bool:
    """Returns whether what another process sent can be read as a row."""
    return isinstance(row, dict) and all(
        isinstance(seen, dict)
        and isinstance(seen.get("reached"), bool)
        and all(isinstance(seen.get(name, ""), str) for name in ("failure", "error"))
        and isinstance(seen.get("round_trip_seconds", 0.0), float)
        for seen in row.values()
    )
