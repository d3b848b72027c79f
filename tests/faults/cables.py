"""A cable between two network namespaces that can be cut and lose packets; Linux, as root.

Each namespace has a TAP device, and a thread copies the frames between the two. So only the kernel
module `tun` is needed, and neither end is notified of a cut.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import threading
from collections import deque
from types import TracebackType

ADDRESSES = ("10.77.0.1", "10.77.0.2")
"""Of the two ends; there is nothing else in the namespaces."""
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME = 1 << 16
_REMEMBERED = 100
_COMMAND_SECONDS = 30.0
_COUNT = itertools.count()


class Cable:
    """Two namespaces and what connects them, until the context ends.

    Args:
        seed: Of the losses of packets.

    Attributes:
        loss: Probability that a frame is lost; 1.0 is a cut.
        lost: The last frames that were lost.
        frames: How many frames it was given, lost or not.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, seed: int = 0) -> None:
        self.loss = 0.0
        self.lost: deque[bytes] = deque(maxlen=_REMEMBERED)
        self.frames = 0
        self._draw = random.Random(seed)
        # Names of devices have at most 15 characters, and several harnesses may run.
        self._names = [f"tff{os.getpid()}{end}{next(_COUNT) % 100}" for end in "ab"]
        self._taps: list[int] = []
        self._woken, self._wake = os.pipe()
        try:
            for name, address in zip(self._names, ADDRESSES, strict=True):
                self._taps.append(_tap(name))
                _run("ip", "netns", "add", name)
                _run("ip", "link", "set", name, "netns", name)
                inside = ("ip", "-netns", name)
                _run(*inside, "addr", "add", f"{address}/24", "dev", name)
                _run(*inside, "link", "set", "lo", "up")
                _run(*inside, "link", "set", name, "up")
        except OSError:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def command(self, end: int, command: list[str]) -> list[str]:
        """Returns the command that runs another one at an end, 0 or 1."""
        return ["ip", "netns", "exec", self._names[end], *command]

    def __enter__(self) -> Cable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.write(self._wake, b".")
        self._thread.join(_COMMAND_SECONDS)
        self._remove()

    def _carry(self) -> None:
        opposite = dict(zip(self._taps, reversed(self._taps), strict=True))
        while True:
            ready, _, _ = select.select([*self._taps, self._woken], [], [])
            if self._woken in ready:
                return
            for tap in ready:
                frame = os.read(tap, _FRAME)
                if self._draw.random() >= self.loss:
                    os.write(opposite[tap], frame)
                else:
                    self.lost.append(frame)
                self.frames += 1

    def _remove(self) -> None:
        for descriptor in (*self._taps, self._woken, self._wake):
            os.close(descriptor)  # this also removes the device
        for name in self._names:
            subprocess.run(
                ["ip", "netns", "del", name], capture_output=True, timeout=_COMMAND_SECONDS
            )


def missing() -> str:
    """Returns why there can be no cable here, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root, for network namespaces"
    try:
        with Cable():
            return ""
    except OSError as error:
        return f"no network namespaces: {error}"


def _tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
