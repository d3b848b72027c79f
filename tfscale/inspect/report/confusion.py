"""A confusion matrix as a table: true classes down, predicted ones across, shaded by row."""

from __future__ import annotations

import html
from collections.abc import Iterator

from tfscale.inspect.report.record import Confusion

MOST_PAIRS = 5

_LONGEST_LABEL = 24
_LONGEST_LEVEL_LABEL = 3  # Longer names stand upright above their columns.


def confusion_table(confusion: Confusion) -> str:
    """Lays a confusion matrix out.

    Each cell shows its count; its shade is the count's share of its row, so that a class with few
    examples is as readable as one with many. A column at the end holds the recall of each class, a
    row at the end the precision.

    Args:
        confusion: Labels and counts.

    Returns:
        The table in a box that scrolls, and the pairs of classes that are confused most.
    """
    upright = max(map(len, confusion.labels)) > _LONGEST_LEVEL_LABEL
    heads = "".join(_head(label, "col") for label in confusion.labels)
    style = "confusion upright" if upright else "confusion"
    return (
        '<p class="remark">Rows: the true class. Columns: the predicted class. Shade: share of the '
        'row. An empty cell is 0.</p><div class="beside"><div class="scroll" tabindex="0" '
        f'role="region" aria-label="Confusion matrix"><table class="{style}">'
        f'<thead><tr><th scope="col" class="corner">true</th>{heads}'
        '<th scope="col" class="rate">recall</th></tr></thead>'
        f"<tbody>{''.join(_rows(confusion))}</tbody>"
        f"<tfoot>{_precision(confusion)}</tfoot></table></div>{_worst_pairs(confusion)}</div>"
    )


def _rows(confusion: Confusion) -> Iterator[str]:
    for true, (label, counts) in enumerate(zip(confusion.labels, confusion.matrix, strict=True)):
        total = sum(counts)
        cells = "".join(
            _cell(count, total, is_right=true == predicted)
            for predicted, count in enumerate(counts)
        )
        rate = _percent(counts[true], total)
        yield f'<tr>{_head(label, "row")}{cells}<td class="rate">{rate}</td></tr>'


def _precision(confusion: Confusion) -> str:
    columns = list(zip(*confusion.matrix, strict=True))
    cells = "".join(f"<td>{_percent(c[i], sum(c))}</td>" for i, c in enumerate(columns))
    right = sum(row[index] for index, row in enumerate(confusion.matrix))
    overall = _percent(right, sum(map(sum, confusion.matrix)))
    return f'<tr><th scope="row">precision</th>{cells}<td class="rate">{overall}</td></tr>'


def _worst_pairs(confusion: Confusion) -> str:
    labels, matrix = confusion.labels, confusion.matrix
    pairs = [
        (count, true, predicted)
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    if not pairs:
        return '<p class="remark">No example was taken for another class.</p>'
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    items = "".join(
        f"<li><b>{html.escape(labels[true])}</b> taken for "
        f"<b>{html.escape(labels[predicted])}</b>: {count:,} of {sum(matrix[true]):,}</li>"
        for count, true, predicted in pairs[:MOST_PAIRS]
    )
    more = len(pairs) - MOST_PAIRS
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
