"""SIGUSR2 in a process of a job."""

from __future__ import annotations

import pytest

from tests.programs import run_program

CODE = """
import os, signal
from strategies.cluster.stack_signal import answer_stack_requests
def own(*_):
    print("own handler")
if {has_own}:
    signal.signal(signal.SIGUSR2, own)
answer_stack_requests()
def here():
    os.kill(os.getpid(), signal.SIGUSR2)
here()
print("goes on")
"""


@pytest.mark.parametrize("has_own", [False, True])
def test_stacks_are_written_unless_the_program_handles_the_signal(has_own: bool) -> None:
    printed = run_program("-c", CODE.format(has_own=has_own), timeout=60, TFSCALE_JOB_ID="one")
    assert "goes on" in printed
    assert ("in here" in printed, "own handler" in printed) == (not has_own, has_own)


def test_outside_of_a_job_the_signal_keeps_its_meaning() -> None:
    code = (
        "import signal\n"
        "from strategies.cluster.stack_signal import answer_stack_requests\n"
        "answer_stack_requests()\n"
        "import faulthandler\n"
        "print(faulthandler.unregister(signal.SIGUSR2))"
    )
    assert run_program("-c", code, timeout=60, TFSCALE_JOB_ID="").strip() == "False"
