"""The batches of one share, step after step, from data workers that may fail or stop."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from strategies.extension import Deadline
from tfscale.data.service.messages import Question
from tfscale.data.service.workers import DataWorker, Workers

NOTHING_YET = b""
"""Yielded while there is no answer, so that a reader which is being closed can stop."""
_POLL_SECONDS = 0.25
# An answer that takes so much longer than all before is asked of a second data worker too.
_PATIENCE_SECONDS = 4.0
_PATIENCE_FACTOR = 4.0
_MOST_PATIENCE_SECONDS = 60.0


@dataclass
class _Request:
    """A question, and the data workers that were asked.

    Attributes:
        question: The question.
        asked: The data workers that have not answered yet, and when they were asked.
        answer: The answer, or the error of the user's source.
    """

    question: Question
    asked: list[tuple[DataWorker, float, grpc.Future]] = field(default_factory=list)
    answer: bytes | Exception | None = None


class BatchStream:
    """Asks ahead for the batches of consecutive steps, and yields the answers in order.

    A question that is lost with a data worker goes to another one. One that is late goes to a
    second one as well, and the first answer counts: both are the same.

    Args:
        workers: The data workers.
        questions: The questions, without end.
        ahead: Questions that are under way. Positive.
    """

    def __init__(self, workers: Workers, questions: Iterator[Question], ahead: int) -> None:
        self._workers = workers
        self._questions = questions
        self._ahead = ahead
        self._requests: deque[_Request] = deque()
        self._answers: queue.SimpleQueue[tuple[_Request, DataWorker, Any]] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[bytes]:
        """Yields answers in the order of the questions, or `NOTHING_YET`.

        Raises:
            RuntimeError: The user's source has failed in a data worker.
            TimeoutError: No data worker has answered for the deadline.
            OtherPipelinesError: A data worker serves other pipelines.
        """
        try:
            waits = Deadline(self._workers.deadline_seconds)
            while not self._workers.is_closed:
                while len(self._requests) < self._ahead:
                    self._requests.append(_Request(next(self._questions)))
                self._take_answers()
                self._ask_what_is_due()
                first = self._requests[0]
                if first.answer is None:
                    self._take_answers(_POLL_SECONDS)
                if first.answer is None:
                    self._refuse_silence(first, waits)
                    yield NOTHING_YET
                elif isinstance(first.answer, Exception):
                    raise first.answer
                else:
                    self._requests.popleft()
                    yield first.answer
                    # The reader may have been busy with other things until now.
                    waits = Deadline(self._workers.deadline_seconds)
        finally:
            for request in self._requests:
                for _, _, future in request.asked:
                    future.cancel()

    def _ask_what_is_due(self) -> None:
        now = time.monotonic()
        longest = self._workers.longest_seconds * _PATIENCE_FACTOR
        patience = min(max(_PATIENCE_SECONDS, longest), _MOST_PATIENCE_SECONDS)
        for request in self._requests:
            if request.answer is not None:
                continue
            late = [worker for worker, since, _ in request.asked if now - since > patience]
            if len(late) < len(request.asked):
                continue
            for worker in late:
                worker.is_late = True
            other = self._workers.free(without=late)
            if other is not None:
                future = self._workers.ask(other, request.question, self._noted(request, other))
                request.asked.append((other, now, future))

    def _noted(self, request: _Request, worker: DataWorker) -> Callable[[Any], None]:
        return lambda future: self._answers.put((request, worker, future))

    def _take_answers(self, seconds: float = 0.0) -> None:
        """Takes all answers that have come; if there is none, waits for one."""
        with contextlib.suppress(queue.Empty):
            self._take(*self._answers.get(timeout=seconds or None, block=bool(seconds)))
            while True:
                self._take(*self._answers.get_nowait())

    def _take(self, request: _Request, worker: DataWorker, future: Any) -> None:
        request.asked = [asked for asked in request.asked if asked[2] is not future]
        if request.answer is not None:
            return
        code = future.code()
        if code is grpc.StatusCode.OK:
            request.answer = future.result()
        elif code is grpc.StatusCode.ABORTED:
            question = request.question
            request.answer = RuntimeError(
                f"{worker.name} could not compute step {question.step} of epoch {question.epoch}: "
                f"{future.details()}"
            )
        elif code is grpc.StatusCode.FAILED_PRECONDITION:
            self._workers.refuse_other_pipelines(worker)

    def _refuse_silence(self, first: _Request, waits: Deadline) -> None:
        if waits.is_over():
            raise TimeoutError(
                f"No data worker has answered for {waits.seconds:g} s (deadline_seconds). Waited "
                f"for step {first.question.step} of epoch {first.question.epoch}: "
                f"{self._workers.states()}. See why in the lines of the data workers."
            )
