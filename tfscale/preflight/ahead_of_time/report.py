"""Formats the report of `tfscale preflight --aot` as text and as JSON values."""

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
    "The chip's compiler was run, but not the chip. This shows that the step compiles and how much "
    "memory it needs. It does not show start-up, speed or numerical results. Anything else on the "
    "chip (another program, several steps in one execution, an evaluation) needs more memory."
)


def mib(size: int) -> str:
    """Returns a size in MiB as text.

    Args:
        size: Bytes.

    Example:
        >>> mib(3 * 2**20)
        '3.0 MiB'
    """
    return f"{size / 2**20:,.1f} MiB"


def verdict(result: Fitting) -> str:
    """Returns the result as one sentence."""
    target, rows = result.target, result.rows
    if result.memory is not None:
        return (
            f"compiles for {target} and fits: {mib(result.memory.total)} per replica, with {rows} "
            "examples each."
        )
    if result.shortage is None:
        return f"does not compile for {target}."
    short = result.shortage
    sizes = ""
    if short.needed_bytes:
        part = f"its {short.needed_for} need" if short.needed_for else "it needs"
        sizes = f": {part} {mib(short.needed_bytes)} of {mib(short.offered_bytes)} per replica"
    return f"does not fit on {target}{sizes}, with {rows} examples each."


def as_text(result: Fitting) -> str:
    """Formats the report as text. The verdict and its limits come last."""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    how = "from the cache" if result.is_cached else f"compiled in {result.seconds:.0f} s"
    lines = [f"ahead of time for {result.target}: {versions}, {result.date}, {how}", ""]
    if result.memory is not None:
        for name, title in _MEMORY:
            lines.append(f"  {title:<18}{mib(getattr(result.memory, name)):>14}")
        lines += [f"  {'per replica':<18}{mib(result.memory.total):>14}", ""]
        lines += _padding(result)
    if result.shortage is not None:
        lines += _shortage(result)
    if result.refusal:
        lines += [result.refusal[:_LONGEST_REFUSAL], ""]
    if result.largest is not None:
        lines += [_largest(result), ""]
    return "\n".join([*lines, f"verdict: {verdict(result)}", _PROOF])


def as_json(result: Fitting) -> dict[str, Any]:
    """Returns the report as JSON values, with sizes in bytes."""
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
        lines = ["  padding of the arguments only, because the program cannot be read back:"]
        lines += [f"    {result.unread[:_LONGEST_REFUSAL]}", ""]
    if not wasteful:
        return lines
    lines += ["  padding of each layer's arrays by tiling (they do not exist at the same time):"]
    for row in wasteful:
        share = row.wasted_bytes / row.laid_out_bytes
        lines.append(f"  {mib(row.wasted_bytes):>14}  {share:>4.0%} of it  {row.layer}")
    return [*lines, ""]


def _shortage(result: Fitting) -> list[str]:
    assert result.shortage is not None
    lines = ["  the largest buffers that the compiler could not place:"]
    if not result.shortage.is_named_by_compiler:
        lines = ["  the compiler reports no buffers; the largest traced array of each layer:"]
    for buffer in result.shortage.largest[:_ROWS]:
        lines.append(f"  {mib(buffer.bytes):>14}  {buffer.layer}  {buffer.shape}")
    return [*lines, ""]


def _largest(result: Fitting) -> str:
    largest, replicas = result.largest, result.target.num_replicas
    assert largest is not None
    if largest.rows == 0:
        return "largest batch: none; not even one example per replica fits."
    text = (
        f"largest batch: {largest.rows} examples per replica fit, {largest.rows * replicas} in all"
    )
    if largest.refused_rows is None:
        return f"{text}; larger batches were not tried."
    return f"{text}; {largest.refused_rows} do not."
