"""Preemption: on SIGTERM or a cloud's notice during `fit`, all workers save and exit together."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import urllib.request
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import tensorflow as tf

from strategies.extension import PreemptionNotice, announce, exchange, is_multi_worker
from tfscale.launch.outcome import PREEMPTED_STATUS

_GOING = {
    "instance/maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
    "instance/preempted": "TRUE",
}
_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")
_ASK_SECONDS = 60
_LATE_SECONDS = 10
_AGAIN_SECONDS = 5.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # past any proxy


def metadata_host() -> str | None:
    """Returns the address of this VM's metadata server, or None outside Google Cloud.

    GCE_METADATA_HOST overrides it, as in Google's libraries.
    """
    configured = os.environ.get("GCE_METADATA_HOST")
    if configured:
        return configured
    try:
        is_google = _PRODUCT_NAME.read_text("utf-8").startswith("Google")
    except OSError:
        return None
    return "metadata.google.internal" if is_google else None


class CloudNotice:
    """Waits in threads for Google Cloud's notice that this VM will be stopped.

    The notice is a value of the VM's metadata server, which supports requests that wait for a
    change. VMs with TPUs or GPUs, which cannot migrate, get notice of maintenance up to an hour
    before; spot VMs 30 s before. A value that is already set is ignored, because a job that saved
    and was restarted on the same machine trains on it until the machine stops.
    https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice

    Args:
        host: Address of the metadata server; see `metadata_host`.

    Attributes:
        text: The notice, or "".

    Example:
        >>> host = metadata_host()
        >>> notice = CloudNotice(host) if host else None
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._is_over = threading.Event()
        self.text = ""
        for key, going in _GOING.items():
            threading.Thread(
                target=self._listen, args=(key, going), name=f"tfscale {key}", daemon=True
            ).start()

    def end(self) -> None:
        """Stops listening. A pending request ends by itself."""
        self._is_over.set()

    def _listen(self, key: str, going: str) -> None:
        known, is_warned = "", False
        while not self._is_over.is_set():
            try:
                value, now = self._ask(key, known)
            except (OSError, http.client.HTTPException) as error:
                if not is_warned and not self._is_over.is_set():
                    is_warned = True
                    announce(f"retrying Google Cloud's metadata server for {key}: {error}.")
                self._is_over.wait(_AGAIN_SECONDS)
                continue
            if known and value == going:
                self.text = f"Google Cloud reports {key} {value}"
                return
            known = now

    def _ask(self, key: str, known: str) -> tuple[str, str]:
        """Returns a value and its tag: at once without a known tag, else when it has changed."""
        wait = f"?wait_for_change=true&last_etag={known}&timeout_sec={_ASK_SECONDS}"
        url = f"http://{self._host}/computeMetadata/v1/{key}{wait if known else ''}"
        question = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        with _DIRECTLY.open(question, timeout=_ASK_SECONDS + _LATE_SECONDS) as answer:
            return answer.read().decode("utf-8").strip(), answer.headers["ETag"] or "0"


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
