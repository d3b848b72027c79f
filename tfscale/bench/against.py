"""`--against=FILE`: what changed since an earlier run of the same benchmark.

The two runs were not taken in turns, so only medians are compared, and a change is called one only
if the ranges of the rounds do not overlap.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfscale.bench.figures import Spread, spread
from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome
from tfscale.bench.table import aligned, number, span


@dataclass(frozen=True)
class Change:
    """A row that both runs measured.

    Attributes:
        name: Of the row.
        unit: Of the values.
        earlier: Median and range of the earlier run.
        now: Median and range of this run.
    """

    name: str
    unit: str
    earlier: Spread
    now: Spread

    @property
    def ratio(self) -> float | None:
        """The median now divided by the earlier one; None if that is not positive."""
        return self.now.median / self.earlier.median if self.earlier.median > 0 else None

    @property
    def overlaps(self) -> bool:
        """Whether the two ranges have a value in common."""
        return self.now.low <= self.earlier.high and self.earlier.low <= self.now.high

    @property
    def verdict(self) -> str:
        """What the two ranges say."""
        if self.overlaps:
            return "ranges overlap"
        return "smaller" if self.now.median < self.earlier.median else "larger"


@dataclass(frozen=True)
class Comparison:
    """A run and an earlier one.

    Attributes:
        date: Of the earlier run.
        changes: The rows that both measured, in the order of this run.
        differences: Sentences about what else changed: machine, versions, settings, load, rows.
    """

    date: str
    changes: tuple[Change, ...]
    differences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "date": self.date,
            "rows": [
                {
                    **dataclasses.asdict(change),
                    "ratio": change.ratio,
                    "ranges_overlap": change.overlaps,
                }
                for change in self.changes
            ],
            "differences": list(self.differences),
        }


def read_earlier(path: str | Path) -> Outcome:
    """Reads what `tfscale bench --json` has printed.

    Raises:
        ValueError: If the file cannot be read, or has other content.
    """
    try:
        return Outcome.from_json(json.loads(Path(path).read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(
            "`--against` must be a file that `tfscale bench --json` has printed. Received: "
            f"{path}: {error} Print one with --json."
        ) from error


def refuse_other_subject(earlier: Outcome, kind: str, subject: str | None) -> None:
    """Refuses an earlier run of something else.

    Args:
        earlier: The earlier run.
        kind: The kind of this run.
        subject: What this run measures; None if that is not known yet.

    Raises:
        ValueError: If kind or subject differ.
    """
    if earlier.kind != kind or subject not in (None, earlier.subject):
        wanted = kind if subject is None else f"{kind} of {subject}"
        raise ValueError(
            f"`--against` must be a file about {wanted}. Received: a file about {earlier.kind} of "
            f"{earlier.subject}. Choose a file of the same kind and model."
        )


def compared(outcome: Outcome, earlier: Outcome) -> Comparison:
    """Compares a run with an earlier one of the same kind and subject.

    Raises:
        ValueError: If kind or subject differ.
    """
    refuse_other_subject(earlier, outcome.kind, outcome.subject)
    changes = []
    for row in outcome.rows:
        before = earlier.row(row.name)
        if row.rounds and before is not None and before.unit == row.unit:
            values = spread(before.rounds), spread(row.rounds)
            changes.append(Change(row.name, row.unit, *values))
    return Comparison(
        date=earlier.machine.date,
        changes=tuple(changes),
        differences=tuple(_differences(outcome, earlier)),
    )


def as_text(comparison: Comparison) -> str:
    """Returns the comparison as a table and the differences below it."""
    heading = f"against the run of {comparison.date}"
    return "\n".join([heading, aligned(cells(comparison)), *comparison.differences])


def cells(comparison: Comparison) -> list[list[str]]:
    """Returns headings and cells of the table."""
    table = [["name", "now", "earlier", "now/earlier", "unit", ""]]
    for change in comparison.changes:
        ratio = "" if change.ratio is None else f"{change.ratio:.2f}x"
        values = [_value(change.now), _value(change.earlier)]
        table.append([change.name, *values, ratio, change.unit, change.verdict])
    return table


def _value(value: Spread) -> str:
    return f"{number(value.median)} {span(value)}"


def _differences(outcome: Outcome, earlier: Outcome) -> Iterator[str]:
    now, before = outcome.machine, earlier.machine
    if now.kind != before.kind:
        yield "The machines differ, so the ratios say nothing about the software."
    yield from _changed("machine", _shown(before), _shown(now))
    yield from _changed("versions", before.versions, now.versions)
    settings = json.loads(json.dumps(outcome.settings))  # tuples are lists in a file
    yield from _changed("settings", earlier.settings, settings)
    loads = (before.load_before, before.load_after), (now.load_before, now.load_after)
    yield "load average: {} earlier, {} now.".format(
        *(f"{first:.2f} to {last:.2f}" for first, last in loads)
    )
    for text, names in (
        ("new", _names(outcome) - _names(earlier)),
        ("not measured now", _names(earlier) - _names(outcome)),
    ):
        if names:
            yield f"{text}: {', '.join(sorted(names))}."


def _names(outcome: Outcome) -> set[str]:
    return {row.name for row in outcome.rows if row.rounds}


def _shown(machine: Machine) -> dict[str, Any]:
    return {
        "processor": f"{machine.cpus} x {machine.processor}",
        "memory GiB": number(round(machine.memory_bytes / 2**30)),
        "system": machine.system,
        "accelerators": ", ".join(machine.accelerators) or "none",
    }


def _changed(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    changed = [
        f"{name} {before.get(name, 'absent')} -> {now.get(name, 'absent')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]
    yield f"{what}: {', '.join(changed) or 'the same'}."
