"""Collectives of MPI that are started and waited for separately, checked to match on all workers.

MPI has no names for collectives: the n-th call of one worker goes with the n-th of the others, and
if these differ in size the result is undefined. So before each collective its description travels
in a small one, on a communicator of its own, and a difference is an error on all workers. Nothing
waits for that: a collective whose description is known to match is started by whichever call comes
next.

    start a -> start b -> wait a -> wait b      in this order on every worker

MPI makes progress only inside its calls, so a wait is a loop that tests. It uses the processor for
a moment, because most waits are shorter than any sleep, and then sleeps for longer and longer.
"""

from __future__ import annotations

import collections
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from strategies.deadline import Deadline

if TYPE_CHECKING:
    from mpi4py import MPI

Array = npt.NDArray[Any]
Kind = Literal["all-reduce", "all-gather"]

DEADLINE_SECONDS = 1800.0
"""How long a worker waits for the others in one collective, as other libraries of collectives do.
A worker that has died or was stopped is noticed much earlier, by `check_peers`."""

_BUSY_SECONDS = 0.002
_OTHERS_RAN_SECONDS = 2e-4
"""If yielding the processor takes this long, another process ran on it."""
_SHORTEST_SLEEP, _LONGEST_SLEEP = 5e-5, 1e-3
_CHECK_SECONDS = 1.0
_ALIGNMENT = 64
"""TensorFlow uses an array without a copy if it begins at a multiple of this many bytes."""
_MOST_BUFFERS = 4
_DESCRIPTION_BYTES = 96
_GRAPH_NODE = re.compile(r"\{\{.*?\}\} ?")
"""What TensorFlow puts before the reason of an error."""


@dataclass
class _Started:
    """A collective that was started.

    Attributes:
        description: What it is, such as "all-reduce number 3 of float32[10]".
        own: This worker's array, flat.
        result: What MPI writes, in its shape.
        descriptions: uint8[workers, 96]; those of all workers.
        description_request: MPI's request for these.
        request: MPI's request, once the descriptions match.
    """

    description: str
    own: Array
    result: Array
    descriptions: Array
    description_request: Any
    request: Any = None


class _Memory:
    """Memory for the result of one collective, aligned as TensorFlow needs it.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._bytes = np.empty(size + _ALIGNMENT, np.uint8)

    def is_free(self) -> bool:
        """Returns whether no array, and so no tensor, refers to it."""
        return sys.getrefcount(self._bytes) == 2  # the attribute and the argument

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Returns an array in this memory; it refers to it for as long as it lives."""
        begin = -self._bytes.ctypes.data % _ALIGNMENT
        end = begin + math.prod(shape) * dtype.itemsize
        return self._bytes[begin:end].view(dtype).reshape(shape)


class OrderedCollectives:
    """The collectives of one worker.

    Args:
        workers: All workers, in their order.
        check_peers: Called about once a second while this worker waits. Raises if another worker
            has failed.
        deadline_seconds: How long to wait for the others in one collective. Positive.

    Attributes:
        num_workers: How many workers there are.
        count: Collectives started so far; the ticket of the next one.
        failure: What ended the collectives of this worker, or "".
    """

    def __init__(
        self,
        workers: MPI.Comm,
        check_peers: Callable[[], None],
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        from mpi4py import MPI

        self.count = 0
        self.failure = ""
        self._mpi_error = MPI.Exception
        self.num_workers = workers.size
        self._payloads, self._descriptions = workers.Dup(), workers.Dup()
        self._check_peers = check_peers
        self._deadline_seconds = deadline_seconds
        self._started: dict[int, _Started] = {}
        self._to_start: collections.deque[_Started] = collections.deque()
        self._memories: dict[int, list[_Memory]] = {}
        self._lock = threading.Lock()

    def start(self, kind: Kind, own: Array, ticket: int) -> int:
        """Starts a collective; returns the ticket of the one after it.

        Args:
            kind: "all-reduce" adds up; "all-gather" concatenates along the first dimension.
            own: This worker's array. It must not change until the wait.
            ticket: How many collectives this worker has started before. The graph passes it from
                each collective to the next, which keeps them in order.

        Raises:
            RuntimeError: If the ticket is not the next one, or an earlier collective failed.
        """
        with self._lock:
            self._refuse_after_failure()
            if ticket != self.count:
                raise self._failed(
                    f"Collectives must run in the order of the graph. Received: number {ticket}, "
                    f"expected: number {self.count}."
                )
            self._started[ticket] = one = self._described(kind, np.asarray(own, order="C"), ticket)
            self._to_start.append(one)
            self.count += 1
            self._advance()
            return self.count

    def wait(self, ticket: int) -> Array:
        """Waits for a collective and returns its result, which is the same on all workers.

        Args:
            ticket: The one that was given to `start`.

        Raises:
            RuntimeError: If a worker has failed, or the workers' calls differ.
            TimeoutError: After the deadline.
        """
        one = self._started[ticket]
        sleep, busy_until = _SHORTEST_SLEEP, time.perf_counter() + _BUSY_SECONDS
        deadline, check = Deadline(self._deadline_seconds), Deadline(_CHECK_SECONDS)
        while not self._is_complete(one):
            before = time.perf_counter()
            if before < busy_until:
                os.sched_yield()
                if time.perf_counter() - before > _OTHERS_RAN_SECONDS:
                    busy_until = 0.0  # a busy process would take the processor from its peers
                continue
            if check.is_over():
                check = Deadline(_CHECK_SECONDS)
                self._look_at_peers(one)
            if deadline.is_over():
                with self._lock:
                    raise self._failed(
                        f"{one.description} was not completed by all workers within "
                        f"{self._deadline_seconds:g} s. Check whether one was stopped, and the "
                        "network between them.",
                        TimeoutError,
                    )
            time.sleep(sleep)
            sleep = min(2 * sleep, _LONGEST_SLEEP)
        del self._started[ticket]
        return one.result

    def _described(self, kind: Kind, own: Array, ticket: int) -> _Started:
        description = f"{kind} number {ticket} of {own.dtype}{list(own.shape)}"
        text = np.zeros(_DESCRIPTION_BYTES, np.uint8)
        encoded = description.encode()[:_DESCRIPTION_BYTES]
        text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        descriptions = np.empty((self.num_workers, _DESCRIPTION_BYTES), np.uint8)
        shape = own.shape
        if kind == "all-gather":
            shape = (self.num_workers * shape[0], *shape[1:])
        return _Started(
            description,
            own.reshape(-1),
            self._result(shape, own.dtype),
            descriptions,
            self._descriptions.Iallgather(text, descriptions),
        )

    def _advance(self) -> None:
        """Starts the collectives whose descriptions are known, in their order."""
        while self._to_start:
            one = self._to_start[0]
            try:
                if not one.description_request.Test():
                    return
                if (one.descriptions != one.descriptions[0]).any():
                    raise self._failed(_difference(one.descriptions))
                self._to_start.popleft()
                one.request = self._request_of(one)
            except self._mpi_error as error:
                raise self._failed(f"MPI failed in {one.description}: {error}") from error

    def _request_of(self, one: _Started) -> Any:
        own, result = one.own, one.result.reshape(-1)
        if one.description.startswith("all-reduce"):
            return self._payloads.Iallreduce(own, result)
        # As bytes, because MPI does not know all of TensorFlow's dtypes.
        return self._payloads.Iallgather(own.view(np.uint8), result.view(np.uint8))

    def _is_complete(self, one: _Started) -> bool:
        with self._lock:
            self._refuse_after_failure()
            self._advance()
            try:
                return one.request is not None and bool(one.request.Test())
            except self._mpi_error as error:
                raise self._failed(f"MPI failed in {one.description}: {error}") from error

    def _look_at_peers(self, one: _Started) -> None:
        try:
            self._check_peers()
        except Exception as error:
            text = _GRAPH_NODE.sub("", str(error))
            with self._lock:
                raise self._failed(f"{one.description} was ended: {text}") from None

    def _result(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Returns an array for a result, in memory that an earlier one has left if possible.

        Fresh memory costs a page fault for each 4 KiB, as much as the reduction itself. Results of
        different sizes share it: memory has a power of two of bytes, of which it takes from the
        system what has been written.
        """
        size = 1 << max(0, math.prod(shape) * dtype.itemsize - 1).bit_length()
        memories = self._memories.setdefault(size, [])
        for memory in memories:
            if memory.is_free():
                return memory.array(shape, dtype)
        memory = _Memory(size)
        if len(memories) < _MOST_BUFFERS:
            memories.append(memory)
        return memory.array(shape, dtype)

    def _refuse_after_failure(self) -> None:
        if self.failure:
            raise RuntimeError(f"MPI cannot continue after an earlier failure: {self.failure}")

    def _failed(self, text: str, kind: type[Exception] = RuntimeError) -> Exception:
        self.failure = text
        return kind(text)


def _difference(descriptions: Array) -> str:
    texts = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in descriptions]
    parts = "; ".join(f"worker {i} at {text}" for i, text in enumerate(texts))
    return (
        f"All workers must run the same collectives in the same order. Received: {parts}. Look for "
        "an `if` that lets only some workers make a step, and for shapes that differ between them."
    )
