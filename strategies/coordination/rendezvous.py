"""Rendezvous: points where all workers exchange a message, with a deadline.

TensorFlow's coordination service, which every cluster of workers already runs, has a table of keys
and values. An exchange takes about a millisecond per worker (measured on one host). Unlike a
collective it ends with an error if a worker does not answer, or answers another question.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import tensorflow as tf
from tensorflow.python.eager import context

from strategies.deadline import Deadline
from strategies.progress import phase

DEADLINE_SECONDS = 300.0
NOTICE_SECONDS = 10.0
_SLICE_SECONDS = 1.0
_WRITE_SECONDS = 5.0
_OWN_ANSWER_SECONDS = 60.0
"""More than the 20 s of silence after which TensorFlow gives up on a process, see `heartbeats`."""
_END_SECONDS = 5

_ROUNDS = itertools.count()

Worker = tuple[str, int]


class Rendezvous(NamedTuple):
    """A rendezvous at which this worker waits.

    Attributes:
        question: What is asked there.
        since: When this worker arrived, on the clock of `time.monotonic`.
    """

    question: str
    since: float


_current: Rendezvous | None = None


def current_rendezvous() -> Rendezvous | None:
    """Returns the rendezvous at which this worker waits, or None. Any thread may call it."""
    return _current


def exchange(
    strategy: tf.distribute.Strategy,
    question: str,
    answer: str = "",
    *,
    deadline_seconds: float | None = None,
) -> list[str]:
    """Waits for all workers at `question` and returns their answers, in the order of the workers.

    All workers ask the same questions in the same order: the n-th exchange of one worker goes with
    the n-th of the others.

    Args:
        strategy: A strategy of several workers.
        question: What is asked, such as "fit" or "stop after this epoch?".
        answer: This worker's answer.
        deadline_seconds: How long to wait for the others. None means `DEADLINE_SECONDS`.

    Raises:
        RuntimeError: If a worker is at another question, or has reported a failure.
        TimeoutError: If a worker does not answer in time, or the table does not accept this
            worker's answer within a minute.
    """
    number = next(_ROUNDS)
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    table = context.context()

    def write() -> None:
        table.set_config_key_value(_key(number, own), f"{question}\n{answer}")
        if number >= 2:  # all workers have read the answers before the last
            table.delete_config_key_value(_key(number - 2, own))

    with phase("collective"), _waiting_at(question):
        try:
            _write_in_time(write, f"this worker's answer to {question!r}", _OWN_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _blaming(workers_of(strategy)[0], error) from None
        deadline = Deadline(DEADLINE_SECONDS if deadline_seconds is None else deadline_seconds)
        workers = workers_of(strategy)
        texts = {own: f"{question}\n{answer}"}
        for worker in workers:
            is_first = own == next(one for one in workers if one != worker)
            if worker != own:
                texts[worker] = _answer_of(number, worker, question, deadline, is_first)
    questions = {worker: texts[worker].partition("\n")[0] for worker in workers}
    if set(questions.values()) != {question}:
        places = ", ".join(f"{job} {i} at {asked!r}" for (job, i), asked in questions.items())
        raise RuntimeError(
            "All workers must make the same calls in the same order. Received: "
            f"{places}. Look for an `if` that lets only some workers call fit, evaluate or predict,"
            " and for data of different lengths."
        )
    return [texts[worker].partition("\n")[2] for worker in workers]


@contextlib.contextmanager
def _waiting_at(question: str) -> Iterator[None]:
    global _current
    _current = Rendezvous(question, time.monotonic())
    try:
        yield
    finally:
        _current = None


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Returns the index of this worker among all, from 0; it orders answers and replica batches.

    Args:
        strategy: The strategy that this process trains under. A single process has index 0.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return 0
    return workers_of(strategy).index((resolver.task_type, resolver.task_id))


def error_on_all_workers(message: str) -> ValueError:
    """Returns an error that every worker raises at the same place.

    It is not reported to the cluster, which would end every later collective. So a program that
    catches the error can continue.
    """
    error = ValueError(message)
    error.__dict__["is_on_all_workers"] = True
    return error


def report_failure(strategy: tf.distribute.Strategy, error: BaseException) -> None:
    """Reports to every worker that this one failed, in a collective or at a rendezvous.

    Args:
        strategy: A strategy of several workers.
        error: What ended this worker's training.
    """
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    text = f"{own[0]} {own[1]} failed with {type(error).__name__}: {error}"[:1000]
    # The service may be gone. If it does not answer, the report would keep Python's lock.
    with contextlib.suppress(tf.errors.OpError, ValueError, TimeoutError):
        insert(_failure_key(own), text)
        context.context().report_error_to_cluster(tf.errors.ABORTED, text)


def tell_of_end(strategy: tf.distribute.Strategy) -> None:
    """Reports that this worker's program is over, to workers that wait for it; called at exit.

    If the first worker's process is stopped or unreachable, TensorFlow waits forever for the
    service there while it shuts down. Then SIGALRM ends this process.

    Args:
        strategy: A strategy of several workers.
    """
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    text = (
        f"{own[0]} {own[1]} has ended its program. Every worker must make the same calls of fit, "
        "evaluate and predict."
    )
    try:
        with contextlib.suppress(tf.errors.OpError, ValueError):  # the service may be gone
            insert(_failure_key(own), text)
    except TimeoutError:
        print(
            f"tfscale: {own[0]} {own[1]} has ended its program, but the first worker does not "
            f"answer. This process ends in {_END_SECONDS} s.",
            file=sys.stderr,
            flush=True,
        )
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # also ends a process in which no Python runs
        signal.alarm(_END_SECONDS)


def insert(key: str, value: str, seconds: float = _WRITE_SECONDS) -> bool:
    """Writes a key unless it exists, and returns whether it was written.

    Args:
        key: A key of the coordination service's table.
        value: Its value.
        seconds: How long the table may take.

    Raises:
        TimeoutError: If it takes longer. A service whose process is stopped never answers.
        tf.errors.OpError: If the service is gone.
    """
    table = context.context()
    try:
        _write_in_time(lambda: table.set_config_key_value(key, value), repr(key), seconds)
    except tf.errors.AlreadyExistsError:
        return False
    return True


def _write_in_time(write: Callable[[], None], what: str, seconds: float) -> None:
    """Writes to the table with a deadline, which TensorFlow's call does not have.

    Args:
        write: Writes; may raise TensorFlow's errors.
        what: What is written, for the message.
        seconds: How long it may take.

    Raises:
        TimeoutError: If it takes longer.
    """
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            write()
            outcome.append(None)
        except Exception as error:  # raised where it was called
            outcome.append(error)

    writer = threading.Thread(target=run, daemon=True)
    writer.start()
    writer.join(seconds)
    if not outcome:
        raise TimeoutError(
            f"The first worker, whose process serves the workers' table, did not accept {what} "
            f"within {seconds:g} s. Check whether it was stopped, and the network to its host."
        )
    if outcome[0] is not None:
        raise outcome[0]


def workers_of(strategy: tf.distribute.Strategy) -> list[Worker]:
    """Returns the workers of a strategy of several, in the order of their answers.

    The process of the first one serves the table.
    """
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]


def _key(number: int, worker: Worker) -> str:
    return f"tfscale/rendezvous/{number}/{worker[0]}/{worker[1]}"


def _failure_key(worker: Worker) -> str:
    return f"tfscale/failure/{worker[0]}/{worker[1]}"


def _answer_of(
    number: int, worker: Worker, question: str, deadline: Deadline, is_first: bool
) -> str:
    notice = Deadline(NOTICE_SECONDS) if is_first else deadline  # one worker prints it, once
    while True:
        text = _value(_key(number, worker), deadline.left(at_most=_SLICE_SECONDS))
        if text is not None:
            return text
        failure = _value(_failure_key(worker), 0.0)
        if failure is not None:
            raise _blaming(worker, RuntimeError(failure))
        if deadline.is_over():
            late = TimeoutError(
                f"{worker[0]} {worker[1]} did not reach {question!r} within {deadline.seconds:g} "
                "s. Check whether it was stopped, and look for an `if` that keeps it from calling "
                "fit, evaluate or predict."
            )
            raise _blaming(worker, late)
        if notice.is_over():
            notice = deadline
            line = f"tfscale: waiting for {worker[0]} {worker[1]} to reach {question!r}."
            print(line, file=sys.stderr, flush=True)


def _blaming(worker: Worker, error: Exception) -> Exception:
    """Records in an error which worker is at fault, for `exit_reason`."""
    error.__dict__["at_fault"] = worker[0] if worker[0] == "chief" else f"{worker[0]} {worker[1]}"
    return error


def _value(key: str, seconds: float) -> str | None:
    """Returns the value of `key` as soon as it has one, or None after `seconds`."""
    try:
        # Zero would mean to wait forever.
        return str(context.context().get_config_key_value(key, max(1, round(seconds * 1000))))
    except (tf.errors.DeadlineExceededError, tf.errors.NotFoundError):
        return None
