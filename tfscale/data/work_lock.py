"""Lets one of many tasks do a piece of work: claim files beside the result, kept alive by a beat.

    claims = Claims("gs://bucket/data/digits/1.0.0", silence_seconds=30.0)
    with claims.try_claim() as is_ours:
        if is_ours:
            ...  # write gs://bucket/data/digits/1.0.0

`tf.io.gfile` creates nothing atomically, on any file system: its `mkdir` accepts an existing folder
and its `rename` looks first and acts second. Claims need no such operation. A task writes a claim
under a name of its own and then lists: it owns the work if it sees no other claim. Of two tasks the
one whose write came second lists after both writes and sees the other, so two never own the work;
if both see each other both withdraw and try again. This holds wherever a listing shows what was
written before it (POSIX, ram://, gs://, s3://, hdfs://). NFS clients may list from a cache: there
two tasks may in the worst case both work, and the result must be renamed into place.

A killed task leaves its claim behind. An owner rewrites its claim at intervals, so a claim whose
content has not changed for `silence_seconds`, by the watcher's own monotonic clock, is removed.
No comparison of clocks, hosts or process numbers is needed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import tensorflow as tf

from tfscale.files.existence import names_in

# An owner must miss this many beats in a row before it counts as silent.
BEATS_PER_SILENCE = 6


class Claims:
    """The claims of all tasks on one result, as one task sees them.

    Attributes:
        prefix: Path every claim file starts with: `<result>.claim-`.
    """

    def __init__(self, result: str, *, silence_seconds: float) -> None:
        """Watches the claims on `result`; writes nothing yet.

        Args:
            result: Local or remote path of the file or folder the work will write.
            silence_seconds: A claim unchanged for so long counts as left by a dead task. Positive,
                the same in all tasks.

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
        # Claim name -> its content and the monotonic time at which it was first seen so.
        self._seen: dict[str, tuple[str, float]] = {}

    def others(self) -> dict[str, str]:
        """Returns path -> owner of each living claim of another task; removes the silent ones.

        Raises:
            OSError: If the storage does not say which there are.
        """
        now = time.monotonic()
        living: dict[str, str] = {}
        for name in self._names():
            path = f"{self._folder}/{name}"
            content = _read(path)
            if name == self._own or content is None:
                continue
            seen_content, since = self._seen.get(name, (None, now))
            if seen_content != content:
                since = now
                self._seen[name] = (content, since)
            if now - since < self._silence_seconds:
                living[path] = content.rpartition(",")[0]
            else:
                _remove(path)
        return living

    @contextlib.contextmanager
    def try_claim(self) -> Iterator[bool]:
        """Claims the work for the time of the `with` block, if no other task has.

        Yields:
            Whether the work is ours. False does not mean that another task has it: two tasks that
            claim at once both get False and should try again after pauses of random length.
        """
        path = f"{self._folder}/{self._own}"
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        tf.io.gfile.makedirs(self._folder)
        _write(path, f"{owner},0")
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(path, owner, ended), daemon=True)
        try:
            is_ours = not self.others()
            if is_ours:
                beat.start()
            yield is_ours
        finally:
            ended.set()
            if beat.ident is not None:
                beat.join()  # A beat after the removal would bring the claim back.
            _remove(path)

    def _beat(self, path: str, owner: str, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(self._silence_seconds / BEATS_PER_SILENCE):
            count += 1
            # One lost beat is no reason to stop the work; too many and another task repeats it.
            with contextlib.suppress(tf.errors.OpError):
                _write(path, f"{owner},{count}")

    def _names(self) -> list[str]:
        # Not listdir: it takes a storage that does not answer for one without claims.
        names = names_in(self._folder) or []
        return [name for name in names if name.startswith(self._name_prefix)]


def _read(path: str) -> str | None:
    try:
        with tf.io.gfile.GFile(path) as stream:
            return str(stream.read())
    except tf.errors.NotFoundError:
        return None  # Withdrawn since it was listed.


def _write(path: str, content: str) -> None:
    with tf.io.gfile.GFile(path, "w") as stream:
        stream.write(content)


def _remove(path: str) -> None:
    # A task that may only read leaves a dead task's claim where it is, and just ignores it.
    with contextlib.suppress(tf.errors.NotFoundError, tf.errors.PermissionDeniedError):
        tf.io.gfile.remove(path)
