"""Processes that a program starts for itself: no workers of its job, and they end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.programs import ROOT, own_environment

TELLS = """
import os
from tfscale.launch.asked_process import files_of_request, write_answer
request, answer = files_of_request()
names = ("TF_CONFIG", "PMI_", "TFSCALE_")
write_answer(answer, {name: v for name, v in os.environ.items() if name.startswith(names)})
"""
ASKS = """
import json, os, sys
from tfscale.launch.asked_process import asked_process
sys.path.insert(0, sys.argv[1])
os.environ["TFSCALE_TRIAL"] = "reports"
for has_cluster in (False, True):
    with asked_process("tells", {}, os.environ, has_cluster=has_cluster) as asked:
        asked.process.wait(60)
    assert asked.answer is not None, asked.last_lines
    print(json.dumps(sorted(asked.answer)))
"""


def test_a_process_that_a_worker_asks_has_nothing_of_the_job(
    launch: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    flags = ("--num_workers=2", "--env=TFSCALE_NOTICE_SECONDS=60", f"--log_dir={tmp_path}")
    job = launch(*flags, "--", sys.executable, "-c", ASKS, str(tmp_path))
    output, errors = job.process.communicate(timeout=300)  # it starts six programs
    assert job.process.returncode == 0, errors.decode()
    lines = sorted(output.decode().splitlines())
    for worker in range(2):
        alone, member = (json.loads(line.partition("] ")[2]) for line in lines[:2])
        if len(alone) > len(member):
            alone, member = member, alone
        del lines[:2]
        assert alone == ["TFSCALE_NOTICE_SECONDS"], worker
        # The worker itself, but for what only one process may write.
        expected = {"PMI_ID", "PMI_PORT", "TFSCALE_JOB_ID", "TFSCALE_RESTART", "TF_CONFIG"}
        assert expected <= set(member)
        assert not {"TFSCALE_EXIT_REASON", "TFSCALE_TRIAL"} & set(member)


WAITS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
ASKED = """
import os
from tfscale.launch.asked_process import asked_process
with asked_process("waits", {}, os.environ) as asked:
    print(asked.process.pid, flush=True)
    asked.process.wait(600)
"""
WITH_PROGRESS = """
import pathlib, sys
from strategies.extension import Deadline
from tfscale.preflight.ahead_of_time.progress import run_with_progress
log = pathlib.Path(sys.argv[1], "log")
command = [sys.executable, str(pathlib.Path(sys.argv[1], "waits.py"))]
def say(line): print(log.read_text() or "-", flush=True)
run_with_progress(command, log, Deadline(600.0), say, "waiting", every=0.1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tie processes")
@pytest.mark.parametrize("program", [ASKED, WITH_PROGRESS], ids=["asked", "with progress"])
def test_a_process_ends_with_the_one_that_started_it_also_if_that_is_killed(
    program: str, tmp_path: Path, until_gone: Callable[[int], None]
) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    path = os.pathsep.join((str(ROOT), str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env=own_environment(PYTHONPATH=path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        started = next(int(line) for line in process.stdout if line.strip().isdigit())
        process.send_signal(signal.SIGKILL)
        until_gone(started)
