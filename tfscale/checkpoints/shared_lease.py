"""The lease that all trainings of one process share: several callbacks, one `fit` after another."""

from __future__ import annotations

import atexit
import functools
import os
import threading

from tfscale.checkpoints.holder import own_holder
from tfscale.checkpoints.lease import LOCAL, REMOTE, Lease
from tfscale.checkpoints.lease_files import MEMORY, lease_files_at


class SharedLease:
    """One use of the lease that this process has on a folder.

    The first use takes it, the end of the last one gives it back; so does the end of the process.
    After a fork the child has none, and takes its own.

    Args:
        root: The folder: an absolute path, or one with a scheme.

    Raises:
        ValueError: If another job holds the folder, or nothing can ever be written there.
        OSError: If nothing can be written there now.
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
        """Returns a further use, which ends for itself."""
        return SharedLease(self._key if "://" in self._key else self._lease.place)

    def release(self) -> None:
        """Ends this use; a second call does nothing."""
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
    """In a child: what the parent holds is the parent's."""
    global _LOCK
    _LOCK = threading.RLock()
    _HELD.clear()


@functools.cache
def _register_once() -> None:
    atexit.register(_release_all)  # runs when the threads that write have ended
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)
