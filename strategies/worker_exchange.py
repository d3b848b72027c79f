"""Words between workers, outside the data: with a deadline, and never a hang.

TensorFlow's coordination service, which every cluster of workers already runs, keeps a table of
keys and values. A question takes about a millisecond a worker (measured on one host), and unlike a
collective it ends by itself when somebody does not answer, or answers another question.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time

import tensorflow as tf
from tensorflow.python.eager import context

DEADLINE_SECONDS = 300.0
NOTICE_SECONDS = 10.0
_SLICE_SECONDS = 1.0

_ROUNDS = itertools.count()

Worker = tuple[str, int]


def exchange(strategy: tf.distribute.Strategy, question: str, answer: str = "") -> list[str]:
    """Meets all workers at `question` and returns what each of them answers, in their order.

    All workers put the same questions in the same order; it is their n-th meeting that meets.

    Args:
        strategy: A strategy of several workers.
        question: What is being asked, such as "fit" or "stop after this epoch?".
        answer: This worker's answer.

    Raises:
        RuntimeError: If a worker is at another question, or has reported a failure.
        TimeoutError: If a worker is not heard of within `DEADLINE_SECONDS`.
    """
    number = next(_ROUNDS)
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    table = context.context()
    table.set_config_key_value(_key(number, own), f"{question}\n{answer}")
    if number >= 2:  # whoever is here has read the meeting before the last
        table.delete_config_key_value(_key(number - 2, own))
    end = time.monotonic() + DEADLINE_SECONDS
    said = {
        worker: f"{question}\n{answer}" if worker == own else _listen(number, worker, question, end)
        for worker in _workers(strategy)
    }
    questions = {worker: words.partition("\n")[0] for worker, words in said.items()}
    if set(questions.values()) != {question}:
        places = ", ".join(f"{job} {i} at {asked!r}" for (job, i), asked in questions.items())
        raise RuntimeError(
            f"All workers must do the same in the same order. Received: {places}. Look for an `if` "
            "that lets only some workers call fit, evaluate or predict, and for data of different "
            "lengths."
        )
    return [words.partition("\n")[2] for words in said.values()]


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Returns this worker's place among all, from 0: that of its answers and of its shares.

    Args:
        strategy: The strategy that this process trains under; alone, it is the first.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().jobs:
        return 0
    return _workers(strategy).index((resolver.task_type, resolver.task_id))


def report_failure(strategy: tf.distribute.Strategy, error: BaseException) -> None:
    """Tells every worker that this one failed: those in a collective, and those in a meeting.

    Args:
        strategy: A strategy of several workers.
        error: What ended this worker's training.
    """
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    text = f"{own[0]} {own[1]} failed with {type(error).__name__}: {error}"[:1000]
    with contextlib.suppress(tf.errors.OpError, ValueError):  # the service may be gone already
        context.context().set_config_key_value(_failure_key(own), text)
        context.context().report_error_to_cluster(tf.errors.ABORTED, text)


def tell_of_end(strategy: tf.distribute.Strategy) -> None:
    """Lets a worker that waits for this one know that its program is over; called at exit.

    Args:
        strategy: A strategy of several workers.
    """
    own = (strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
    text = (
        f"{own[0]} {own[1]} has ended its program. Every worker must make the same calls of fit, "
        "evaluate and predict."
    )
    with contextlib.suppress(tf.errors.OpError, ValueError):  # the service may be gone already
        context.context().set_config_key_value(_failure_key(own), text)


def _workers(strategy: tf.distribute.Strategy) -> list[Worker]:
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [(job, i) for job in ("chief", "worker") for i in range(len(jobs.get(job, ())))]


def _key(number: int, worker: Worker) -> str:
    return f"tfscale/meeting/{number}/{worker[0]}/{worker[1]}"


def _failure_key(worker: Worker) -> str:
    return f"tfscale/failure/{worker[0]}/{worker[1]}"


def _listen(number: int, worker: Worker, question: str, end: float) -> str:
    notice = time.monotonic() + NOTICE_SECONDS
    while True:
        words = _value(_key(number, worker), min(_SLICE_SECONDS, end - time.monotonic()))
        if words is not None:
            return words
        failure = _value(_failure_key(worker), 0.0)
        if failure is not None:
            raise RuntimeError(failure)
        if time.monotonic() >= end:
            raise TimeoutError(
                f"{worker[0]} {worker[1]} did not come to {question!r} within {DEADLINE_SECONDS:g} "
                "s. Look for what stopped it, and for an `if` that keeps it from calling fit, "
                "evaluate or predict."
            )
        if time.monotonic() >= notice:
            notice = end
            line = f"tfscale: waiting for {worker[0]} {worker[1]} to come to {question!r}."
            print(line, file=sys.stderr, flush=True)


def _value(key: str, seconds: float) -> str | None:
    """Returns the value of `key` as soon as it has one, or None after `seconds`."""
    try:
        # Zero would mean to wait for ever.
        return str(context.context().get_config_key_value(key, max(1, round(seconds * 1000))))
    except (tf.errors.DeadlineExceededError, tf.errors.NotFoundError):
        return None
