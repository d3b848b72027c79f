"""Restarts measured from lines, worked out by hand, and what injections do to a process."""

from __future__ import annotations

import dataclasses
import math
import signal
import sys

import pytest

from tests.faults import injections
from tests.faults.effective import growth, time_spent
from tests.faults.job import Line
from tests.faults.latency import Restart, restart
from tests.faults.traces import marked
from tests.programs import completed

RESTARTED = [
    (10.0, "[worker 0] faults: step 4"),
    # The fault is at 10.5.
    (11.0, "tfscale launch: worker 1 failed first: exit status 1 after 9 s; ending the others"),
    (12.5, "tfscale launch: worker 1 failed first: exit status 1 after 9 s. Restart in 1 s"),
    (14.0, "[worker 1] faults: python runs"),
    (14.2, "[worker 0] faults: python runs"),
    (18.2, "[worker 0] faults: process 7 {}"),
    (18.3, "[worker 0] faults: together"),
    (19.2, "[worker 1] faults: process 8 {}"),
    (19.7, "[worker 1] faults: together"),
    (20.7, "[worker 1] faults: resumed at 3"),
    (20.6, "[worker 0] faults: resumed at 3"),
    (23.0, "[worker 0] faults: step 4"),
    (23.2, "[worker 0] faults: step 5"),
    (23.7, "[worker 1] faults: step 4"),
]


def as_lines(texts: list[tuple[float, str]]) -> list[Line]:
    return [Line(at, text) for at, text in texts]


def test_each_part_of_a_restart_ends_with_the_slowest_worker() -> None:
    found = restart(as_lines(RESTARTED), 10.5, 2)
    wanted = Restart(0.5, 1.5, 1.7, 5.0, 0.5, 1.0, 3.0)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(wanted))


def test_an_incomplete_restart_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"must have a line with .*faults: together"):
        restart(as_lines(RESTARTED[:8]), 10.5, 2)


def test_repeated_steps_are_lost_and_the_others_count() -> None:
    lines = as_lines(
        [
            (2.0, "[worker 0] faults: resumed at 0"),
            (6.0, "[worker 0] faults: step 1"),  # traced: counts as 1 s, as the others
            (7.0, "[worker 0] faults: step 2"),
            (7.1, "[worker 1] faults: step 2"),
            (8.0, "[worker 0] faults: step 3"),
            (15.0, "[worker 0] faults: resumed at 2"),
            (17.0, "[worker 0] faults: step 3"),
            (18.0, "[worker 0] faults: step 4"),
            (19.0, "[worker 0] faults: step 5"),
        ]
    )
    found = time_spent(lines, 0, begin=0.0, end=20.0)
    assert (found.counted, found.lost, found.between) == pytest.approx((5 / 20, 1 / 20, 14 / 20))
    assert str(found).startswith("effective training time 25%; 5% in steps that were lost, 70% in")


def test_the_first_step_of_an_epoch_does_not_count_the_validation_before_it() -> None:
    texts = [(0.0, "[worker 0] faults: resumed at 0")]
    texts += [(float(step), f"[worker 0] faults: step {step}") for step in range(1, 9)]
    texts += [(100.0 + step, f"[worker 0] faults: step {step}") for step in range(9, 17)]
    found = time_spent(as_lines(texts), 0, begin=0.0, end=160.0)
    assert found.counted == pytest.approx(16 / 160)


def test_memory_growth_is_measured_within_starts_after_their_warm_up() -> None:
    texts = ["[worker 0] faults: resumed at 0"]
    texts += [f"[worker 0] faults: memory {step} {10**8 + 70 * step}" for step in (8, 16, 24)]
    texts += ["[worker 0] faults: resumed at 21"]
    texts += [f"[worker 0] faults: memory {step} {10**9 + 70 * step}" for step in (24, 32, 40, 48)]
    assert growth(texts, warm_up_steps=10) == pytest.approx(70.0)
    assert math.isnan(growth(texts, warm_up_steps=40))


# What each kind does to a process that waits, in Python only.
WAITING = """
import sys, threading, time
from tests.faults import injections
kind = sys.argv[1]
injections.leave_no_core()
deeds = {**injections.IN_CALLBACK, **injections.IN_STEP}
if kind in injections.IN_STEP:
    threading.Thread(target=deeds[kind], daemon=True).start()
    while True:
        time.sleep(0.01)
deeds[kind]()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="statuses and limits are Linux's")
@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        (injections.EXCEPTION, 1, "RuntimeError: faults: raised on purpose"),
        (injections.MEMORY_ERROR, 1, "MemoryError"),
        (injections.ASYNCHRONOUS, 1, "Injected"),
        (injections.SEGFAULT, -signal.SIGSEGV, ""),
        (injections.ABORT, -signal.SIGABRT, ""),
    ],
)
def test_a_process_ends_as_the_injection_says(kind: str, status: int, said: str) -> None:
    done = completed("-c", WAITING, kind, timeout=240, **marked("injections"))
    assert done.returncode == status, done.stderr
    assert said in done.stderr


def test_no_other_thread_runs_while_the_lock_is_kept() -> None:
    program = """
import threading, time
from tests.faults import injections
injections.LOCK_SECONDS = 1
thread = threading.Thread(target=injections.hold_lock)
moments = [time.monotonic()]
thread.start()
while thread.is_alive():
    moments.append(time.monotonic())
    time.sleep(0.01)
moments.append(time.monotonic())
print(max(late - early for early, late in zip(moments, moments[1:])) > 0.8)
"""
    assert completed("-c", program, timeout=240, **marked("injections")).stdout == "True\n"
