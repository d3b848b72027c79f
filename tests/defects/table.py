"""The table in docs/concepts/defects.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.defects.trial import Result
from tests.tables import around, escaped, renewed

BEGIN = "<!-- defects: begin, written by python -m tests.defects -->"
END = "<!-- defects: end -->"
HEAD = ("| row | case | stock | tfscale | status |", "|---|---|---|---|---|")
PATCHED = "†"

_LINE = re.compile(r"\| \[\w+\]\([^)]*\)†? \| .*?(?<!\\) \| ")


def line_of(result: Result) -> str:
    """Returns the line of a row; its beginning, up to the case, is unique."""
    row = result.row
    source = row.reproduce.__module__.replace(".", "/")
    name = f"[{row.name}](../../{source}.py)" + (PATCHED if row.is_patched else "")
    cells = [row.case, result.stock.text, result.ours.text, result.status]
    return f"| {name} | " + " | ".join(escaped(cell) for cell in cells) + " |"


def updated(text: str, versions: str, lines: Sequence[str], *, is_whole: bool) -> str:
    """Returns a document with lines of its table replaced.

    Args:
        text: The document, with the two markers.
        versions: The versions with which the lines were made.
        lines: New lines of the table, in order.
        is_whole: Whether they are the whole table; if not, lines of other rows are kept.

    Raises:
        ValueError: If there are no markers, or the other lines were made with other versions.
    """
    before, block, after = around(text, BEGIN, END)
    old = [line for line in block.splitlines() if _LINE.match(line)]
    if is_whole or not old:
        kept = list(lines)
    elif versions not in block:
        raise ValueError(
            f"`versions` must be those of the other rows. Received: versions={versions!r} for a "
            "table made with others. Run all rows."
        )
    else:
        kept = renewed(old, lines, _key)
    table = "\n".join([*HEAD, *kept])
    return f"{before}{BEGIN}\n{versions}\n\n{table}\n{END}{after}"


def _key(line: str) -> str:
    match = _LINE.match(line)
    return match[0] if match else line
