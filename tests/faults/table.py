"""The four tables of docs/concepts/faults.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.faults import latency
from tests.faults.fault import Fault, Report
from tests.tables import around, escaped, renewed

BEGIN = "<!-- {}: begin, written by python -m tests.faults -->"
END = "<!-- {}: end -->"
RESUME, COST, FAULTS, LATENCY = "resume", "cost", "faults", "latency"
HEADS = {
    RESUME: "| training | killed | steps lost, at most | against the uninterrupted run |",
    COST: "| training | a step without | with op determinism | median of the ratios |",
    FAULTS: "| fault | noticed after | the worker is named by | steps lost | goes on after "
    "| final state, history, rows | left over |",
    LATENCY: f"| fault | {' | '.join(latency.PARTS)} | altogether |",
}
FAILED = "**no**: "
_LONGEST = 240
"""Characters of a cell."""


def fault_line(fault: Fault, report: Report) -> str:
    """Returns the line of a case that was run."""
    equal = {True: "the same bits", False: "differ", None: "-"}[report.is_equal]
    cells = [
        fault.title,
        _seconds(report.noticed),
        ", ".join(report.named) or "-",
        "-" if report.lost is None else str(report.lost),
        _seconds(report.recovered),
        f"{FAILED}{'; '.join(report.trouble)}" if report.trouble else equal,
        ", ".join(report.left_over) or "nothing",
    ]
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def skipped_line(fault: Fault, reason: str) -> str:
    """Returns the line of a case that cannot be run here."""
    return f"| {_escaped(fault.title)} | not run: {_escaped(reason)} | | | | | |"


def updated(text: str, name: str, about: str, lines: Sequence[str], *, is_whole: bool) -> str:
    """Returns a document with lines of one table replaced; the first cell is the key.

    Args:
        text: The document, with the table's two markers.
        name: RESUME, COST, FAULTS or LATENCY.
        about: A sentence above the table: the versions it was made with.
        lines: The new lines, in order.
        is_whole: Whether they are the whole table. If not, the other lines are kept.

    Raises:
        ValueError: If there are no markers.
    """
    first, last = BEGIN.format(name), END.format(name)
    before, block, after = around(text, first, last)
    kept = list(lines)
    if not is_whole:
        _, *old = [line for line in block.splitlines() if line.startswith("| ")] or [""]
        kept = renewed(old, lines, _key)
    head = HEADS[name]
    rule = re.sub(r"[^|]+", "---", head)
    return f"{before}{first}\n{about}\n\n" + "\n".join([head, rule, *kept]) + f"\n{last}{after}"


def _key(line: str) -> str:
    return re.split(r"(?<!\\) \| ", line)[0]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def _escaped(cell: str) -> str:
    cell = cell if len(cell) <= _LONGEST else cell[: _LONGEST - 3] + "..."
    return escaped(cell).replace("\n", " ")
