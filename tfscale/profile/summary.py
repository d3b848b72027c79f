"""A trace in a few lines: the steps, their phases, and where the host's time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

_MOST_NAMES = 10


def figures(trace: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of a trace, as plain values, times in milliseconds.

    Args:
        trace: Of `chrome_trace.merged`.

    Returns:
        "workers", by number, with "steps", "step_ms" (the mean) and "phases_ms" (the mean of a
        step); and "operations" of all workers, the longest first, with "count" and "total_ms", in
        which what is inside of another operation of the same thread is not counted.
    """
    workers: dict[int, list[dict[str, Any]]] = defaultdict(list)
    rows: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            if event["tid"] == 0:
                workers[event["pid"]].append(event)
            else:
                rows[event["pid"], event["tid"]].append(event)
    found = {}
    for worker, steps in sorted(workers.items()):
        phases: dict[str, float] = defaultdict(float)
        for step in steps:
            for name, length in step["args"]["phases_ms"].items():
                phases[name] += length / len(steps)
        found[worker] = {
            "steps": len(steps),
            "step_ms": sum(step["dur"] for step in steps) / len(steps) / 1e3,
            "phases_ms": dict(phases),
        }
    totals: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for events in rows.values():
        for name, own in _own_times(events):
            totals[name][0] += 1
            totals[name][1] += own / 1e3
    longest = sorted(totals.items(), key=lambda item: -item[1][1])
    return {
        "workers": found,
        "operations": [
            {"name": name, "count": int(count), "total_ms": total}
            for name, (count, total) in longest
        ],
    }


def table(values: dict[str, Any]) -> str:
    """Returns the figures as text."""
    lines = []
    for worker, each in values["workers"].items():
        phases = ", ".join(f"{name} {length:.2f}" for name, length in each["phases_ms"].items())
        lines.append(f"worker {worker}: {each['steps']} steps of {each['step_ms']:.2f} ms")
        lines.append(f"  between the ends of two: {phases} ms")
    lines.append("\n  total ms   count  operation, without what is inside of it")
    for each in values["operations"][:_MOST_NAMES]:
        lines.append(f"{each['total_ms']:10.2f}  {each['count']:6d}  {each['name'][:80]}")
    return "\n".join(lines)


def _own_times(events: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Returns the names of a thread's events, and their durations without those inside of them."""
    own = [float(event["dur"]) for event in events]
    open_events: list[int] = []
    for place, event in enumerate(events):
        while open_events:
            last = events[open_events[-1]]
            if event["ts"] < last["ts"] + last["dur"]:
                break
            open_events.pop()
        if open_events:
            own[open_events[-1]] -= event["dur"]
        open_events.append(place)
    return [(event["name"], max(0.0, each)) for event, each in zip(events, own, strict=True)]
