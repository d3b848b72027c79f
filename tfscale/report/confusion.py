"""A confusion matrix as a table: true classes down, predicted ones across, shaded by row."""

from __future__ import annotations

import heapq
import html
from collections.abc import Iterator, Sequence

from tfscale.report.record import Confusion

MOST_CLASSES = 50
"""Of more classes those confused most are shown: the page would grow with the square of all."""
MOST_PAIRS = 5

_LONGEST_LABEL = 24
_LONGEST_LEVEL_LABEL = 3  # Longer names stand upright above their columns.


def confusion_table(confusion: Confusion) -> str:
    """Lays a confusion matrix out.

    Each cell shows its count; its shade is the count's share of its row, so that a class with few
    examples is as readable as one with many. A column at the end holds the recall of each class, a
    row at the end the precision.

    Of more than `MOST_CLASSES` classes the ones with the most mistakes are shown, in their order: a
    mistake counts for the true class and for the predicted one. Shares, recall and precision are
    those of the whole matrix.

    Args:
        confusion: Labels and counts.

    Returns:
        The table in a box that scrolls, and the pairs of classes that are confused most.
    """
    right = [row[index] for index, row in enumerate(confusion.matrix)]
    rows = [sum(row) for row in confusion.matrix]
    columns = [0] * len(rows)
    for row in confusion.matrix:
        columns = [above + count for above, count in zip(columns, row, strict=True)]
    mistakes = [row + column - 2 * r for row, column, r in zip(rows, columns, right, strict=True)]
    shown = sorted(heapq.nlargest(MOST_CLASSES, range(len(rows)), key=mistakes.__getitem__))
    upright = max(len(confusion.labels[index]) for index in shown) > _LONGEST_LEVEL_LABEL
    heads = "".join(_head(confusion.labels[index], "col") for index in shown)
    style = "confusion upright" if upright else "confusion"
    body = "".join(_rows(confusion, rows, shown))
    precision = "".join(f"<td>{_percent(right[i], columns[i])}</td>" for i in shown)
    overall = _percent(sum(right), sum(rows))
    return (
        '<p class="remark">Rows: the true class. Columns: the predicted class. Shade: share of the '
        f"row. An empty cell is 0.{_left_out(len(rows))}</p>"
        '<div class="beside"><div class="scroll" tabindex="0" '
        f'role="region" aria-label="Confusion matrix"><table class="{style}">'
        f'<thead><tr><th scope="col" class="corner">true</th>{heads}'
        f'<th scope="col" class="rate">recall</th></tr></thead><tbody>{body}</tbody>'
        f'<tfoot><tr><th scope="row">precision</th>{precision}<td class="rate">{overall}</td></tr>'
        f"</tfoot></table></div>{_worst_pairs(confusion, rows)}</div>"
    )


def _left_out(count: int) -> str:
    if count <= MOST_CLASSES:
        return ""
    return (
        f" Shown are the {MOST_CLASSES} of {count:,} classes with the most mistakes; recall and "
        "precision count all classes. <code>tfscale report --json</code> prints the whole matrix."
    )


def _rows(confusion: Confusion, totals: Sequence[int], shown: Sequence[int]) -> Iterator[str]:
    for true in shown:
        counts, total = confusion.matrix[true], totals[true]
        cells = "".join(_cell(counts[j], total, is_right=true == j) for j in shown)
        rate = _percent(counts[true], total)
        head = _head(confusion.labels[true], "row")
        yield f'<tr>{head}{cells}<td class="rate">{rate}</td></tr>'


def _worst_pairs(confusion: Confusion, totals: Sequence[int]) -> str:
    labels, matrix = confusion.labels, confusion.matrix
    count_of_pairs = sum(sum(map(bool, row)) - bool(row[true]) for true, row in enumerate(matrix))
    if not count_of_pairs:
        return '<p class="remark">No example was taken for another class.</p>'
    # Of each row its own worst ones: no list of all pairs, which may be millions.
    candidates = [
        (-row[predicted], true, predicted)
        for true, row in enumerate(matrix)
        for predicted in heapq.nlargest(MOST_PAIRS + 1, range(len(row)), key=row.__getitem__)
        if predicted != true and row[predicted]
    ]
    items = "".join(
        f"<li><b>{html.escape(labels[true])}</b> taken for "
        f"<b>{html.escape(labels[predicted])}</b>: {-negative:,} of {totals[true]:,}</li>"
        for negative, true, predicted in heapq.nsmallest(MOST_PAIRS, candidates)
    )
    more = count_of_pairs - MOST_PAIRS
    rest = f'<p class="remark">and {more:,} more pairs</p>' if more > 0 else ""
    return f'<div class="pairs"><h3>Confused most</h3><ol>{items}</ol>{rest}</div>'


def _head(label: str, scope: str) -> str:
    if len(label) <= _LONGEST_LABEL:
        return f'<th scope="{scope}"><span>{html.escape(label)}</span></th>'
    short = html.escape(label[: _LONGEST_LABEL - 1].rstrip() + "…")
    return f'<th scope="{scope}" title="{html.escape(label)}"><span>{short}</span></th>'


def _cell(count: int, total: int, *, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    style = "right" if is_right else "wrong"
    return f'<td class="{style}" style="--share:{count / total:.3g}">{count:,}</td>'


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}%" if total else "-"
