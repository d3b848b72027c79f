"""The report of a preflight, for a reader and for a program."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

from tfscale.preflight.examination import Preflight
from tfscale.preflight.finding import FAILS, Finding

_NARROWEST, _WIDEST = 60, 100
_INDENT = " " * 7


def as_json(result: Preflight) -> dict[str, Any]:
    """Returns the report as JSON values."""
    return {
        "subject": result.subject,
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
                "file": finding.place.file if finding.place else None,
                "line": finding.place.line if finding.place else None,
                "layer": (finding.place.layer or None) if finding.place else None,
            }
            for finding in result.findings
        ],
        "versions": result.versions,
        "date": result.date,
        "proves": proof(result),
    }


def as_text(result: Preflight, *, width: int | None = None) -> str:
    """Lays a report out.

    Args:
        result: What came of the preflight.
        width: Columns of the longest line. Positive. None takes those of the terminal.
    """
    columns = width or max(_NARROWEST, min(shutil.get_terminal_size().columns, _WIDEST))
    replicas = f"{result.target.num_replicas} replica(s) of {result.rows} examples"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [f"{result.subject} for {result.target}: {replicas}", f"{versions}, {result.date}", ""]
    for finding in result.findings:
        lines += _paragraphs(finding, columns)
    lines += [*textwrap.wrap(verdict(result), columns), *textwrap.wrap(proof(result), columns)]
    return "\n".join(lines)


def verdict(result: Preflight) -> str:
    """Returns the result in one sentence."""
    failures = sum(finding.severity == FAILS for finding in result.findings)
    warnings = len(result.findings) - failures
    counts = f"{failures} to change, {warnings} to look at"
    if failures:
        return f"verdict: not ready for {result.target}: {counts}."
    if result.is_compiled:
        return f"verdict: compiles; {counts}."
    return (
        f"verdict: no operation that XLA lacks, but not compiled here: {counts}. What is left to "
        "the host stood in the way; without it the step can be compiled."
    )


def proof(result: Preflight) -> str:
    """Returns what the result does and does not show, in sentences."""
    stand_in = (
        "XLA's kernels for CPUs stood in for those of the TPU, and one replica for all: what they "
        "sum up over replicas was not compiled."
        if result.target.is_tpu
        else "XLA's kernels for CPUs."
    )
    return f"{stand_in} Nothing was run: memory, speed and numbers are not shown."


def _paragraphs(finding: Finding, columns: int) -> list[str]:
    place = str(finding.place) if finding.place else "no line of yours"
    layer = f", layer {finding.place.layer}" if finding.place and finding.place.layer else ""
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
    return [f"{finding.severity}  {place}{layer}", *wrapped, ""]
