"""How the tests of an engine ended, and the table of all engines."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_HEADS = ("engine", "passed", "failed", "skipped", "seconds")
_LONGEST = 160


@dataclass(frozen=True)
class Outcome:
    """How the tests of an engine ended.

    Attributes:
        engine: Its name.
        passed: Tests that passed.
        failed: Names of those that failed, and of those whose fixtures did.
        skipped: Reasons of those that were skipped, one for each.
        seconds: How long installing and testing took.
        trouble: What went wrong besides; "" for nothing.
        is_whole: Whether the tests ran to their end.
    """

    engine: str
    passed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]
    seconds: float
    trouble: str
    is_whole: bool

    @property
    def is_failure(self) -> bool:
        """Whether a test failed, or the tests did not run to their end."""
        return bool(self.failed) or not self.is_whole


def outcome_of(
    engine: str, record: Path, status: int | None, seconds: float, trouble: str
) -> Outcome:
    """Reads what pytest recorded.

    Args:
        engine: The engine.
        record: The file of `--junitxml`. Does not exist if pytest ended early.
        status: The exit status of pytest; None if it did not end in time.
        seconds: How long it took.
        trouble: What went wrong before.
    """
    passed, failed, skipped = 0, list[str](), list[str]()
    cases = ElementTree.parse(record).iter("testcase") if record.exists() else ()
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('name')}")
        elif (reason := case.find("skipped")) is not None:
            skipped.append(f"{reason.get('message')}")
        else:
            passed += 1
    # pytest: 0 all passed, 1 some failed; others: interrupted, internal error, no tests.
    is_whole = status in (0, 1) and record.exists()
    if status is None:
        trouble = "; ".join(filter(None, (trouble, "the tests did not end in time")))
    elif not is_whole:
        trouble = "; ".join(filter(None, (trouble, f"pytest ended with status {status}")))
    return Outcome(engine, passed, tuple(failed), tuple(skipped), seconds, trouble, is_whole)


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns a line for each engine, then what failed and why tests were skipped."""
    rows = [
        (each.engine, each.passed, len(each.failed), len(each.skipped), f"{each.seconds:.0f}")
        for each in outcomes
    ]
    lines = ["{:<12}{:>8}{:>8}{:>9}{:>9}".format(*row) for row in (_HEADS, *rows)]
    for each in outcomes:
        lines += [f"{each.engine}: {each.trouble}"] if each.trouble else []
        lines += [f"{each.engine}: failed: {name}" for name in each.failed]
        for reason, count in collections.Counter(each.skipped).items():
            lines.append(f"{each.engine}: {count} skipped: {' '.join(reason.split())[:_LONGEST]}")
    is_good = not any(each.is_failure for each in outcomes)
    lines.append(f"engines: {'passed' if is_good else 'FAILED'}")
    return "\n".join(lines)
