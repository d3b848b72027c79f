"""What the Chrome Trace Event Format demands of a file, checked without the code that writes it."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Trace = dict[str, Any]


def read(path: Path) -> Trace:
    """Reads a compressed trace; refuses NaN and other words that are not JSON."""
    trace: Trace = json.loads(gzip.decompress(path.read_bytes()), parse_constant=_refuse)
    return trace


def problems_of(trace: Trace) -> list[str]:
    """Returns what breaks the format, or would be drawn wrong."""
    found = [] if trace["displayTimeUnit"] in ("ms", "ns") else ["displayTimeUnit"]
    named: set[tuple[int, int]] = set()
    rows: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in trace["traceEvents"]:
        place = event["pid"], event["tid"]
        if not (isinstance(event["name"], str) and all(isinstance(each, int) for each in place)):
            found.append(f"name or place of {event}")
        if event["ph"] == "M":
            if event["name"] == "thread_name":
                named.add(place)
            if not isinstance(event["args"]["name"], str):
                found.append(f"name in {event}")
        elif event["ph"] == "X":
            if not (event["ts"] >= 0 and event["dur"] > 0):
                found.append(f"times of {event}")
            rows[place].append((event["ts"], event["ts"] + event["dur"]))
        else:
            found.append(f"phase of {event}")
    found += [f"no name of row {place}" for place in rows if place not in named]
    for place, spans in rows.items():
        if spans != sorted(spans, key=lambda span: (span[0], -span[1])):
            found.append(f"order of row {place}")
    return found


def spans(trace: Trace, process: int, name: str) -> list[tuple[float, float]]:
    """Returns begin and end, in ms since the epoch, of events whose name has a part."""
    origin = trace["otherData"]["origin_ns"] / 1e6
    return [
        (origin + event["ts"] / 1e3, origin + (event["ts"] + event["dur"]) / 1e3)
        for event in trace["traceEvents"]
        if event["ph"] == "X" and event["pid"] == process and name in event["name"]
    ]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
