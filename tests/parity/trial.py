"""Trains cases under their strategies and on one device, and judges them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.parity.children import CASE_SECONDS, Outcome, Task, run_cases
from tests.parity.configuration import Configuration
from tests.parity.judge import Verdict, judge

STRATEGY = "strategy"
STOCK = "stock"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """One case and its verdicts.

    Attributes:
        case: Its text.
        verdict: Under the strategy of `strategies`.
        outcome: Its results.
        stock: Under the same strategy made by tf.distribute, or None if that was not tried.
    """

    case: str
    verdict: Verdict
    outcome: Outcome
    stock: Verdict | None = None


def try_cases(
    cases: Sequence[str],
    *,
    jobs: int = 2,
    stock: bool = False,
    disable: str = "",
    case_seconds: float = CASE_SECONDS,
    on_progress: Progress | None = None,
) -> list[Result]:
    """Trains every case on one device and under its strategy, and compares.

    Args:
        cases: Texts of configurations or scenarios.
        jobs: Child processes at a time; a cluster counts as one.
        stock: Whether to train under stock strategies too.
        disable: Row of the defect whose fix is left out, or "".
        case_seconds: Deadline of a case.
        on_progress: Called with each finished run, and its verdict if that is known.
    """
    runs = _runs(list(dict.fromkeys(cases)), stock, disable, case_seconds)
    outcomes: dict[tuple[str, str], Outcome] = {}
    lock = threading.Lock()

    def run(role: str, task: Task, members: list[str]) -> None:
        def note(case: str, outcome: Outcome) -> None:
            with lock:
                outcomes[role, case] = outcome
                result = _verdict_or_outcome(role, case, outcomes)
            if on_progress is not None:
                on_progress(f"{role}: {case}: {result}, {outcome.seconds:.0f} s")

        run_cases(members, task, note)

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for future in [pool.submit(run, *each) for each in runs]:
            future.result()
    return [_result(case, outcomes) for case in cases]


def require_match(result: Result) -> None:
    """Fails a test whose case did not match, with the command that repeats it."""
    verdict = result.verdict
    repeat = f'python -m tests.parity.case "{result.case}"'
    assert verdict.kind == "matched", f"{verdict.detail}\nTo repeat: {repeat}"


def strategy_of(case: str) -> str:
    """Returns the strategy that a case's text names."""
    return case.rpartition("on=")[2]


def _configuration(case: str) -> Configuration:
    """A scenario is judged like a configuration in float64."""
    if case.startswith("scenario "):
        return Configuration(strategy=strategy_of(case))
    return Configuration.parse(case)


def _runs(
    cases: list[str], stock: bool, disable: str, case_seconds: float
) -> list[tuple[str, Task, list[str]]]:
    """Groups runs by child process; one device first, so that the others can be judged soon."""
    reference = Task("reference", case_seconds=case_seconds)
    on_one_device = list(dict.fromkeys(_on_one_device(case) for case in cases))
    runs = [("reference", reference, on_one_device)]
    rounded = [case for case in on_one_device if _configuration(case).precision != "float64"]
    if rounded:
        runs.append(("control", dataclasses.replace(reference, permuted=True), rounded))
    for strategy in sorted({strategy_of(case) for case in cases}, reverse=True):
        members = [case for case in cases if strategy_of(case) == strategy]
        task = Task(strategy, disable=disable, case_seconds=case_seconds)
        runs.append((STRATEGY, task, members))
        if stock:
            runs.append((STOCK, dataclasses.replace(task, stock=True, disable=""), members))
    return runs


def _on_one_device(case: str) -> str:
    """Returns the case of the reference: only microbatches depend on the number of replicas."""
    if _configuration(case).is_half:
        return case
    return f"{case.rpartition('on=')[0]}on=mirrored1"


def _verdict_or_outcome(role: str, case: str, outcomes: dict[tuple[str, str], Outcome]) -> str:
    """Returns the verdict on a run, or its outcome if the reference is not finished."""
    has_control = ("control", _on_one_device(case)) in outcomes
    needs_control = _configuration(case).precision != "float64"
    is_known = ("reference", _on_one_device(case)) in outcomes and (
        has_control or not needs_control
    )
    if role not in (STRATEGY, STOCK) or not is_known:
        return outcomes[role, case].kind
    verdict = _verdict(role, case, outcomes)
    return f"{verdict.kind} ({verdict.difference:.1e})"


def _verdict(role: str, case: str, outcomes: dict[tuple[str, str], Outcome]) -> Verdict:
    one_device = _on_one_device(case)
    return judge(
        _configuration(case),
        outcomes["reference", one_device],
        outcomes.get(("control", one_device)),
        outcomes[role, case],
    )


def _result(case: str, outcomes: dict[tuple[str, str], Outcome]) -> Result:
    stock = _verdict(STOCK, case, outcomes) if (STOCK, case) in outcomes else None
    return Result(case, _verdict(STRATEGY, case, outcomes), outcomes[STRATEGY, case], stock)
