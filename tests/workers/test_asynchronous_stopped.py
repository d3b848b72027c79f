"""The chief and the launcher name a stopped worker or server of asynchronous training."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.programs import lines_of, started
from tests.workers.job import DEADLINE_SECONDS, launch

pytestmark = pytest.mark.thorough


def run(folder: Path, task: str, *deadline: str) -> str:
    """Runs a job to its end; without a Watchdog, a task goes on when it has been named."""
    command = launch("asynchronous_stopped", str(folder), task, *deadline, flags="--num_ps=1")
    process = started(*command, TFSCALE_NOTICE_SECONDS="4")
    lines = []
    for line in lines_of(process, DEADLINE_SECONDS):
        lines.append(line)
        if "has not answered" in line and not deadline:
            os.kill(int((folder / f"{task}.pid").read_text("utf-8")), signal.SIGCONT)
        if "the chief continues" in line:
            (folder / "over").touch()
    return "".join(lines)


@pytest.mark.parametrize("task", ["worker-1", "ps-0"])
def test_the_chief_names_a_task_that_has_stopped_and_goes_on_with_it(
    tmp_path: Path, task: str
) -> None:
    name, said = task.replace("-", " "), run(tmp_path, task)
    waits = rf"\[chief\] tfscale: the chief waits, in epoch \d: {name} has not answered for"
    assert re.search(waits, said), said[-6000:]
    assert f"[chief] tfscale: the chief continues; it had waited for {name}." in said
    assert "[chief] trained" in said
    others = {"worker 0", "worker 1", "ps 0"} - {name}
    assert not [other for other in others if f"{other} has not answered" in said]


def test_past_the_deadline_of_a_watchdog_the_server_is_at_fault_and_not_the_chief(
    tmp_path: Path,
) -> None:
    said = run(tmp_path, "ps-0", "12")
    assert re.search(r"watchdog: the job is ended after 12 s: ps 0 has not answered", said)
    assert "this process" not in said
    assert "tfscale launch: ps 0 failed first: chief ended because of it (watchdog: " in said
