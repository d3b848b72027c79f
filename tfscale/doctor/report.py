"""Formats the report of `tfscale doctor` as aligned text, as wide as the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from tfscale.doctor.health import MATMUL, UNITS
from tfscale.files.room import megabytes

_NARROWEST, _WIDEST = 40, 100
_MOST_COLUMNS = 8


def as_text(report: dict[str, Any], *, width: int | None = None) -> str:
    """Formats a report of `examination.examine`.

    Args:
        report: The report.
        width: Columns of the longest line; a long word may exceed it. Positive. None uses the
            width of the terminal, or 80 without one.
    """
    terminal = width or shutil.get_terminal_size().columns
    columns = max(_NARROWEST, min(terminal, _WIDEST))
    paragraphs = [
        ("versions", _table(report["versions"].items(), columns)),
        ("cluster", _table(_cluster(report["cluster"]), columns)),
    ]
    if "releases" in report["examinations"]:
        paragraphs.insert(1, ("devices", _table(_devices(report["devices"]), columns)))
    for title, rows in (
        ("host", _host(report["host"], report["accelerators"])),
        ("storage", _storage(report["storage"])),
        ("round trips between tasks, ms", _peers(report["peers"])),
        ("clocks of other tasks", _clocks(report["peers"])),
        ("health", _health(report["health"])),
    ):
        lines = _table(rows, columns)
        if lines:
            paragraphs.append((title, lines))
    if report["features"]:
        rows = _features(report["features"], report["tested"])
        paragraphs.append(("features with these releases", _table(rows, columns)))
    if report["fixes"]:
        rows = ((r["row"], r["state"], r["defect"]) for r in report["fixes"])
        fixes = [*_table(rows, columns), *_paragraph(_MORE, columns)]
        paragraphs.append(("fixes of Keras under tf.distribute", fixes))
    if report["private_symbols"]:
        in_use = _table(_private_symbols(report["private_symbols"]), columns)
        paragraphs.append(("private symbols in use", in_use))
    if report["remarks"]:
        paragraphs.append(("remarks", _list(report["remarks"], columns)))
    problems = _list(report["problems"], columns)
    paragraphs.append(("problems" if problems else "no problems", problems))
    return "\n\n".join("\n".join([title, *lines]) for title, lines in paragraphs)


_MORE = "More about each: tfscale doctor --json (symbols, test, public threads, remove when)."


def _devices(devices: dict[str, int]) -> Iterator[tuple[str, ...]]:
    for kind, count in devices.items():
        yield kind, str(count)
    if not devices:
        yield ("none",)


def _cluster(cluster: dict[str, Any] | None) -> Iterator[tuple[str, ...]]:
    if cluster is None:
        yield ("none in the environment: a single process",)
        return
    yield "from", cluster["source"]
    yield "this task", cluster["task"]
    for job, addresses in cluster["jobs"].items():
        yield job, ", ".join(addresses)


def _host(host: dict[str, Any] | None, found: dict[str, Any] | None) -> Iterator[tuple[str, ...]]:
    if host is not None:
        cpus, memory = host["cpus"], host["memory"]
        quota = "no quota" if cpus["quota"] is None else f"a quota of {cpus['quota']:g}"
        yield "processors", f"{cpus['seen']} seen, {cpus['usable']} usable, {quota}"
        limit = memory["limit_bytes"]
        words = "no limit" if limit is None else f"a limit of {megabytes(limit)}"
        free = memory["free_bytes"]
        yield "memory", f"{'unknown' if free is None else megabytes(free)} free, {words}"
        for name in ("open_files", "processes"):
            if name in host["limits"]:
                most = host["limits"][name]
                yield name.replace("_", " "), "unlimited" if most is None else f"at most {most}"
    if found is not None and (found["driver"] or found["gpus"]):
        yield "GPUs", f"{found['gpus']}, driver {found['driver'] or 'not loaded'}"
    if found is not None and found["tpu_files"]:
        yield "TPU chips", str(len(found["tpu_files"]))


def _storage(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        if "free_bytes" in row:
            inodes = "" if row["free_inodes"] is None else f", {row['free_inodes']:,} inodes"
            kind = " (in memory)" if row["in_memory"] else ""
            yield row["folder"], f"{megabytes(row['free_bytes'])}{inodes} free{kind}"
        else:
            yield row["folder"], "could not be examined"


def _peers(peers: dict[str, Any] | None) -> list[tuple[str, ...]]:
    """Returns who (rows) reaches whom (columns); of many tasks only how many each one reaches."""
    if peers is None:
        return []
    tasks = peers["tasks"]
    if len(tasks) > _MOST_COLUMNS:
        return [(task, _counted(row)) for task, row in tasks.items()]
    return [
        ("", *tasks),
        *(
            (task, *("-" if other == task else _trip(row, other) for other in tasks))
            for task, row in tasks.items()
        ),
    ]


def _clocks(peers: dict[str, Any] | None) -> Iterator[tuple[str, ...]]:
    row = peers["tasks"][peers["task"]] if peers is not None else {}
    for task, seen in row.items():
        if seen["reached"]:
            ahead = seen["clock_ahead_seconds"]
            side = "ahead" if ahead > 0 else "behind"
            yield task, f"{abs(ahead):.3f} s {side}, {seen['host']} ({seen['address']})"


def _counted(row: dict[str, Any] | None) -> str:
    if row is None:
        return "told nothing"
    trips = [seen["round_trip_seconds"] for seen in row.values() if seen["reached"]]
    slowest = f", at most {_milliseconds(max(trips))} ms" if trips else ""
    return f"reaches {len(trips)} of {len(row)}{slowest}"


def _trip(row: dict[str, Any] | None, other: str) -> str:
    seen = None if row is None else row.get(other)
    if seen is None:
        return "?"
    return _milliseconds(seen["round_trip_seconds"]) if seen["reached"] else "no"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}"


def _health(health: dict[str, Any] | None) -> Iterator[tuple[str, ...]]:
    if health is None:
        return
    figures = health["figures"]
    for device, speed in health["devices"].items():
        yield f"matmul, {device}", f"{speed:,.0f} GFLOP/s"
    for name, (label, unit) in UNITS.items():
        if name != MATMUL and name in figures:
            yield label, f"{figures[name]:,.3g} {unit}"


def _features(features: list[dict[str, Any]], tested: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if tested:
        known = "in this range" if tested["is_tested"] else "not in this range"
        yield "tested with Keras", f"{tested['keras']}; the installed one is {known}"
    refused = [each for each in features if each["state"] == "refused"]
    for each in refused:
        yield each["feature"], f"refused: {', '.join(each['changed'])} changed"
    yield "works", f"{len(features) - len(refused)} of {len(features)} features"


def _private_symbols(symbols: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for need in dict.fromkeys(symbol["needed_by"] for symbol in symbols):
        states = [symbol["state"] for symbol in symbols if symbol["needed_by"] == need]
        yield need, f"{states.count('recognised')} of {len(states)} recognised"


def _table(rows: Iterable[tuple[str, ...]], columns: int) -> list[str]:
    """Aligns the cells of rows of equal length. Wraps the last cell within its own column."""
    listed = list(rows)
    widths = [max(map(len, cells)) for cells in zip(*listed, strict=True)][:-1]
    lines = []
    for *cells, last in listed:
        head = "".join(f"{cell:{size}}  " for cell, size in zip(cells, widths, strict=True))
        lines += _paragraph(last, columns, head)
    return lines


def _list(texts: list[str], columns: int) -> list[str]:
    return [line for each in texts for line in _paragraph(each, columns, "- ")]


def _paragraph(text: str, columns: int, head: str = "") -> list[str]:
    """Wraps `text` behind `head`, without breaking a path or an address."""
    first = f"  {head}"
    return textwrap.wrap(
        text,
        columns,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
