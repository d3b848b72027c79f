"""Waits until the names of all hosts can be resolved.

TensorFlow does not wait: a name that cannot be resolved is fatal at the first collective.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable

from tfscale.launch.events import Events, NameAnswered, SignalReceived, next_event
from tfscale.launch.output import say

_AGAIN_SECONDS = 1.0


def await_names(names: Iterable[str], seconds: float, events: Events) -> int | None:
    """Resolves all names, with repeated attempts, and prints once which cannot be resolved.

    Each name has its own thread, because a look-up cannot be interrupted and may take longer than
    the deadline.

    Args:
        names: Names, IPv4 addresses, or IPv6 addresses in brackets.
        seconds: The deadline. Positive.
        events: Queue for the answers. A signal in it ends the wait. Other events are dropped.

    Returns:
        The number of the signal that ended the wait, or None if all names have addresses.

    Raises:
        OSError: If a name has no address at the deadline.
    """
    missing: dict[str, str] = dict.fromkeys(names, "the resolver does not respond")
    deadline = time.monotonic() + seconds
    over = threading.Event()
    for name in missing:
        threading.Thread(target=_ask, args=(name, events, over), daemon=True).start()
    said: set[str] = set()
    try:
        while missing:
            match next_event(events, deadline):
                case None:
                    raise OSError(
                        f"after {seconds:g} s there is still no address for "
                        + ", ".join(f"host {name!r} ({why})" for name, why in missing.items())
                        + ". Correct the name, or increase `start_seconds`."
                    )
                case SignalReceived(number):
                    return number
                case NameAnswered(name, None):
                    missing.pop(name, None)
                case NameAnswered(name, str(reason)) if name in missing:
                    missing[name] = reason
                    if name not in said:
                        said.add(name)
                        say(f"host {name!r} has no address ({reason}); trying for {seconds:g} s")
    finally:
        over.set()
    return None


def _ask(name: str, events: Events, over: threading.Event) -> None:
    while not over.is_set():
        reason = _why_without_address(name)
        events.put(NameAnswered(name, reason))
        if reason is None:
            return
        over.wait(_AGAIN_SECONDS)


def _why_without_address(name: str) -> str | None:
    try:
        socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError as error:  # A label that is empty or longer than 63 bytes.
        return str(error)
    return None
