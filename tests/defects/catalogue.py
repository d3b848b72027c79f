"""All rows, in the order of the table."""

from __future__ import annotations

from tests.defects import (  # noqa: F401  importing them fills ROWS
    crashes,
    crashes_input,
    crashes_steps,
    crashes_workers,
    hangs,
    parameter_servers,
    silent,
    silent_input,
    silent_losses,
    silent_reports,
    silent_steps,
    silent_workers,
)
from tests.defects.row import ROWS, Row

_KINDS = "SHC"


def _place(row: Row) -> tuple[int, int]:
    return _KINDS.index(row.name[0]), int(row.name[1:])


ALL_ROWS: tuple[Row, ...] = tuple(sorted(ROWS.values(), key=_place))


def row_of(key: str) -> Row:
    """Returns the row with this key."""
    return ROWS[key]


def rows_named(names: str) -> tuple[Row, ...]:
    """Returns the rows of some defects.

    Args:
        names: Names separated by commas, such as "S4,C13"; "" for all.

    Raises:
        ValueError: If there is no such defect.
    """
    wanted = [name for name in names.split(",") if name]
    known = list(dict.fromkeys(row.name for row in ALL_ROWS))
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"`rows` must be names of defects separated by commas. Received: rows={name!r}"
                f". Choose from {', '.join(known)}."
            )
    return tuple(row for row in ALL_ROWS if not wanted or row.name in wanted)
