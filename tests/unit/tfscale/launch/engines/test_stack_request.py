from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.waiting import until
from tfscale.launch.engines.stack_request import ask

SECONDS = 60.0
HANDLES = (
    "import signal, sys\n"
    "signal.signal(signal.SIGUSR2, lambda *_: print('asked', flush=True))\n"
    "print('ready', flush=True)\n"
    "while True: signal.pause()\n"
)
# A launcher: starts a worker with the id of another job, and waits.
STARTS = (
    "import os, subprocess, sys\n"
    "env = {**os.environ, 'TFSCALE_JOB_ID': 'rendezvous'}\n"
    "subprocess.run([sys.executable, '-S', '-c', sys.argv[1]], env=env)\n"
)


@contextlib.contextmanager
def started(job: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", *command],
        env={**os.environ, "TFSCALE_JOB_ID": job},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.communicate(timeout=SECONDS)


def test_only_processes_of_the_job_that_handle_the_signal_get_it() -> None:
    with started("mine", HANDLES) as mine, started("other", HANDLES) as other:
        assert ask("mine") == (1, 1)
        assert mine.stdout is not None
        assert mine.stdout.readline() == "asked\n"
        assert ask("none of these") == (0, 0)
        assert other.poll() is None
    deaf = "import time; print('ready', flush=True); time.sleep(600)"
    with started("deaf", deaf) as process:
        assert ask("deaf") == (0, 1)
        assert process.poll() is None


def test_workers_of_an_elastic_job_are_found_by_the_id_of_their_own_launcher() -> None:
    with started("second", STARTS, HANDLES) as launcher:
        assert ask("second") == (1, 2)
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "asked\n"
        until(lambda: ask("rendezvous") == (1, 1), SECONDS, lambda: "not found by its own id")
