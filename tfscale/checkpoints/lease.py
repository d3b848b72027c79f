"""A job's lease on a checkpoint folder: acquired, renewed in the background, checked before writes.

    lease = Lease("runs/a", lease_files_at("runs/a"), own_holder(), LOCAL)
    lease.acquire()      # raises if another job saves there
    lease.check()        # raises if another job has taken over since
    lease.release()

`lease_protocol` has the rules by which jobs agree.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
from contextlib import suppress

from strategies.extension import announce
from tfscale.checkpoints.lease_files import MEMORY, LeaseFiles, PatientLeaseFiles, lease_files_at
from tfscale.checkpoints.lease_holder import Holder, own_holder
from tfscale.checkpoints.lease_protocol import Claimant, FolderTaken, Periods, Steps, TakenOver
from tfscale.checkpoints.storage_errors import reason

NOTICE_SECONDS = 3.0
_FRESH_SECONDS = 1.0
_RELEASE_SECONDS = 10.0
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

LOCAL = Periods()
REMOTE = Periods(settle=1.0, poll=1.0)
"""Object stores allow about one write per second to an object."""


class Lease:
    """One job's right to write to a folder.

    A background thread renews it with a write and a listing every `periods.renew` seconds. A forked
    process does not inherit the lease.

    Args:
        place: The folder, for messages.
        files: The lease files of the folder.
        holder: This job.
        periods: Intervals and timeouts.

    Attributes:
        place: The folder.
    """

    def __init__(self, place: str, files: LeaseFiles, holder: Holder, periods: Periods) -> None:
        self.place = place
        self._files = files
        self._periods = periods
        self._claimant = Claimant(place, files, holder, periods, _now)
        self._pid = os.getpid()
        self._over = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_silent = False

    @property
    def name(self) -> str:
        """The name of the lease's file."""
        return self._claimant.name

    def acquire(self) -> None:
        """Acquires the lease, at once if the folder is free.

        Raises:
            ValueError: If another job holds it, or the folder cannot be written at all.
            OSError: If the folder cannot be written at present.
        """
        self._claimant.files = PatientLeaseFiles(self.place, self._files)
        self._acquire()
        self._claimant.files = self._files
        self._thread = threading.Thread(
            target=self._renew_at_intervals, name=f"tfscale lease {self.place}", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Checks before a write that this job still holds the lease.

        Raises:
            TakenOver: If another job holds the folder now.
            OSError: If no renewal has succeeded for half of `periods.stale`.
        """
        fresh = min(_FRESH_SECONDS, self._periods.renew / 10, self._periods.trust / 2)
        if self._trusted_for() > self._periods.trust - fresh and not self._claimant.is_lost:
            return
        if not self._turn.acquire(timeout=self._periods.stale):
            raise OSError(f"The file system of {self.place} does not respond. Check it.")
        try:
            self._run(self._claimant.renew())
        except self._files.errors as error:
            if self._trusted_for() <= 0:
                raise OSError(
                    f"It is unknown whether another job has taken over {self.place}: no renewal "
                    f"has succeeded for {self._periods.trust:g} s: {reason(error)}. Free disk "
                    "space or make the folder writable, then run again: training resumes from the "
                    "newest checkpoint."
                ) from error
        finally:
            self._turn.release()

    def refuse_if_lost(self) -> None:
        """Raises `TakenOver` if a renewal has failed, without accessing the storage."""
        if self._claimant.is_lost:
            raise TakenOver(self._claimant.is_lost)

    def release(self) -> None:
        """Releases the lease. Gives up if the file system does not respond."""
        self._over.set()
        if os.getpid() != self._pid or not self._turn.acquire(timeout=_RELEASE_SECONDS):
            return
        try:
            self._run(self._claimant.release())
        except self._files.errors as error:
            announce(
                f"WARNING: the lease {self.place}/{self.name} could not be removed: "
                f"{reason(error)}. The next job waits {self._periods.stale:g} s for it."
            )
        finally:
            self._turn.release()

    def _acquire(self) -> None:
        begin, is_said = _now(), False
        try:
            for seconds in self._claimant.acquire():
                is_long = seconds > 0 and _now() - begin > NOTICE_SECONDS
                if is_long and not is_said and self._claimant.waits_for():
                    is_said = True
                    self._say_what_is_waited_for()
                time.sleep(seconds)
        except FolderTaken:
            raise
        except BaseException:  # for instance Ctrl-C while waiting
            with suppress(*self._files.errors):
                self._files.remove(self.name)
            raise
        if is_said:
            announce(f"took over {self.place}: the previous job gave no sign of life.")

    def _trusted_for(self) -> float:
        return self._claimant.trusted_until - _now()

    def _run(self, steps: Steps) -> None:
        for seconds in steps:
            if seconds:
                time.sleep(seconds)

    def _renew_at_intervals(self) -> None:
        while not self._over.wait(self._periods.renew):
            with self._turn:
                if self._over.is_set():
                    return
                try:
                    self._run(self._claimant.renew())
                except self._files.errors as error:
                    self._warn_once(error)
                except TakenOver as error:
                    announce(f"ERROR: {error}")
                    return
                else:
                    self._is_silent = False

    def _warn_once(self, error: Exception) -> None:
        if not self._is_silent:
            announce(
                f"WARNING: the lease on {self.place} cannot be renewed: {reason(error)}. Training "
                f"continues; after {self._periods.stale:g} s another job may take over."
            )
        self._is_silent = True

    def _say_what_is_waited_for(self) -> None:
        who = self._claimant.waits_for()
        announce(
            f"waiting to see whether {who}, which holds {self.place}, is alive: "
            f"for at most {self._periods.stale:g} s without a sign of life."
        )


def _now() -> float:
    """Returns monotonic seconds, including the time of suspension if the system counts it."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class SharedLease:
    """One use of the lease that this process has on a folder.

    All trainings of a process share its lease: several callbacks, and one `fit` after another. The
    first use acquires it. The end of the last use releases it, or the end of the process. After a
    fork the child has no lease and acquires its own.

    Args:
        root: The folder: an absolute path, or a path with a scheme.

    Raises:
        ValueError: If another job holds the folder, or the folder cannot be written at all.
        OSError: If the folder cannot be written at present.
    """

    def __init__(self, root: str) -> None:
        _register_once()
        key = root if "://" in root else os.path.realpath(root)
        with _LOCK:
            lease, uses = _HELD.get(key, (None, 0))
            if lease is None:
                is_local = "://" not in root or root.startswith(MEMORY)
                periods = LOCAL if is_local else REMOTE
                lease = Lease(root, lease_files_at(root), own_holder(), periods)
                lease.acquire()
            _HELD[key] = lease, uses + 1
        self._key = key
        self._lease = lease
        self._is_released = False

    def check(self) -> None:
        """See `Lease.check`."""
        self._lease.check()

    def refuse_if_lost(self) -> None:
        """See `Lease.refuse_if_lost`."""
        self._lease.refuse_if_lost()

    def another_use(self) -> SharedLease:
        """Returns another use, which is released separately."""
        return SharedLease(self._key if "://" in self._key else self._lease.place)

    def release(self) -> None:
        """Ends this use. A second call does nothing."""
        with _LOCK:
            lease, uses = _HELD.get(self._key, (None, 0))
            if self._is_released or lease is not self._lease:
                return
            self._is_released = True
            if uses > 1:
                _HELD[self._key] = lease, uses - 1
                return
            del _HELD[self._key]
            lease.release()


_LOCK = threading.RLock()
_HELD: dict[str, tuple[Lease, int]] = {}


def _release_all() -> None:
    with _LOCK:
        for lease, _ in _HELD.values():
            lease.release()
        _HELD.clear()


def _forget() -> None:
    """Drops all leases in a forked child, because they belong to the parent."""
    global _LOCK
    _LOCK = threading.RLock()
    _HELD.clear()


@functools.cache
def _register_once() -> None:
    atexit.register(_release_all)  # runs after the writing threads have ended
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)
