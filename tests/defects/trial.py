"""Runs rows on one device, on stock and on ours, in child processes, and judges them."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.defects.row import ONE_DEVICE, OURS, STOCK, WORKERS, Row
from tests.defects.runner import RAISED
from tests.defects.verdict import Verdict, judge, status
from tests.parity.children import Outcome, Task, run_cases

Outcomes = dict[tuple[str, str], Outcome]


@dataclass(frozen=True)
class WayTask(Task):
    """How a child process runs its rows.

    Attributes:
        way: On one device, on stock or on ours.
        on: The strategy of its rows.
    """

    way: str = field(kw_only=True)
    on: str = field(kw_only=True)

    def command(self, cases: Path, folder: Path) -> list[str]:
        """Returns the command line of the child process."""
        program = [sys.executable, "-m", "tests.defects.runner", str(cases), str(folder)]
        program += [f"--way={self.way}", f"--on={self.on}"]
        program += [f"--disable={self.disable}"] if self.disable else []
        if self.num_workers == 1:
            return program
        launch = ["-m", "tfscale", "launch", f"--num_workers={self.num_workers}"]
        return [sys.executable, *launch, "--grace_seconds=1", "--", *program]


@dataclass(frozen=True)
class Result:
    """A row and the results of stock and ours."""

    row: Row
    stock: Verdict
    ours: Verdict

    @property
    def status(self) -> str:
        """Fixed, refused, not fixed, or no longer a defect of stock."""
        return status(self.stock, self.ours)


def try_rows(
    rows: Sequence[Row],
    *,
    jobs: int = 2,
    seconds: float = 60.0,
    on_progress: Callable[[str], None] | None = None,
) -> list[Result]:
    """Runs every row three ways.

    Args:
        rows: What to run.
        jobs: Child processes at a time; a cluster counts as one.
        seconds: Deadline of each row.
        on_progress: Called with each finished run.
    """
    outcomes = _outcomes(rows, _children(rows, seconds), jobs, on_progress)
    return [
        Result(row, *(_verdict(row, way, outcomes, seconds) for way in (STOCK, OURS)))
        for row in rows
    ]


def try_without(
    disable: str, rows: Sequence[Row], *, jobs: int = 2, seconds: float = 60.0
) -> list[Verdict]:
    """Runs rows on ours without one fix, and judges them.

    Args:
        disable: The defect whose fix is left out.
        rows: What to run.
        jobs: Child processes at a time; a cluster counts as one.
        seconds: Deadline of each row.
    """
    children = [
        (dataclasses.replace(task, disable=disable if task.way == OURS else ""), members)
        for task, members in _children(rows, seconds)
        if task.way != STOCK
    ]
    outcomes = _outcomes(rows, children, jobs, None)
    return [_verdict(row, OURS, outcomes, seconds) for row in rows]


def _outcomes(
    rows: Sequence[Row],
    children: list[tuple[WayTask, list[Row]]],
    jobs: int,
    on_progress: Callable[[str], None] | None,
) -> Outcomes:
    outcomes: Outcomes = {}
    lock = threading.Lock()

    def run(task: WayTask, members: Sequence[Row]) -> None:
        by_key = {member.key: member for member in members}

        def note(key: str, outcome: Outcome) -> None:
            with lock:
                outcomes[task.way, key] = outcome
            if on_progress is not None:
                line = f"{by_key[key].name}, {by_key[key].case}: {task.way} {outcome.kind}"
                on_progress(f"{line}, {outcome.seconds:.0f} s")

        _run(list(by_key), task, note)
        # TensorFlow crashes now and then (README, Known); a second crash counts.
        died = [key for key in by_key if _died(outcomes[task.way, key])]
        for key in died:
            _run([key], task, note)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for future in [pool.submit(run, *each) for each in children]:
            future.result()
    return outcomes


def _run(keys: list[str], task: WayTask, note: Callable[[str, Outcome], None]) -> None:
    noted = 0

    def count(key: str, outcome: Outcome) -> None:
        nonlocal noted
        noted += 1
        note(key, outcome)

    try:
        run_cases(keys, task, count)
    except RuntimeError:
        # The child failed after its last row: with stock that happens.
        if task.way != STOCK or noted < len(keys):
            raise


def _died(outcome: Outcome) -> bool:
    return outcome.kind == "crashed" and not outcome.detail.startswith(RAISED)


def _children(rows: Sequence[Row], seconds: float) -> list[tuple[WayTask, list[Row]]]:
    """Groups rows by child process.

    On one device rows run in a common child; so they do on ours, unless they end with an error. In
    stock a second strategy of a process breaks on the first one's collectives (C7), so each row has
    a separate child.
    """
    children = []
    for on in sorted({row.on for row in rows}, key=lambda on: on != WORKERS):
        members = [row for row in rows if row.on == on]
        name = "workers2" if on == WORKERS else on
        ours = WayTask(name, case_seconds=seconds, way=OURS, on=on)
        stock = WayTask(name, case_seconds=seconds, way=STOCK, on=on)
        going_on = [row for row in members if not (row.refused or row.ends_with)]
        children += [(ours, [row]) for row in members if row not in going_on]
        children += [(ours, going_on)] if going_on else []
        children += [(stock, [row]) for row in members]
    unknown = [row for row in rows if row.right is None]
    if unknown:
        reference = WayTask("reference", case_seconds=seconds, way=ONE_DEVICE, on=ONE_DEVICE)
        children.insert(0, (reference, unknown))
    return children


def _verdict(row: Row, way: str, outcomes: Outcomes, seconds: float) -> Verdict:
    right = row.right
    if right is None:
        reference = outcomes[ONE_DEVICE, row.key]
        if reference.kind != "finished":
            text = judge(row, reference, {}, seconds).text
            return Verdict(False, False, f"not known: the reproducer on one device: {text}")
        right = reference.findings[0]
    verdict = judge(row, outcomes[way, row.key], right, seconds)
    if way == STOCK and row.ends_with and outcomes[way, row.key].kind == "crashed":
        return Verdict(True, False, verdict.text)  # it has ended, with any result
    return verdict
