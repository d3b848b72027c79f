"""Formats the report of `tfscale doctor` as aligned text, as wide as the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

_NARROWEST, _WIDEST = 40, 100


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
        ("devices", _table(_devices(report["devices"]), columns)),
        ("cluster", _table(_cluster(report["cluster"]), columns)),
    ]
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
    problems = [line for each in report["problems"] for line in _paragraph(each, columns, "- ")]
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
