"""What one task learns of another: whether it reaches it, its clock, versions and shared folder."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from strategies.extension import Deadline
from tfscale.doctor.peers.protocol import Conversation, NotADoctor
from tfscale.doctor.peers.shared_folder import SEE_SECONDS, compare_folder
from tfscale.files.output_files import reason

ATTEMPT_SECONDS = 3.0
_PAUSE_SECONDS = 0.25
_SAMPLES = 8
_SLACK_SECONDS = 5.0
_LONGEST_TEXT = 300
_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)


class WrongPeer(Exception):
    """A doctor answers, but not the one of this task in this cluster."""


def own_machine() -> str:
    """Returns what tasks of one machine share, in containers too: the id of its start on Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return socket.gethostname()


def learn(
    peer: str,
    address: str,
    *,
    hello: Mapping[str, Any],
    deadline: Deadline,
    shared_dir: Path | None,
    wait: Callable[[float], object] = time.sleep,
) -> dict[str, Any]:
    """Tries to reach another task until a deadline, and asks what can be compared.

    Args:
        peer: The other task, such as "worker 1".
        address: Its "host:port".
        hello: What this task says of itself: see `meeting`.
        deadline: When to give up.
        shared_dir: The folder that the tasks share, or None.
        wait: Called with the seconds between two attempts.

    Returns:
        JSON values: `reached`, and either `failure` ("name", "refused", "silent", "another
        program" or "another task") with its `error`, or what was compared.
    """
    while True:
        try:
            seconds = max(0.5, deadline.left(at_most=ATTEMPT_SECONDS))
            return _compared(peer, address, hello, seconds, shared_dir)
        except socket.gaierror as error:
            failure, text = "name", reason(error)
        except NotADoctor as error:
            failure, text = "another program", str(error)
        except WrongPeer as error:  # waiting does not help
            return {"reached": False, "failure": "another task", "error": str(error)}
        except (OSError, UnicodeError, KeyError, ValueError, TypeError) as error:
            failure = "refused" if getattr(error, "errno", None) in _REFUSED else "silent"
            text = reason(error)
        if deadline.is_over():
            return {"reached": False, "failure": failure, "error": text}
        wait(deadline.left(at_most=_PAUSE_SECONDS))


def clock_of(ask: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, float]:
    """Returns how far the other task's clock is ahead, and the round trip, in seconds.

    Of several exchanges the one with the shortest round trip counts; the error is at most half of
    it.

    Args:
        ask: Asks the other task.

    Source: RFC 5905, section 8: the offset of four time stamps.
    """
    samples = []
    for _ in range(_SAMPLES):
        began, sent = time.perf_counter(), time.time()
        answer = ask({"ask": "time"})
        received = time.time()
        trip = time.perf_counter() - began - (float(answer["sent"]) - float(answer["received"]))
        ahead = ((float(answer["received"]) - sent) + (float(answer["sent"]) - received)) / 2
        samples.append((trip, ahead))
    trip, ahead = min(samples)
    return {"round_trip_seconds": round(trip, 6), "clock_ahead_seconds": round(ahead, 4)}


def _compared(
    peer: str, address: str, hello: Mapping[str, Any], seconds: float, shared_dir: Path | None
) -> dict[str, Any]:
    with Conversation(address, seconds) as conversation:
        other = conversation.ask({"ask": "hello", "from": hello["task"], "to": peer})
        if other.get("jobs") != hello["jobs"]:
            given = repr(other.get("jobs"))[:_LONGEST_TEXT]
            raise WrongPeer(f"it was given another cluster: {given}")
        if other.get("task") != peer:
            raise WrongPeer(f"it says that it is {other.get('task')}, on {other.get('host')}")
        versions = other.get("versions")
        learned = {
            "reached": True,
            "host": str(other.get("host")),
            "machine": str(other.get("machine")),
            "address": conversation.ends[1],
            "versions": dict(versions) if isinstance(versions, dict) else {},
            "has_shared_dir": bool(other.get("has_shared_dir")),
            **clock_of(conversation.ask),
        }
        if shared_dir is not None and learned["has_shared_dir"]:

            def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
                return conversation.ask(question, SEE_SECONDS + _SLACK_SECONDS)

            learned["shared"] = compare_folder(shared_dir, ask)
    return learned
