"""What every kind of benchmark returns: rows of measurements that were taken in turns.

The table, the JSON file, the page and the comparison with an earlier file read only this. So a new
kind of benchmark needs to return an `Outcome` and gets all four.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfscale.bench.figures import Spread, paired_ratios, spread
from tfscale.bench.machine import Machine

FORMAT = 1
"""Version of the JSON format."""


@dataclass(frozen=True)
class Row:
    """One thing that was measured in every round. Smaller values are better.

    Attributes:
        name: Different from all other names of the outcome.
        text: A short description.
        unit: Unit of `rounds` and `processor`, such as "ms a step". Rows of one unit are drawn on
            one picture.
        rounds: The value of each counted round, in order. Finite. Empty if `skipped`.
        processor: Processor time of each round in the same unit: user and system time of all
            processes together. Empty where it was not measured.
        peer: Name of the row that it is compared with, or None.
        goal: Largest ratio to the peer that meets the goal, or None.
        limit: Name of the row that is the physical limit, or a control without the work that is
            measured. The efficiency of this row is the limit's value divided by its value.
        facts: Further columns by heading, such as `{"threads": "2 x 1", "peak RSS MiB": 579}`.
        group: Heading of the rows that belong together, such as "25 MB"; "" for one table.
        skipped: Why it was not measured, or "".
        other_goals: Names of further rows that it is compared with, and the largest ratio to each
            that meets the goal.
    """

    name: str
    text: str
    unit: str
    rounds: tuple[float, ...]
    processor: tuple[float, ...] = ()
    peer: str | None = None
    goal: float | None = None
    limit: str | None = None
    facts: Mapping[str, float | str] = field(default_factory=dict)
    group: str = ""
    skipped: str = ""
    other_goals: Mapping[str, float] = field(default_factory=dict)

    def goals(self) -> Iterator[tuple[str, float]]:
        """Yields each peer that has a goal, and the largest ratio that meets it."""
        if self.peer is not None and self.goal is not None:
            yield self.peer, self.goal
        yield from self.other_goals.items()


@dataclass(frozen=True)
class Outcome:
    """The result of one benchmark.

    Attributes:
        kind: The name in `tfscale bench KIND`, or "input" of `tfscale data bench`.
        subject: What was measured, such as "mlp". Only files of one kind and subject are compared.
        text: A sentence about what was measured and how, which is the first line of the output.
        settings: What the flags say, as JSON values.
        machine: Where it was measured.
        rows: In the order of the table.
        notes: Sentences below the table.
        law: A fitted cost law as JSON values, or None.
        diagnosis: What limits an input or a training, as JSON values, or None.
    """

    kind: str
    subject: str
    text: str
    settings: Mapping[str, Any]
    machine: Machine
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    law: Mapping[str, Any] | None = None
    diagnosis: Mapping[str, Any] | None = None

    def row(self, name: str | None) -> Row | None:
        """Returns the measured row of a name; None where there is none."""
        return next((row for row in self.rows if row.name == name and row.rounds), None)

    def ratio(self, row: Row, peer: str | None = None) -> Spread | None:
        """Returns the round-by-round ratio of a row to a peer, or None where that has no values.

        Args:
            row: The row.
            peer: Name of the other row; None means `row.peer`.

        Example:
            >>> rows = Row("a", "", "ms", (2.0,)), Row("b", "", "ms", (3.0,), peer="a")
            >>> Outcome("step", "mlp", "", {}, Machine.of_this_host(), rows).ratio(rows[1]).median
            1.5
        """
        return _divided(row, self.row(peer or row.peer))

    def efficiency(self, row: Row) -> Spread | None:
        """Returns the round-by-round ratio of the limit to a row, or None without a limit."""
        limit = self.row(row.limit)
        return None if limit is None else _divided(limit, row)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values: the fields, and per row the statistics of its rounds."""
        values = dataclasses.asdict(self)
        for shown, row in zip(values["rows"], self.rows, strict=True):
            shown["value"] = _values(spread(row.rounds) if row.rounds else None)
            shown["processor_value"] = _values(spread(row.processor) if row.processor else None)
            shown["ratio"] = _values(self.ratio(row))
            shown["other_ratios"] = {
                peer: _values(self.ratio(row, peer)) for peer in row.other_goals
            }
            shown["efficiency"] = _values(self.efficiency(row))
        return {"format": FORMAT, **values}

    @staticmethod
    def from_json(values: Any) -> Outcome:
        """Returns the outcome that `to_json` described.

        Raises:
            ValueError: If the values are something else.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"`format` must be {FORMAT}. Received: {found!r}.")
        try:
            rows = tuple(
                Row(
                    **{name: row[name] for name in _FIELDS if name in row}
                    | {
                        "rounds": tuple(map(float, row["rounds"])),
                        "processor": tuple(map(float, row["processor"])),
                    }
                )
                for row in values["rows"]
            )
            return Outcome(
                kind=values["kind"],
                subject=values["subject"],
                text=values["text"],
                settings=values["settings"],
                machine=Machine(**values["machine"]),
                rows=rows,
                notes=tuple(values["notes"]),
                law=values["law"],
                diagnosis=values.get("diagnosis"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`values` must have the fields of an outcome: {error}.") from error


_FIELDS = [each.name for each in dataclasses.fields(Row)]


def _divided(row: Row, peer: Row | None) -> Spread | None:
    if peer is None or not row.rounds or min(peer.rounds) <= 0:
        return None
    return spread(paired_ratios(row.rounds, peer.rounds))


def _values(values: Spread | None) -> dict[str, float] | None:
    return None if values is None else dataclasses.asdict(values)
