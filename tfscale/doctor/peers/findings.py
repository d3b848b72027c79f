"""Judges what the tasks of a cluster have learned of each other."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from tfscale.doctor.finding import Finding, problem, remark
from tfscale.doctor.storage import LOCK_CURE
from tfscale.doctor.wheels import KERAS, TENSORFLOWS

LARGEST_CLOCK_DIFFERENCE = 1.0
SLOW_TO_SEE = 2.0
COMPARED = ("python", "tensorflow", "keras", "tfscale")

_CURES = {
    "name": "Correct the name in the cluster, or add it to DNS or /etc/hosts of this host.",
    "refused": "Start tfscale doctor --peers in that task too, at the same time; if it runs, its "
    "port is another one.",
    "silent": "Open the port in the firewalls between the two hosts, correct the route, or start "
    "the host.",
    "another program": "End that program, or give the task another port.",
    "another task": "Give every process the same cluster, and the index of its own address.",
}
_NTP = "Run an NTP client, such as chrony, on every host."

Table = Mapping[str, Mapping[str, Any] | None]
"""What each task has learned: its name to `row` and `figures`; None of one that told nothing."""


def examine_peers(
    task: str,
    addresses: Mapping[str, str],
    table: Table,
    *,
    versions: Mapping[str, str],
    shared_dir: str | None,
    seconds: float,
) -> list[Finding]:
    """Judges the table from the point of view of one task.

    Args:
        task: The task of this process.
        addresses: The address of every task by name.
        table: See `Table`; with the row of this task.
        versions: What is installed here.
        shared_dir: The folder that the tasks share, or None.
        seconds: How long the tasks tried.
    """
    own = table[task]
    assert own is not None
    row = own["row"]
    reached = {peer: seen for peer, seen in row.items() if seen["reached"]}
    return [
        *_unreached(row, addresses, seconds),
        *_unreachable(task, addresses, table, set(reached)),
        *_of_clocks(reached),
        *_of_versions(versions, reached),
        *(_of_folder(shared_dir, reached) if shared_dir is not None else ()),
    ]


def compared_versions(installed: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions that all tasks must share.

    Example:
        >>> compared_versions({"python": "3.11.7", "tensorflow-cpu": "2.21.0", "rich": "13"})
        {'python': '3.11.7', 'tensorflow': '2.21.0'}
    """
    names = {"tensorflow": TENSORFLOWS, "keras": KERAS}
    found = {}
    for name in COMPARED:
        versions = [installed[each] for each in names.get(name, (name,)) if each in installed]
        if versions:
            found[name] = versions[0]
    return found


def _unreached(
    row: Mapping[str, Any], addresses: Mapping[str, str], seconds: float
) -> Iterator[Finding]:
    for peer, seen in row.items():
        if not seen["reached"]:
            yield problem(
                "peers",
                f"{peer} at {addresses[peer]} was not reached within {seconds:g} s: "
                f"{_reason(seen)}.",
                _CURES.get(seen.get("failure", ""), _CURES["silent"]),
            )


def _unreachable(
    task: str, addresses: Mapping[str, str], table: Table, reached: set[str]
) -> Iterator[Finding]:
    for peer in reached:
        facts = table.get(peer)
        if facts is None:
            yield remark(
                "peers",
                f"{peer} was reached, but did not tell in time whom it reaches.",
                "Start all tasks at about the same time, or give them more with --peers_seconds.",
            )
            continue
        if task not in addresses:
            continue  # an evaluator that the others do not know
        seen = facts["row"].get(task, {"reached": False})
        if not seen["reached"]:
            yield problem(
                "peers",
                f"{peer} does not reach this task, {task} at {addresses[task]}: {_reason(seen)}.",
                _CURES.get(seen.get("failure", ""), _CURES["silent"]),
            )


def _reason(seen: Mapping[str, Any]) -> str:
    words = {
        "name": "the name does not resolve",
        "refused": "nothing listens there",
        "silent": "no answer",
        "another program": "another program answers",
        "another task": "another task answers",
    }
    return f"{words.get(seen.get('failure', ''), 'no answer')} ({seen.get('error', '')})"


def _of_clocks(reached: Mapping[str, Any]) -> Iterator[Finding]:
    ahead = {peer: float(seen["clock_ahead_seconds"]) for peer, seen in reached.items()}
    middle = statistics.median([0.0, *ahead.values()]) if len(ahead) > 1 else 0.0
    others = {
        peer: seconds
        for peer, seconds in ahead.items()
        if abs(seconds - middle) - reached[peer]["round_trip_seconds"] / 2
        > LARGEST_CLOCK_DIFFERENCE
    }
    if abs(middle) > LARGEST_CLOCK_DIFFERENCE:
        yield problem(
            "peers",
            f"The clock of this host is {_amount(-middle)} those of most other tasks.",
            _NTP,
        )
    for peer, seconds in others.items():
        yield problem(
            "peers",
            f"The clock of {peer} ({reached[peer]['host']}) is {_amount(seconds)} that of this "
            "task.",
            _NTP,
        )


def _amount(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'}"


def _of_versions(versions: Mapping[str, str], reached: Mapping[str, Any]) -> Iterator[Finding]:
    for peer, seen in reached.items():
        for name in COMPARED:
            ours, theirs = versions.get(name), seen["versions"].get(name)
            if ours != theirs:
                yield problem(
                    "peers",
                    f"{name} is {theirs or 'not installed'} on {peer} ({seen['host']}) and "
                    f"{ours or 'not installed'} here.",
                    "Install the same versions for all tasks, or start them from one image.",
                )


def _of_folder(folder: str, reached: Mapping[str, Any]) -> Iterator[Finding]:
    for peer, seen in reached.items():
        shared = seen.get("shared")
        if shared is None:
            yield problem(
                "peers",
                f"{peer} was started without --shared_dir, and this task with {folder}.",
                "Start all tasks with the same flags.",
            )
        elif not shared["seen"]:
            error = f" ({shared['error']})" if shared.get("error") else ""
            yield problem(
                "peers",
                f"{peer} does not see the files that this task writes to {folder}{error}.",
                "Mount the same file system there on every host, or name one that is.",
            )
        else:
            yield from _of_shared(folder, peer, shared)


def _of_shared(folder: str, peer: str, shared: Mapping[str, Any]) -> Iterator[Finding]:
    for kind, state in shared["locks"].items():
        if state == "kept":
            continue
        found = f"gets a {kind} lock that this task has" if state == "ignored" else f"says {state}"
        yield problem(
            "peers",
            f"{folder} does not keep {kind} locks between tasks: {peer} {found}.",
            LOCK_CURE,
        )
    if shared["torn_reads"]:
        yield problem(
            "peers",
            f"While this task replaced a file in {folder}, {peer} found a missing or mixed one in "
            f"{shared['torn_reads']} reads.",
            "Keep checkpoints in a file system with atomic renames (POSIX), or in gs://.",
        )
    delay = shared.get("delay_seconds") or 0.0
    if delay > SLOW_TO_SEE:
        yield remark(
            "peers",
            f"{peer} sees a new file in {folder} after {delay:.1f} s.",
            "Mount it with a shorter cache of attributes (NFS: actimeo=1 or lookupcache=none).",
        )
