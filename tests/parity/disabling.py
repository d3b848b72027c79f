"""Each fix is left out in turn: a test must then fail, or no test covers the fix.

A fix is covered by its cases here (`rows.SHOWN_BY`), which are compared with one device, or by its
reproducers in tests/defects, which must then no longer count as fixed or refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.defects.catalogue import rows_named
from tests.defects.trial import try_without
from tests.parity.rows import PROGRAMS, SHOWN_BY, cases_for
from tests.parity.trial import try_cases

ALL = (*SHOWN_BY, *PROGRAMS)
"""Every fixed defect."""

CASE_SECONDS = 45.0
"""Deadline of a case: without its fix it may hang, which counts as a failure."""


def disable_each(rows: Sequence[str], jobs: int) -> list[str]:
    """Leaves out one fix after the other and prints what happens.

    Args:
        rows: Names of fixed defects, such as "S4".
        jobs: Child processes at a time.

    Returns:
        The fixes without which nothing fails.
    """
    unnoticed = []
    for row in rows:
        started = time.monotonic()
        kinds = _compared(row, jobs) if row in SHOWN_BY else _reproduced(row, jobs)
        is_red = any(kind in ("wrong", "crashed", "hung", "not fixed") for kind in kinds)
        unnoticed += [] if is_red else [row]
        colour = "red" if is_red else "NOT MISSED"
        seconds = time.monotonic() - started
        print(f"without {row}: {colour} ({', '.join(kinds)}), {seconds:.0f} s", flush=True)
    print(f"parity: {len(rows) - len(unnoticed)} of {len(rows)} fixes are covered")
    if unnoticed:
        print(f"parity: not covered: {', '.join(unnoticed)}")
    return unnoticed


def _compared(row: str, jobs: int) -> list[str]:
    results = try_cases(cases_for(row), jobs=jobs, disable=row, case_seconds=CASE_SECONDS)
    return [result.verdict.kind for result in results]


def _reproduced(row: str, jobs: int) -> list[str]:
    verdicts = try_without(row, rows_named(row), jobs=jobs, seconds=CASE_SECONDS)
    return ["fixed" if v.is_right or v.is_refusal else "not fixed" for v in verdicts]
