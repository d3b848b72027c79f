"""Traces in the Chrome Trace Event Format, which Perfetto opens: one worker's, and all together.

Source: the format, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfscale.profile.xspace import Row

_STEPS_ROW = 0
_ORIGIN = "origin_ns"


class Step(NamedTuple):
    """An execution of the training step.

    Attributes:
        number: Of its first step, from 0, in this `fit`.
        start: Nanoseconds since the epoch.
        end: Nanoseconds since the epoch.
        phases: Seconds of each phase of `tfscale.callbacks.Monitor` since the last one ended.
        steps: How many it has: 1, or up to `steps_per_execution`.
    """

    number: int
    start: int
    end: int
    phases: Mapping[str, float]
    steps: int = 1

    @property
    def name(self) -> str:
        """Such as "step 4", or "steps 4 to 7"."""
        last = self.number + self.steps - 1
        return f"step {last}" if self.steps == 1 else f"steps {self.number} to {last}"


class Offset(NamedTuple):
    """By how much the clock of a worker is ahead of the first one's.

    Attributes:
        nanoseconds: What is subtracted from its times.
        uncertainty: By how much that may be wrong, in nanoseconds.
    """

    nanoseconds: int
    uncertainty: int


def worker_trace(worker: int, steps: Sequence[Step], rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the trace of one worker: a process, with a row for its steps and one for each thread.

    Args:
        worker: Its index, which becomes the number of the process.
        steps: What was profiled. Not empty.
        rows: What it did.
    """
    starts = [row.events[0].start for row in rows] + [steps[0].start]
    origin = min(starts)
    events: list[dict[str, Any]] = [
        _named("process_name", worker, _STEPS_ROW, f"worker {worker}"),
        _named("thread_name", worker, _STEPS_ROW, "steps"),
    ]
    for step in steps:
        phases = {name: round(1e3 * seconds, 3) for name, seconds in step.phases.items()}
        length = step.end - step.start
        event = _complete(step.name, worker, _STEPS_ROW, step.start - origin, length)
        events.append({**event, "args": {"step": step.number, "phases_ms": phases}})
    for number, row in enumerate(rows, start=_STEPS_ROW + 1):
        events.append(_named("thread_name", worker, number, row.name))
        events += [
            _complete(event.name, worker, number, event.start - origin, event.duration)
            for event in row.events
        ]
    return {"displayTimeUnit": "ms", "traceEvents": events, "otherData": {_ORIGIN: origin}}


def merged(traces: Sequence[dict[str, Any]], offsets: Sequence[Offset]) -> dict[str, Any]:
    """Returns one trace of all workers, on the clock of the first.

    Args:
        traces: Of the workers, in their order.
        offsets: Of their clocks.
    """
    origins = [
        trace["otherData"][_ORIGIN] - offset.nanoseconds
        for trace, offset in zip(traces, offsets, strict=True)
    ]
    first = min(origins)
    events = []
    for trace, origin in zip(traces, origins, strict=True):
        shift = (origin - first) / 1e3
        for event in trace["traceEvents"]:
            events.append({**event, "ts": event["ts"] + shift} if "ts" in event else event)
    clocks = {
        str(worker): {"ahead_ms": offset.nanoseconds / 1e6, "within_ms": offset.uncertainty / 1e6}
        for worker, offset in enumerate(offsets)
    }
    other = {_ORIGIN: first, "clocks": clocks}
    return {"displayTimeUnit": "ms", "traceEvents": events, "otherData": other}


def write_trace(path: Path, trace: Mapping[str, Any]) -> None:
    """Writes a trace as `.json.gz`, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    with gzip.open(part, "wt", compresslevel=6, encoding="utf-8") as file:
        json.dump(trace, file, allow_nan=False)
    part.replace(path)


def read_trace(path: Path) -> dict[str, Any]:
    """Reads what `write_trace` has written."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        trace: dict[str, Any] = json.load(file)
    return trace


def _named(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _complete(name: str, process: int, thread: int, start: int, length: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "pid": process,
        "tid": thread,
        "ts": start / 1e3,
        "dur": length / 1e3,
    }
