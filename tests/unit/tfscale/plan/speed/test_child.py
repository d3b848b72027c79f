"""The process that measures ends with the one that has started it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.programs import started
from tests.waiting import until

SLEEPER = """
import os, pathlib, time
pathlib.Path(__file__).with_name("pid.part").write_text(str(os.getpid()))
os.rename(pathlib.Path(__file__).with_name("pid.part"), pathlib.Path(__file__).with_name("pid"))
time.sleep(600)
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tfscale.plan.speed.child import measured_in_child
measured_in_child("sleeper", {}, seconds=600, has_cluster=False)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux kills it")
def test_a_killed_plan_leaves_no_measurement(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    pid = tmp_path / "pid"
    process = started("-c", PROGRAM, str(tmp_path))
    try:
        until(pid.exists, 240, lambda: process.poll())
    finally:
        process.kill()
        process.communicate(timeout=60)
    until(lambda: not is_running(int(pid.read_text())), 60, pid.read_text)


def is_running(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"
