"""Which workers a worker waits for, and how often it prints this, in constructed situations."""

from __future__ import annotations

from typing import Any

import pytest

from strategies.liveness.blocking_workers import blocking_workers, is_behind
from strategies.liveness.heartbeat import Heartbeat, ObservedWorker
from strategies.liveness.task_notice import TaskNotice
from strategies.liveness.wait_notice import WaitNotice
from strategies.progress import Place


def seen(
    phase: str,
    *,
    step: int = 5,
    question: str = "",
    still: float = 20.0,
    age: float = 0.5,
    end: str = "",
    call: str = "fit",
) -> ObservedWorker:
    place = Place(0, step, phase, call=call)
    beat = Heartbeat(3, place, still, end=end, doing=f"is in {phase}", question=question)
    return ObservedWorker("worker", beat, age)


WAITS = seen("collective")
OUTSIDE = seen("outside", step=0, call="")
ASKS = seen("collective", question="stop after this epoch?")


@pytest.mark.parametrize(
    ("workers", "found"),
    [
        pytest.param([WAITS, seen("input", step=4)], [1], id="one reads"),
        pytest.param(
            [WAITS, seen("callbacks", step=4, still=0.2)], [1], id="one moves, and is late"
        ),
        pytest.param([WAITS, seen("step")], [1], id="one still computes"),
        pytest.param([WAITS, OUTSIDE], [1], id="one is in no call"),
        pytest.param([WAITS, WAITS, seen("input", step=4)], [2], id="another waits too"),
        pytest.param([WAITS, seen("step"), seen("input", step=4)], [2], id="the furthest behind"),
        pytest.param([WAITS, seen("input", step=4), seen("step", age=9)], [2], id="silence first"),
        pytest.param([WAITS, ObservedWorker("worker", None, 9.0)], [1], id="no heartbeat ever"),
        pytest.param([WAITS, ObservedWorker("worker", None, 2.0)], [], id="no heartbeat yet"),
        pytest.param([WAITS, seen("step", end="has ended its program")], [1], id="one has ended"),
        pytest.param([WAITS, WAITS], [1], id="all wait for each other"),
        pytest.param(
            [WAITS, seen("collective", step=4, question="evaluate()")],
            [1],
            id="the other makes another call",
        ),
        pytest.param(
            [seen("collective", step=4, question="evaluate()"), WAITS],
            [1],
            id="this one makes another call",
        ),
        pytest.param([ASKS, seen("callbacks")], [1], id="at a rendezvous"),
        pytest.param([seen("step"), seen("step")], [], id="long steps on both"),
        pytest.param([seen("step"), WAITS], [], id="the other waits for this one"),
        pytest.param([seen("step"), seen("callbacks", step=4)], [1], id="no marks: one is behind"),
        pytest.param([seen("trace", step=0), seen("trace", step=0)], [], id="both compile"),
        pytest.param([seen("input"), WAITS], [], id="this one reads"),
        pytest.param([seen("callbacks"), seen("step", age=30)], [], id="this one does not wait"),
        pytest.param([OUTSIDE, seen("step")], [], id="this one is in no call"),
    ],
)
def test_a_worker_waits_for_those_that_are_not_where_it_is(
    workers: list[ObservedWorker], found: list[int]
) -> None:
    assert blocking_workers(workers, 0) == found


def test_a_worker_in_another_call_is_the_one_behind() -> None:
    single = seen("collective", step=4, question="evaluate()")
    assert is_behind([single, WAITS], 0, [1])
    assert not is_behind([WAITS, single], 0, [1])
    assert not is_behind([ASKS, ASKS], 0, [1])
    assert not is_behind([ASKS, seen("callbacks")], 0, [1])


class Board:
    """The board of the first of two workers; nothing is read from it here."""

    names = ("worker 0", "worker 1")
    own = 0


def printed_at(
    capsys: pytest.CaptureFixture[str], board: Any, seconds: float, other: ObservedWorker
) -> list[int]:
    """Simulates a wait, second by second; returns the seconds at which a line was printed."""
    notice, at = WaitNotice(board, seconds), []
    for waited in range(1, 200):
        notice._report([WAITS, other], float(waited))
        if capsys.readouterr().err:
            at.append(waited)
    return at


def test_a_line_is_printed_once_and_then_at_doubling_intervals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board: Any = Board()
    assert printed_at(capsys, board, 30.0, seen("input", step=4)) == [30, 60, 120]


def test_a_worker_that_does_not_answer_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    board: Any = Board()
    assert printed_at(capsys, board, 30.0, seen("input", step=4, age=9.0)) == [1, 60, 120]


def test_waits_that_recur_and_end_by_themselves_are_reported_less_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board: Any = Board()
    notice, lines = WaitNotice(board, 30.0), []
    for phase in (*["callbacks"] * 5, "input"):
        for waited in range(1, 41):
            notice._report([WAITS, seen(phase, step=4)], float(waited))
        notice._end_wait()
        lines.append(capsys.readouterr().err.count("\n"))
    assert lines == [2, 0, 0, 0, 0, 2]  # after 30 s, and when it continues


class Probe:
    """Two workers that answer, one of them in a long execution."""

    def silent(self) -> dict[str, float]:
        return {}

    def forget(self) -> None:
        pass


def test_long_executions_that_end_by_themselves_are_reported_less_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    probe: Any = Probe()
    notice, lines = TaskNotice(probe, 30.0), []
    for longest in (40, 40, 40, 90):
        for seconds in range(1, longest + 1):
            notice._report(float(seconds), {"worker 0": 1.0, "worker 1": float(seconds)}, 0)
        notice._end_wait()
        lines.append(capsys.readouterr().err.splitlines())
    assert [len(printed) for printed in lines] == [2, 0, 0, 2]
    assert lines[0][0].startswith(
        "tfscale: the chief waits, in epoch 1: worker 1 has been in one execution for 30 s, and "
    )
