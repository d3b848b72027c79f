"""Google Cloud's word that this machine will go: a spot VM's end, or maintenance that ends it.

A value of the VM's metadata server, which answers a question "once it changes". Machines that
cannot move elsewhere alive, with TPUs or GPUs, are told up to an hour ahead; spot VMs 30 s.
https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice
"""

from __future__ import annotations

import http.client
import os
import threading
import urllib.request
from pathlib import Path

from strategies.extension import announce

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
