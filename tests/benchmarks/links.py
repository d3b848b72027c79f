"""A link of a limited rate between two network namespaces; Linux, as root."""

from __future__ import annotations

import json
import os
import subprocess
from types import TracebackType

_ADDRESSES = ("10.78.0.1", "10.78.0.2")
_PORT = 5000
_COMMAND_SECONDS = 30.0


class Link:
    """Two namespaces and a pair of virtual Ethernet devices, until the context ends.

    Args:
        megabits: Rate in each direction, in 10^6 bits a second. Positive.

    Raises:
        OSError: If the system does not allow it.
    """

    def __init__(self, megabits: int) -> None:
        self._names = [f"tfl{os.getpid()}{end}" for end in "ab"]
        try:
            for name in self._names:
                _run("ip", "netns", "add", name)
                _run("ip", "-netns", name, "link", "set", "lo", "up")
            first, second = self._names
            _run(
                *("ip", "link", "add", "eth", "netns", first),
                *("type", "veth", "peer", "name", "eth", "netns", second),
            )
            for name, address in zip(self._names, _ADDRESSES, strict=True):
                inside = ("ip", "-netns", name)
                _run(*inside, "addr", "add", f"{address}/24", "dev", "eth")
                _run(*inside, "link", "set", "eth", "up")
                # A token bucket that holds two of the largest segments.
                shape = ("rate", f"{megabits}mbit", "burst", "128kb", "latency", "400ms")
                _run(
                    *("ip", "netns", "exec", name),
                    *("tc", "qdisc", "add", "dev", "eth", "root", "tbf", *shape),
                )
        except OSError:
            self._remove()
            raise

    def command(self, end: int, command: list[str]) -> list[str]:
        """Returns the command that runs another one at an end, 0 or 1."""
        return ["ip", "netns", "exec", self._names[end], *command]

    def cluster(self, end: int) -> str:
        """Returns the TF_CONFIG of the worker at an end."""
        workers = [f"{address}:{_PORT}" for address in _ADDRESSES]
        return json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": end}}
        )

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for name in self._names:
            subprocess.run(
                ["ip", "netns", "del", name], capture_output=True, timeout=_COMMAND_SECONDS
            )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
