"""A confusion matrix as a table: true classes down, predicted classes across, shaded by row."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from markupsafe import Markup

from tfscale.report.markup import fill
from tfscale.report.record import Confusion

MOST_CLASSES = 50
"""With more classes, only those with the most mistakes are shown."""
MOST_PAIRS = 5

_LONGEST_LABEL = 24
_LONGEST_LEVEL_LABEL = 3  # Longer names are upright above their columns.


def confusion_table(confusion: Confusion) -> Markup:
    """Lays out a confusion matrix.

    Each cell shows its count. Its shade is the count's share of its row, so that a class with few
    examples is as readable as one with many. The last column is the recall of each class, the last
    row the precision.

    Of more than `MOST_CLASSES` classes the ones with the most mistakes are shown, in their order. A
    mistake counts for the true class and for the predicted class. Shares, recall and precision are
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
    pairs = sum(sum(map(bool, row)) - bool(row[true]) for true, row in enumerate(confusion.matrix))
    return fill(
        "confusion.html",
        labels=confusion.labels,
        matrix=confusion.matrix,
        totals=rows,
        shown=shown,
        recall=list(map(_rate, right, rows)),
        precision=list(map(_rate, right, columns)),
        accuracy=_rate(sum(right), sum(rows)),
        worst_pairs=[(-negative, *pair) for negative, *pair in _worst_pairs(confusion)],
        more_pairs=pairs - MOST_PAIRS,
        longest_label=_LONGEST_LABEL,
        is_upright=max(len(confusion.labels[index]) for index in shown) > _LONGEST_LEVEL_LABEL,
    )


def _worst_pairs(confusion: Confusion) -> list[tuple[int, int, int]]:
    """Returns the negative count, the true and the predicted class of the commonest mistakes."""
    return heapq.nsmallest(MOST_PAIRS, _candidates(confusion))


def _candidates(confusion: Confusion) -> Iterator[tuple[int, int, int]]:
    """Yields the commonest mistakes of each row: a list of all pairs may have millions."""
    for true, row in enumerate(confusion.matrix):
        for predicted in heapq.nlargest(MOST_PAIRS + 1, range(len(row)), key=row.__getitem__):
            if predicted != true and row[predicted]:
                yield -row[predicted], true, predicted


def _rate(count: int, total: int) -> float | None:
    return count / total if total else None
