"""A job's lease on a folder of checkpoints: taken, renewed beside training, checked before writes.

    lease = Lease("runs/a", lease_files_at("runs/a"), own_holder(), LOCAL)
    lease.acquire()      # raises where another job saves there
    lease.check()        # raises where another job has taken over since
    lease.release()

The rules by which jobs agree are in `lease_protocol`.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

from strategies.extension import announce
from tfscale.checkpoints.holder import Holder
from tfscale.checkpoints.lease_files import LeaseFiles, PatientLeaseFiles
from tfscale.checkpoints.lease_protocol import Claimant, FolderTaken, Periods, Steps, TakenOver
from tfscale.checkpoints.storage_errors import reason

NOTICE_SECONDS = 3.0
_FRESH_SECONDS = 1.0
_RELEASE_SECONDS = 10.0
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

LOCAL = Periods()
REMOTE = Periods(settle=1.0, poll=1.0)
"""Object stores take about one write of an object a second."""


class Lease:
    """One job's right to write to a folder.

    Renewals come from a thread of their own: a write and a listing every `periods.renew` seconds.
    A process that was forked has no lease of its parent's.

    Args:
        place: The folder, for messages.
        files: Its leases.
        holder: This job.
        periods: How long to wait for what.

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
        """Takes the lease, at once where the folder is free.

        Raises:
            ValueError: If another job holds it, or nothing can ever be written there.
            OSError: If nothing can be written there now.
        """
        self._claimant.files = PatientLeaseFiles(self.place, self._files)
        self._acquire()
        self._claimant.files = self._files
        self._thread = threading.Thread(
            target=self._renew_at_intervals, name=f"tfscale lease {self.place}", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Looks whether this job may still write; called before every write.

        Raises:
            TakenOver: If another job holds the folder now.
            OSError: If the file system has taken no renewal for half of `periods.stale`.
        """
        fresh = min(_FRESH_SECONDS, self._periods.renew / 10, self._periods.trust / 2)
        if self._trusted_for() > self._periods.trust - fresh and not self._claimant.is_lost:
            return
        if not self._turn.acquire(timeout=self._periods.stale):
            raise OSError(f"The file system of {self.place} does not answer.")
        try:
            self._run(self._claimant.renew())
        except self._files.errors as error:
            if self._trusted_for() <= 0:
                raise OSError(
                    f"It is unknown whether another job has taken over {self.place}: the file "
                    f"system has taken no renewal for {self._periods.trust:g} s: {reason(error)}. "
                    "Make room or the folder writable, and start again: training resumes from the "
                    "newest."
                ) from error
        finally:
            self._turn.release()

    def refuse_if_lost(self) -> None:
        """Raises what `check` does if a renewal has found it; asks nothing, and costs nothing."""
        if self._claimant.is_lost:
            raise TakenOver(self._claimant.is_lost)

    def release(self) -> None:
        """Gives the lease back; a file system that does not answer is left alone."""
        self._over.set()
        if os.getpid() != self._pid or not self._turn.acquire(timeout=_RELEASE_SECONDS):
            return
        try:
            self._run(self._claimant.release())
        except self._files.errors as error:
            announce(
                f"WARNING: the lease {self.place}/{self.name} could not be removed: "
                f"{reason(error)}. The next job waits {self._periods.stale:g} s, or removes it."
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
        except BaseException:  # Ctrl-C while it waits
            with suppress(*self._files.errors):
                self._files.remove(self.name)
            raise
        if is_said:
            announce(f"{self.place} is taken over: its job gave no sign of life.")

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
                f"goes on; after {self._periods.stale:g} s of this another job may take over."
            )
        self._is_silent = True

    def _say_what_is_waited_for(self) -> None:
        who = self._claimant.waits_for()
        announce(
            f"waiting to see whether {who}, which holds {self.place}, is alive: "
            f"at most {self._periods.stale:g} s without a sign of life."
        )


def _now() -> float:
    """Seconds, also of the time in which the machine was suspended, where the system counts it."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)
