"""SIGTERM or a cloud's notice while `fit` runs: the moment at which all workers save and go."""

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
    """Listens for SIGTERM to this worker, for its cloud's notice, and for another worker's word.

    The handler is in force from `begin` to `end`, in the main thread; elsewhere Python allows none,
    and only the others' word is heard. A second signal changes nothing.

    Args:
        model: The model that is trained, under one of our strategies.
        in_mid_epoch: Whether training can resume in mid-epoch, and replicas are equal there.
            Otherwise the end of an epoch is waited for.
    """

    def __init__(self, model: Any, *, in_mid_epoch: bool) -> None:
        self._model = model
        self._strategy = model.distribute_strategy
        self._in_mid_epoch = in_mid_epoch
        self._earlier: Any = None
        self._is_told = False
        self._is_passed_on = False
        self._notice: PreemptionNotice | None = None
        self._cloud: CloudNotice | None = None

    def begin(self) -> None:
        """Installs the handler; TensorFlow's own, of several workers, swallows the signal."""
        if threading.current_thread() is threading.main_thread():
            # None is a handler that Python did not install and cannot put back.
            self._earlier = signal.signal(signal.SIGTERM, self._hear) or signal.SIG_DFL
        if self._in_mid_epoch and is_multi_worker(self._strategy):
            self._notice = PreemptionNotice(self._strategy)
        host = metadata_host()
        self._cloud = CloudNotice(host) if host else None

    def end(self) -> None:
        """Puts the earlier handler back, and listens no more."""
        if self._earlier is not None and signal.getsignal(signal.SIGTERM) == self._hear:
            signal.signal(signal.SIGTERM, self._earlier)
        self._end_listening()

    def is_due(self) -> bool:
        """Tells whether all save here and go; every worker asks after every execution."""
        self._pass_on()
        if self._notice is None:
            return self._is_told and self._in_mid_epoch
        return self._notice.stops_here()

    def is_due_at_meeting(self) -> bool:
        """Does the same where all come whatever happens: at the end of an epoch, or of training."""
        self._pass_on()
        if not is_multi_worker(self._strategy):
            return self._is_told
        is_known = self._is_told or (self._notice is not None and self._notice.is_known.is_set())
        return "1" in exchange(self._strategy, "preempted?", str(int(is_known)))

    def leave(self) -> NoReturn:
        """Ends the process with status 42 once every worker knows that all is saved.

        Raises:
            SystemExit: Always.
        """
        # A scheduler may ask again; the answer stands.
        if self._earlier is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if is_multi_worker(self._strategy):
            exchange(self._strategy, "saved")
            # The first worker's process holds the table: it stays until the others have read that.
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
        why = "SIGTERM" if self._is_told else self._cloud.text if self._cloud is not None else ""
        if not why or self._is_passed_on:
            return
        self._is_passed_on = self._is_told = True
        when = "after the next steps" if self._in_mid_epoch else "at the end of this epoch"
        announce(f"{why}: all is saved {when}, and the exit status is {PREEMPTED_STATUS}.")
        if self._notice is not None:
            self._notice.notify_all()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Only notes it: between two lines of anything, nothing else is safe."""
        if self._is_in_fit(frame):
            self._is_told = True
            return
        self.end()  # `fit` has raised, and told no callback of its end
        os.kill(os.getpid(), number)

    def _is_in_fit(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self._model:
                return True
            frame = frame.f_back
        return False
