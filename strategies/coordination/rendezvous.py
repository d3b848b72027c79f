"""Words between workers, outside the data: with a deadline, and never a hang.

TensorFlow's coordination service, which every cluster of workers already runs, keeps a table of
keys and values. A question takes about a millisecond a worker (measured on one host), and unlike a
collective it ends by itself when somebody does not answer, or answers another question.
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
"""More than the 20 s of silence after which TensorFlow gives a process up, see `heartbeats`."""
_END_SECONDS = 5

_ROUNDS = itertools.count()

Worker = tuple[str, int]


class Meeting(NamedTuple):
    """A meeting that this worker is at.

    Attributes:
        question: What is asked there.
        since: When this worker came, on the clock of `time.monotonic`.
    """

    question: str
    since: float


_meeting: Meeting | None = None


def meeting() -> Meeting | None:
    """Returns the meeting that this worker is at now, or None; may be called from any thread."""
    return _meeting


def exchange(
    strategy: tf.distribute.Strategy,
    question: str,
    answer: str = "",
    *,
    deadline_seconds: float | None = None,
) -> list[str]:
    """Meets all workers at `question` and returns what each of them answers, in their order.

    All workers put the same questions in the same order; it is their n-th meeting that meets.

    Args:
        strategy: A strategy of several workers.
        question: What is being asked, such as "fit" or "stop after this epoch?".
        answer: This worker's answer.
        deadline_seconds: How long to wait for the others; `DEADLINE_SECONDS` if None.

    Raises:
        RuntimeError: If a worker is at another question, or has reported a failure.
        TimeoutError: If a worker is not heard of in this time, or the table does not take this
            worker's answer within a minute.
    """
    number = next(_ROUNDS)
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    table = context.context()

    def write() -> None:
        table.set_config_key_value(_key(number, own), f"{question}\n{answer}")
        if number >= 2:  # whoever is here has read the meeting before the last
            table.delete_config_key_value(_key(number - 2, own))

    with phase("collective"), _at(question):
        try:
            _in_time(write, f"this worker's answer to {question!r}", _OWN_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _of(workers_of(strategy)[0], error) from None
        deadline = Deadline(DEADLINE_SECONDS if deadline_seconds is None else deadline_seconds)
        workers = workers_of(strategy)
        said = {own: f"{question}\n{answer}"}
        for worker in workers:
            is_first = own == next(one for one in workers if one != worker)
            if worker != own:
                said[worker] = _listen(number, worker, question, deadline, is_first)
    questions = {worker: said[worker].partition("\n")[0] for worker in workers}
    if set(questions.values()) != {question}:
        places = ", ".join(f"{job} {i} at {asked!r}" for (job, i), asked in questions.items())
        raise RuntimeError(
            f"All workers must do the same in the same order. Received: {places}. Look for an `if` "
            "that lets only some workers call fit, evaluate or predict, and for data of different "
            "lengths."
        )
    return [said[worker].partition("\n")[2] for worker in workers]


@contextlib.contextmanager
def _at(question: str) -> Iterator[None]:
    global _meeting
    _meeting = Meeting(question, time.monotonic())
    try:
        yield
    finally:
        _meeting = None


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Returns this worker's place among all, from 0: that of its answers and of its shares.

    Args:
        strategy: The strategy that this process trains under; alone, it is the first.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return 0
    return workers_of(strategy).index((resolver.task_type, resolver.task_id))


def refusal_by_all(message: str) -> ValueError:
    """Returns an error that every worker raises at the same place, so that none need be told.

    Reported to the cluster, it would end every later collective; so the program may go on.
    """
    error = ValueError(message)
    error.__dict__["known_to_all"] = True
    return error


def report_failure(strategy: tf.distribute.Strategy, error: BaseException) -> None:
    """Tells every worker that this one failed: those in a collective, and those in a meeting.

    Args:
        strategy: A strategy of several workers.
        error: What ended this worker's training.
    """
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    text = f"{own[0]} {own[1]} failed with {type(error).__name__}: {error}"[:1000]
    # The service may be gone. One that does not answer would hold Python's lock for its report.
    with contextlib.suppress(tf.errors.OpError, ValueError, TimeoutError):
        insert(_failure_key(own), text)
        context.context().report_error_to_cluster(tf.errors.ABORTED, text)


def tell_of_end(strategy: tf.distribute.Strategy) -> None:
    """Lets a worker that waits for this one know that its program is over; called at exit.

    Where the first worker's process is stopped, or cut off, TensorFlow would wait at its own end
    for the service there, for ever: then the system ends this process, by SIGALRM.

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
            f"answer: the process is ended in {_END_SECONDS} s.",
            file=sys.stderr,
            flush=True,
        )
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # works where no Python runs any more
        signal.alarm(_END_SECONDS)


def insert(key: str, words: str, seconds: float = _WRITE_SECONDS) -> bool:
    """Writes a key that nobody has written; tells whether that was so.

    Args:
        key: Of the coordination service's table.
        words: What to write.
        seconds: How long the table may take.

    Raises:
        TimeoutError: If it took longer. A service whose process is stopped never answers.
        tf.errors.OpError: If the service is gone.
    """
    try:
        _in_time(lambda: context.context().set_config_key_value(key, words), repr(key), seconds)
    except tf.errors.AlreadyExistsError:
        return False
    return True


def _in_time(write: Callable[[], None], what: str, seconds: float) -> None:
    """Writes to the table; TensorFlow's calls have no deadline of their own.

    Args:
        write: May raise what TensorFlow does.
        what: Is written, for the message.
        seconds: How long it may take.

    Raises:
        TimeoutError: If it took longer.
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
            f"The first worker, whose process keeps the workers' table, did not take {what} "
            f"within {seconds:g} s. Look for what stopped it, or the network between."
        )
    if outcome[0] is not None:
        raise outcome[0]


def workers_of(strategy: tf.distribute.Strategy) -> list[Worker]:
    """Returns the workers of a strategy of several, in the order of their answers and shares.

    The first one's process holds the table.
    """
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]


def _key(number: int, worker: Worker) -> str:
    return f"tfscale/meeting/{number}/{worker[0]}/{worker[1]}"


def _failure_key(worker: Worker) -> str:
    return f"tfscale/failure/{worker[0]}/{worker[1]}"


def _listen(number: int, worker: Worker, question: str, deadline: Deadline, is_first: bool) -> str:
    # One worker says it for all, once.
    notice = Deadline(NOTICE_SECONDS) if is_first else deadline
    while True:
        words = _value(_key(number, worker), deadline.left(at_most=_SLICE_SECONDS))
        if words is not None:
            return words
        failure = _value(_failure_key(worker), 0.0)
        if failure is not None:
            raise _of(worker, RuntimeError(failure))
        if deadline.is_over():
            late = TimeoutError(
                f"{worker[0]} {worker[1]} did not come to {question!r} within "
                f"{deadline.seconds:g} s. Look for what stopped it, and for an `if` that keeps it "
                "from calling fit, evaluate or predict."
            )
            raise _of(worker, late)
        if notice.is_over():
            notice = deadline
            line = f"tfscale: waiting for {worker[0]} {worker[1]} to come to {question!r}."
            print(line, file=sys.stderr, flush=True)


def _of(worker: Worker, error: Exception) -> Exception:
    """Notes in an error which worker is at fault, for `exit_reason`."""
    error.__dict__["at_fault"] = worker[0] if worker[0] == "chief" else f"{worker[0]} {worker[1]}"
    return error


def _value(key: str, seconds: float) -> str | None:
    """Returns the value of `key` as soon as it has one, or None after `seconds`."""
    try:
        # Zero would mean to wait for ever.
        return str(context.context().get_config_key_value(key, max(1, round(seconds * 1000))))
    except (tf.errors.DeadlineExceededError, tf.errors.NotFoundError):
        return None
