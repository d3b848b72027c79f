"""A lock by which one of many tasks does a piece of work, made of claim files on any file system.

    lock = WorkLock("gs://bucket/data/digits/1.0.0", silence_seconds=30.0)
    with lock.try_acquire() as is_acquired:
        if is_acquired:
            ...  # write gs://bucket/data/digits/1.0.0

`tf.io.gfile` has no atomic creation on any file system: its `mkdir` accepts an existing folder, and
its `rename` first checks and then acts. This lock needs no such operation. A task writes a claim
file under a unique name and then lists the folder. It has the lock if it sees no other claim. Of
two tasks, the one that wrote second lists after both writes and sees the other claim, so at most
one gets the lock. If both see each other, both withdraw and try again. This works if a listing
shows all earlier writes (POSIX, ram://, gs://, s3://, hdfs://). NFS clients may use a cached
listing; there two tasks may both get the lock in the worst case, so the result must be renamed into
place.

A killed task leaves its claim behind. An owner rewrites its claim at intervals. A claim whose
content has not changed for `silence_seconds`, by the monotonic clock of the task that watches it,
is removed. Clocks, hosts and process numbers are not compared. The time between two looks counts
at most half of that: a host that stood still has stopped the owner too, which gets time to rewrite.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import tensorflow as tf
from absl import logging

from strategies.extension import Deadline
from tfscale.files.existence import names_in

# An owner must miss this many rewrites in a row before it counts as dead.
BEATS_PER_SILENCE = 6
SECONDS_BETWEEN_LOOKS = 0.5
FIRST_NOTICE_SECONDS = 3.0
SECONDS_BETWEEN_NOTICES = 20.0


class WorkLock:
    """One task's view of the lock on a result.

    Attributes:
        prefix: Common prefix of the claim files: `<result>.claim-`.
    """

    def __init__(self, result: str, *, silence_seconds: float) -> None:
        """Prepares the lock, without writing.

        Args:
            result: Local or remote path of the file or folder that the work will write.
            silence_seconds: A claim that is unchanged for so long counts as that of a dead task.
                Positive, the same in all tasks.

        Raises:
            ValueError: If `silence_seconds` is not positive.
        """
        if not silence_seconds > 0:
            raise ValueError(
                "`silence_seconds` must be positive. Received: "
                f"silence_seconds={silence_seconds!r}. Pass seconds, for instance 30.0."
            )
        self.prefix = f"{result.rstrip('/')}.claim-"
        self._folder, _, self._name_prefix = self.prefix.rpartition("/")
        self._silence_seconds = silence_seconds
        self._own = f"{self._name_prefix}{uuid.uuid4().hex}"
        # Claim name -> its content, seconds for which it was unchanged, and when it was last read.
        self._seen: dict[str, tuple[str, float, float]] = {}

    def others(self) -> dict[str, str]:
        """Returns the path and owner of each live claim of other tasks. Removes dead claims.

        Raises:
            OSError: If the storage cannot be queried.
        """
        now = time.monotonic()
        living: dict[str, str] = {}
        for name in self._names():
            path = f"{self._folder}/{name}"
            content = _read(path)
            if name == self._own or content is None:
                continue
            seen_content, silent, last = self._seen.get(name, (None, 0.0, now))
            if seen_content != content:
                silent = 0.0
            else:
                silent += min(now - last, self._silence_seconds / 2)
            self._seen[name] = (content, silent, now)
            if silent < self._silence_seconds:
                living[path] = content.rpartition(",")[0]
            else:
                _remove(path)
        return living

    @contextlib.contextmanager
    def try_acquire(self) -> Iterator[bool]:
        """Tries to acquire the lock for the duration of the `with` block.

        Yields:
            Whether the lock was acquired. If False, another task does not necessarily have it: two
            tasks that try at the same time may both get False, and should try again after pauses of
            random length.
        """
        path = f"{self._folder}/{self._own}"
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        tf.io.gfile.makedirs(self._folder)
        _write(path, f"{owner},0")
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(path, owner, ended), daemon=True)
        try:
            is_acquired = not self.others()
            if is_acquired:
                beat.start()
            yield is_acquired
        finally:
            ended.set()
            if beat.ident is not None:
                beat.join()  # A rewrite after the removal would restore the claim.
            _remove(path)

    def _beat(self, path: str, owner: str, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(self._silence_seconds / BEATS_PER_SILENCE):
            count += 1
            # A failed rewrite does not stop the work. After too many, another task repeats it.
            with contextlib.suppress(tf.errors.OpError):
                _write(path, f"{owner},{count}")

    def _names(self) -> list[str]:
        # Not listdir, which returns no names if the storage does not respond.
        names = names_in(self._folder) or []
        return [name for name in names if name.startswith(self._name_prefix)]


def do_once(
    lock: WorkLock,
    *,
    is_done: Callable[[], bool],
    work: Callable[[], None],
    what: str,
    deadline_seconds: float,
    may_work: bool = True,
) -> None:
    """Does a piece of work in one of all tasks that call this; the others wait.

    If the task that works dies, another one takes over.

    Args:
        lock: The lock on the result of the work.
        is_done: Whether the result exists. It need not be complete while another task has the lock.
        work: Does the work. Called with the lock; the work may be done already.
        what: The work, for messages: "digits in /data/digits".
        deadline_seconds: Longest wait for another task. The own work has no deadline.
        may_work: Whether this task may do the work. If False it only waits.

    Raises:
        TimeoutError: If another task has not finished by the deadline.
        OSError: If the storage cannot be queried.
    """
    deadline = Deadline(deadline_seconds)
    next_notice = FIRST_NOTICE_SECONDS
    while True:
        # In this order, because a remote rename is not atomic, but the lock outlives it.
        exists = is_done()
        others = lock.others()
        if exists and not others:
            return
        if may_work and not others:
            with lock.try_acquire() as is_acquired:
                if is_acquired:
                    work()
                    continue
        waited = deadline.spent()
        if deadline.is_over():
            raise TimeoutError(_overdue(what, others, waited))
        if waited >= next_notice:
            next_notice = waited + SECONDS_BETWEEN_NOTICES
            whom = ", ".join(others.values()) or "another task"
            logging.warning(
                "Waiting %.0f s of at most %.0f s for %s, which prepares %s.",
                *(waited, deadline_seconds, whom, what),
            )
        # Random, so that two tasks that tried at the same time do not collide again.
        time.sleep(random.uniform(0.1, 1.0) * SECONDS_BETWEEN_LOOKS)


def _overdue(what: str, others: dict[str, str], waited: float) -> str:
    waiting = f"Waited {waited:.0f} s for {what}"
    if not others:
        return (
            f"{waiting}, and no task prepares it. Pass is_preparer=True in one task per file "
            "system, and the same data_dir in all."
        )
    claim, owner = next(iter(others.items()))
    return (
        f"{waiting}: {owner} is preparing it and still alive (lock file {claim}). "
        "Pass a longer deadline_seconds, or end that process."
    )


def _read(path: str) -> str | None:
    try:
        with tf.io.gfile.GFile(path) as stream:
            return str(stream.read())
    except tf.errors.NotFoundError:
        return None  # Removed since the listing.


def _write(path: str, content: str) -> None:
    with tf.io.gfile.GFile(path, "w") as stream:
        stream.write(content)


def _remove(path: str) -> None:
    # A task without write permission ignores a dead task's claim.
    with contextlib.suppress(tf.errors.NotFoundError, tf.errors.PermissionDeniedError):
        tf.io.gfile.remove(path)
