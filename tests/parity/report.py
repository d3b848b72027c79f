"""The report of a sweep: a table by strategy, cases that did not match, crashes of stock."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tests.parity.judge import Verdict
from tests.parity.trial import Result, strategy_of

KINDS = ("matched", "wrong", "crashed", "hung", "unjudged")


def table(results: Sequence[Result]) -> str:
    """Returns counts of verdicts by strategy, also for stock Keras if it was tried."""
    lines = [_row("strategy", "cases", *KINDS, "worst match")]
    lines += _rows([(r.case, r.verdict) for r in results], "")
    stock = [(r.case, r.stock) for r in results if r.stock is not None]
    return "\n".join(lines + _rows(stock, "stock "))


def mismatches(results: Sequence[Result]) -> str:
    """Returns what is wrong with each case that did not match, and the command that repeats it."""
    parts = []
    for result in results:
        verdict = result.verdict
        if verdict.kind != "matched":
            command = f'python -m tests.parity.case "{result.case}"'
            detail = "\n".join(f"    {line}" for line in verdict.detail.splitlines()[-12:])
            parts.append(f"{verdict.kind}: {command}\n{detail}")
    return "\n".join(parts)


def stock_crashes(results: Sequence[Result]) -> str:
    """Returns how often stock Keras crashed, by call and error, most frequent first."""
    crashes = [r.stock.detail for r in results if r.stock and r.stock.kind == "crashed"]
    if not crashes:
        return ""
    counts = Counter(crash_of(detail) for detail in crashes).most_common()
    return "\n".join(["stock crashed:", *(f"{n:>6}  {crash}" for crash, n in counts)])


def crash_of(detail: str) -> str:
    """Returns the call that failed and the start of its error, without numbers.

    Args:
        detail: A traceback, or the end of the output of a process.
    """
    call = re.search(r"model\.(fit|evaluate|predict)\(", detail)
    errors = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception)): *(.*)$", detail, re.MULTILINE)
    if not errors:
        lines = detail.strip().splitlines()
        return f"no traceback: {_in_short(lines[-1] if lines else 'no output')}"
    kind, text = errors[-1]
    # The first line of a graph's error only says that it is one; the reason follows the frames.
    root = re.search(r"^\s*(?:\(0\))?\s*[A-Z]+(?:_[A-Z]+)+:\s*(.*)$", detail, re.MULTILINE)
    if text.startswith("Graph execution error") and root:
        text = root[1]
    return f"{call[1] if call else '?'}: {kind}: {_in_short(text)}"


def _in_short(text: str) -> str:
    """Removes the node's name, numbers, and the shapes and values after them."""
    text = re.sub(r"^{{.*?}} ", "", text).partition("  Input ")[0]
    return re.sub(r"\d+", "#", text)[:90]


def _rows(verdicts: Sequence[tuple[str, Verdict]], prefix: str) -> list[str]:
    lines = []
    for strategy in sorted({strategy_of(case) for case, _ in verdicts}):
        mine = [verdict for case, verdict in verdicts if strategy_of(case) == strategy]
        counts = Counter(verdict.kind for verdict in mine)
        worst = max((v.difference for v in mine if v.kind == "matched"), default=0.0)
        numbers = [str(counts[kind]) for kind in KINDS]
        lines.append(_row(prefix + strategy, str(len(mine)), *numbers, f"{worst:.1e}"))
    return lines


def _row(name: str, *cells: str) -> str:
    return f"{name:<16}" + "".join(f"{cell:>12}" for cell in cells)
