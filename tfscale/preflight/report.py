"""Formats the report of a preflight as text and as JSON values."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from tfscale.preflight.examination import Preflight
from tfscale.preflight.findings import FAILS, Finding

_NARROWEST, _WIDEST = 60, 100
_INDENT = " " * 7


def as_json(result: Preflight) -> dict[str, Any]:
    """Returns the report as JSON values."""
    return {
        "function": result.user_model,
        "target": str(result.target),
        "num_replicas": result.target.num_replicas,
        "examples_per_replica": result.rows,
        "level": 1,
        "fine": result.is_fine,
        "compiled_by_xla_cpu": result.is_compiled,
        "findings": [
            {
                "severity": finding.severity,
                "kind": finding.kind,
                "text": finding.text,
                "cure": finding.cure,
                "file": finding.location.file if finding.location else None,
                "line": finding.location.line if finding.location else None,
                "layer": (finding.location.layer or None) if finding.location else None,
            }
            for finding in result.findings
        ],
        "versions": result.versions,
        "date": result.date,
        "proves": proof(result),
    }


def as_text(result: Preflight, *, width: int | None = None) -> str:
    """Formats a report as text.

    Args:
        result: The result of the preflight.
        width: Columns of the longest line. Positive. None uses the width of the terminal.
    """
    columns = width or max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
    count = result.target.num_replicas
    replicas = f"{count} replica{'s' if count > 1 else ''} of {result.rows} examples"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"{result.user_model} for {result.target}: {replicas}",
        f"{versions}, {result.date}",
        "",
    ]
    for finding in result.findings:
        lines += _paragraphs(finding, columns)
    lines += [*textwrap.wrap(verdict(result), columns), *textwrap.wrap(proof(result), columns)]
    return "\n".join(lines)


def verdict(result: Preflight) -> str:
    """Returns the result as one or two sentences."""
    failures = sum(finding.severity == FAILS for finding in result.findings)
    warnings = len(result.findings) - failures
    counts = f"{failures} to fix, {warnings} to check"
    if failures:
        return f"verdict: not ready for {result.target}: {counts}."
    if result.is_compiled:
        return f"verdict: compiles; {counts}."
    return (
        f"verdict: XLA supports all operations, but the step was not compiled here: {counts}. The "
        "operations for the host prevent it; without them the step can be compiled."
    )


def proof(result: Preflight) -> str:
    """Returns what the result shows and what it does not."""
    stand_in = (
        "XLA's CPU kernels were used in place of the TPU's, and one replica in place of all, so "
        "reductions over replicas were not compiled."
        if result.target.is_tpu
        else "XLA's CPU kernels were used."
    )
    return f"{stand_in} Nothing was run, so memory, speed and numerical results are not shown."


def _paragraphs(finding: Finding, columns: int) -> list[str]:
    location = str(finding.location) if finding.location else "no line of your code"
    layer = (
        f", layer {finding.location.layer}" if finding.location and finding.location.layer else ""
    )
    text = [f"{finding.text.rstrip('.')}.", finding.cure]
    wrapped = [
        line
        for part in text
        for line in textwrap.wrap(
            part,
            columns,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return [f"{finding.severity}  {location}{layer}", *wrapped, ""]
