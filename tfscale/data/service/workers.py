"""The data workers, as a trainer sees them: which answer, which are late, which are down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from strategies.extension import Deadline
from tfscale.data.service.description import Description, difference, digest
from tfscale.data.service.messages import CHANNEL_OPTIONS, SERVICE, Question

_DOWN_SECONDS = 1.0  # until a data worker that is down is tried again
_DESCRIBE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_ANSWERS = (
    grpc.StatusCode.OK,
    grpc.StatusCode.ABORTED,  # an error of the user's source
    grpc.StatusCode.FAILED_PRECONDITION,  # other pipelines
)


class OtherPipelinesError(ValueError):
    """A data worker serves other pipelines than the trainer's."""


class DataWorker:
    """One data worker.

    Attributes:
        index: Its index.
        address: "host:port".
        asked: Questions that it has not answered.
        is_late: Whether it owes an answer for long. It is asked nothing until it answers.
        trouble: Why it was last down; empty if it has answered since.
    """

    def __init__(self, index: int, address: str) -> None:
        self.index = index
        self.address = address
        self.asked = 0
        self.is_late = False
        self.trouble = ""
        self.down_until = 0.0
        # A data worker that was restarted is found again within a second.
        reconnect = (
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 500),
        )
        self.channel = grpc.insecure_channel(address, (*CHANNEL_OPTIONS, *reconnect))
        self.get = self.channel.unary_unary(f"/{SERVICE}/Get")
        self.describe = self.channel.unary_unary(f"/{SERVICE}/Describe")

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"data worker {self.index} ({self.address})"

    @property
    def state(self) -> str:
        """What is known of it, for an error."""
        if self.trouble:
            return f"{self.name} is down: {self.trouble}"
        return f"{self.name} does not answer" if self.asked else f"{self.name} is idle"


class Workers:
    """All data workers of a job.

    Args:
        addresses: "host:port" of each.
        job: The name of the job.
        descriptions: Of the pipelines of this process.
        deadline_seconds: Seconds without an answer of any data worker, after which it is an error.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        job: str,
        descriptions: list[Description],
        deadline_seconds: float,
    ) -> None:
        self.all = [DataWorker(index, address) for index, address in enumerate(addresses)]
        self.deadline_seconds = deadline_seconds
        self.job = job
        self.digest = digest(descriptions)
        self.longest_seconds = 0.0  # of all answers
        self.is_closed = False
        self._descriptions = descriptions
        self._lock = threading.Lock()

    def await_first(self, seconds: float) -> None:
        """Waits until a data worker answers, and compares its pipelines with those of this process.

        Raises:
            OtherPipelinesError: If they differ.
            TimeoutError: If none answers in time.
        """
        deadline = Deadline(seconds)
        while True:
            for worker in self.all:
                try:
                    self._compare(worker, min(_DESCRIBE_SECONDS, max(deadline.left(), 0.1)))
                except grpc.RpcError as error:
                    worker.trouble = _reason(error)
                else:
                    worker.trouble = ""
                    return
            if deadline.is_over():
                raise TimeoutError(
                    f"No data worker has answered within {seconds:g} s (start_seconds of `tfscale "
                    f"launch`): {self.states()}. See why in the lines of the data workers."
                )
            time.sleep(_POLL_SECONDS)

    def states(self) -> str:
        """Says what is known of each data worker."""
        return "; ".join(worker.state for worker in self.all)

    def refuse_other_pipelines(self, worker: DataWorker) -> None:
        """Raises the difference between the pipelines of a data worker and those here.

        Raises:
            OtherPipelinesError: Always, unless the data worker is down by now.
        """
        try:
            self._compare(worker, _DESCRIBE_SECONDS)
        except grpc.RpcError as error:
            self._down(worker, _reason(error))

    def free(self, without: Sequence[DataWorker] = ()) -> DataWorker | None:
        """Returns the data worker with the fewest questions, or None if each is down or late."""
        now = time.monotonic()
        with self._lock:
            usable = [
                worker
                for worker in self.all
                if worker not in without
                and not (worker.is_late and worker.asked)
                and worker.down_until <= now
            ]
        return min(usable, key=lambda worker: worker.asked, default=None)

    def ask(
        self, worker: DataWorker, question: Question, done: Callable[[Any], None]
    ) -> grpc.Future:
        """Sends a question. `done` is called in another thread with the future, when it is."""
        began = time.monotonic()
        with self._lock:
            worker.asked += 1
        future = worker.get.future(question.to_bytes(), timeout=self.deadline_seconds)

        def note(future: Any) -> None:
            code = future.code()
            with self._lock:
                worker.asked -= 1
                if code in _ANSWERS:
                    worker.is_late, worker.trouble = False, ""
                if code is grpc.StatusCode.OK:
                    self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            if code not in _ANSWERS and code is not grpc.StatusCode.CANCELLED:
                self._down(worker, _reason(future))
            done(future)

        future.add_done_callback(note)
        return future

    def close(self) -> None:
        """Ends all streams of batches and connections."""
        self.is_closed = True
        for worker in self.all:
            worker.channel.close()

    def _down(self, worker: DataWorker, trouble: str) -> None:
        with self._lock:
            worker.trouble = trouble
            worker.is_late = False
            worker.down_until = time.monotonic() + _DOWN_SECONDS

    def _compare(self, worker: DataWorker, seconds: float) -> None:
        found = json.loads(worker.describe(b"", timeout=seconds))
        if found["job"] != self.job:
            raise OtherPipelinesError(
                f"{worker.name} belongs to another job, {found['job']!r}. Let `tfscale launch` "
                "choose the ports."
            )
        differs = difference(self._descriptions, found["pipelines"])
        if differs:
            raise OtherPipelinesError(
                "`pipelines` must be the same in a data worker and in a worker that trains. "
                f"Received: {differs}, in {worker.name}. Run the same program in all, call "
                "`served` once, with all pipelines, and let them depend neither on the strategy "
                "nor on what is drawn at random."
            )


def _reason(error: Any) -> str:
    details = str(error.details() or "")
    return f"{error.code().name.lower()} ({details[:200]})"
