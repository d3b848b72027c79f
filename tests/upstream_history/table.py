"""The tables in docs/concepts/keras_versions.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.tables import around, escaped
from tests.upstream_history.changes import History

BEGIN = "<!-- {}: begin, written by python -m tests.upstream_history -->"
END = "<!-- {}: end -->"
HEAD = ("| symbol | | changes | in | first release |", "|---|---|---|---|---|")


def table(histories: Sequence[History], uses: Mapping[str, str]) -> str:
    """Returns the table of symbols, those that changed most first, and a line on the others.

    Args:
        histories: Of all symbols.
        uses: By symbol, how it is used: "replaced", or what for.
    """
    changed = [each for each in histories if each.changed or each.missing]
    changed.sort(key=lambda each: (-len(each.changed), each.target))
    lines = [_line(each, uses[each.target]) for each in changed]
    steady = sorted(short(each.target) for each in histories if each not in changed)
    names = ", ".join(f"`{name}`" for name in steady)
    return "\n".join([*HEAD, *lines, "", f"No changes: {names}." if steady else ""]).rstrip()


def short(target: str) -> str:
    """Returns the class and the attribute of a symbol, or the name of a function.

    Example:
        >>> short("keras.src.losses.loss:Loss._dtype")
        'Loss._dtype'
    """
    return target.rpartition(":")[2]


def updated(text: str, name: str, versions: str, lines: str) -> str:
    """Returns a document with one of its tables replaced.

    Args:
        text: The document, with the two markers of the table.
        name: Of the table.
        versions: The releases that it was made from.
        lines: The new table.

    Raises:
        ValueError: If there are no markers.
    """
    begin, end = BEGIN.format(name), END.format(name)
    before, _, after = around(text, begin, end)
    return f"{before}{begin}\n{versions}\n\n{lines}\n{end}{after}"


def _line(each: History, use: str) -> str:
    releases = [f"**{name}**" if name in each.signature_changed else name for name in each.changed]
    if each.missing:
        releases.append(f"missing in {', '.join(each.missing)}")
    since = each.since or "none"
    cells = [f"`{short(each.target)}`", use, str(len(each.changed)), ", ".join(releases), since]
    return f"| {' | '.join(escaped(cell) for cell in cells)} |"
