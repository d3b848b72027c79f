"""The report of `tfscale preflight --aot`, for a reader and for a program."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfscale.preflight.ahead_of_time.fitting import Fitting

_ROWS = 8
_LONGEST_REFUSAL = 1500
_MEMORY = (
    ("parameters", "parameters"),
    ("optimizer", "optimizer state"),
    ("metrics", "metrics"),
    ("batch", "batch"),
    ("temporaries", "temporaries"),
    ("outputs", "outputs"),
    ("code", "program"),
)
_PROOF = (
    "The compiler for the chip ran, no chip did: this shows that the step compiles and what memory "
    "it takes, and nothing of start-up, speed or numbers. What runs beside the step (another "
    "program, several steps in one execution, an evaluation) takes memory of its own."
)


def mib(size: int) -> str:
    """Returns a size in MiB, as the tables write it.

    Args:
        size: Bytes.

    Example:
        >>> mib(3 * 2**20)
        '3.0 MiB'
    """
    return f"{size / 2**20:,.1f} MiB"


def verdict(result: Fitting) -> str:
    """Returns the result in one sentence."""
    target, rows = result.target, result.rows
    if result.memory is not None:
        return (
            f"compiles for {target} and fits: {mib(result.memory.total)} a replica, with {rows} "
            "examples each."
        )
    if result.shortage is None:
        return f"does not compile for {target}."
    short = result.shortage
    sizes = ""
    if short.needed_bytes:
        part = f"its {short.needed_for} alone take" if short.needed_for else "it takes"
        sizes = f": {part} {mib(short.needed_bytes)} of {mib(short.offered_bytes)} a replica"
    return f"does not fit on {target}{sizes}, with {rows} examples each."


def as_text(result: Fitting) -> str:
    """Lays the report out; the verdict comes last but for what it proves."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    how = "compiled before" if result.is_cached else f"compiled in {result.seconds:.0f} s"
    lines = [f"ahead of time for {result.target}: {versions}, {result.date}, {how}", ""]
    if result.memory is not None:
        for name, title in _MEMORY:
            lines.append(f"  {title:<18}{mib(getattr(result.memory, name)):>14}")
        lines += [f"  {'a replica':<18}{mib(result.memory.total):>14}", ""]
        lines += _padding(result)
    if result.shortage is not None:
        lines += _shortage(result)
    if result.refusal:
        lines += [result.refusal[:_LONGEST_REFUSAL], ""]
    if result.largest is not None:
        lines += [_largest(result), ""]
    return "\n".join([*lines, f"verdict: {verdict(result)}", _PROOF])


def as_json(result: Fitting) -> dict[str, Any]:
    """Returns the report as JSON values; sizes in bytes."""
    memory = result.memory
    return {
        "target": str(result.target),
        "num_replicas": result.target.num_replicas,
        "examples_per_replica": result.rows,
        "level": 2,
        "fits": result.is_fine,
        "verdict": verdict(result),
        "memory": {**dataclasses.asdict(memory), "total": memory.total} if memory else None,
        "padding": [dataclasses.asdict(row) for row in result.padding],
        "unread": result.unread or None,
        "out_of_memory": dataclasses.asdict(result.shortage) if result.shortage else None,
        "refusal": result.refusal or None,
        "largest_batch": dataclasses.asdict(result.largest) if result.largest else None,
        "seconds": result.seconds,
        "cached": result.is_cached,
        "versions": result.versions,
        "date": result.date,
        "proves": _PROOF,
    }


def _padding(result: Fitting) -> list[str]:
    wasteful = [row for row in result.padding if row.wasted_bytes > 0][:_ROWS]
    lines = []
    if result.unread:
        lines = ["  padding of the arguments alone, since the program cannot be read back:"]
        lines += [f"    {result.unread[:_LONGEST_REFUSAL]}", ""]
    if not wasteful:
        return lines
    lines += ["  what tiling adds to the arrays of a layer (they do not live at one time):"]
    for row in wasteful:
        share = row.wasted_bytes / row.laid_out_bytes
        lines.append(f"  {mib(row.wasted_bytes):>14}  {share:>4.0%} of it  {row.layer}")
    return [*lines, ""]


def _shortage(result: Fitting) -> list[str]:
    assert result.shortage is not None
    lines = ["  the largest buffers that the compiler could not place:"]
    if not result.shortage.is_named_by_compiler:
        lines = ["  the compiler names no buffer; the largest array of a layer, as traced:"]
    for buffer in result.shortage.largest[:_ROWS]:
        lines.append(f"  {mib(buffer.bytes):>14}  {buffer.layer}  {buffer.shape}")
    return [*lines, ""]


def _largest(result: Fitting) -> str:
    largest, replicas = result.largest, result.target.num_replicas
    assert largest is not None
    if largest.rows == 0:
        return "largest batch: none; not even one example of a replica fits."
    text = (
        f"largest batch: {largest.rows} examples of a replica fit, {largest.rows * replicas} in all"
    )
    if largest.refused_rows is None:
        return f"{text}; more was not tried."
    return f"{text}; {largest.refused_rows} do not."
