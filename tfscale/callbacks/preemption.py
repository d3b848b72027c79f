"""Preemption: on SIGTERM or a cloud's notice during `fit`, all workers save and exit together."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn

import tensorflow as tf

from strategies.extension import PreemptionNotice, announce, exchange, is_multi_worker
from tfscale.callbacks.cloud_notice import CloudNotice, metadata_host
from tfscale.launch.outcome import PREEMPTED_STATUS


class Preemption:
    """Watches for SIGTERM to this worker, for its cloud's notice, and for those of other workers.

    The signal handler is installed from `begin` to `end`, in the main thread. In other threads
    Python allows no handler, and only other workers' notices are seen. A second signal has no
    effect.

    Args:
        model: The model that is trained, under a tfscale strategy.
        in_mid_epoch: Whether training can resume in mid-epoch, where all replicas are equal.
            Otherwise workers save at the end of the epoch.
    """

    def __init__(self, model: Any, *, in_mid_epoch: bool) -> None:
        self._model = model
        self._strategy = model.distribute_strategy
        self._in_mid_epoch = in_mid_epoch
        self._earlier: Any = None
        self._is_preempted = False
        self._is_passed_on = False
        self._notice: PreemptionNotice | None = None
        self._cloud: CloudNotice | None = None

    def begin(self) -> None:
        """Installs the handler in place of TensorFlow's, which ignores the signal."""
        if threading.current_thread() is threading.main_thread():
            # None means a handler that Python did not install and cannot restore.
            self._earlier = signal.signal(signal.SIGTERM, self._hear) or signal.SIG_DFL
        if self._in_mid_epoch and is_multi_worker(self._strategy):
            self._notice = PreemptionNotice(self._strategy)
        host = metadata_host()
        self._cloud = CloudNotice(host) if host else None

    def end(self) -> None:
        """Restores the earlier handler and stops listening."""
        if self._earlier is not None and signal.getsignal(signal.SIGTERM) == self._hear:
            signal.signal(signal.SIGTERM, self._earlier)
        self._end_listening()

    def is_due(self) -> bool:
        """Returns whether all workers save here and exit. Every worker calls it per execution."""
        self._pass_on()
        if self._notice is None:
            return self._is_preempted and self._in_mid_epoch
        return self._notice.stops_here()

    def is_due_for_all(self) -> bool:
        """Returns whether any worker was preempted. All workers call it at the end of an epoch."""
        self._pass_on()
        if not is_multi_worker(self._strategy):
            return self._is_preempted
        is_known = self._is_preempted or (
            self._notice is not None and self._notice.is_known.is_set()
        )
        return "1" in exchange(self._strategy, "preempted?", str(int(is_known)))

    def leave(self) -> NoReturn:
        """Exits with status 42 once all workers have saved.

        Raises:
            SystemExit: Always.
        """
        # A scheduler may send SIGTERM again.
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if is_multi_worker(self._strategy):
            exchange(self._strategy, "saved")
            # Worker 0's process stores the messages, so it stays until the others have read them.
            with contextlib.suppress(RuntimeError, TimeoutError, tf.errors.OpError):
                exchange(self._strategy, "leaving")
        self._end_listening()
        raise SystemExit(PREEMPTED_STATUS)

    def _end_listening(self) -> None:
        if self._notice is not None:
            self._notice.end()
        if self._cloud is not None:
            self._cloud.end()

    def _pass_on(self) -> None:
        why = (
            "SIGTERM" if self._is_preempted else self._cloud.text if self._cloud is not None else ""
        )
        if not why or self._is_passed_on:
            return
        self._is_passed_on = self._is_preempted = True
        when = "after the next steps" if self._in_mid_epoch else "at the end of this epoch"
        announce(f"{why}: saving {when}, then exiting with status {PREEMPTED_STATUS}.")
        if self._notice is not None:
            self._notice.notify_all()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Only sets a flag, because nothing else is safe in a signal handler."""
        if self._is_in_fit(frame):
            self._is_preempted = True
            return
        self.end()  # `fit` has raised without calling on_train_end
        os.kill(os.getpid(), number)

    def _is_in_fit(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self._model:
                return True
            frame = frame.f_back
        return False
