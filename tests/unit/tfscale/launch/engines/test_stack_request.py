from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.waiting import until
from tfscale.launch.engines.stack_request import ask, members_of
from tfscale.launch.engines.workers_elsewhere import workers_elsewhere

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
def started(job: str, *command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", *command],
        env={**os.environ, "TFSCALE_JOB_ID": job, **variables},
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
        assert members_of("mine") == (mine.pid,)
        assert ask(members_of("mine")) == 1
        assert mine.stdout is not None
        assert mine.stdout.readline() == "asked\n"
        assert members_of("none of these") == ()
        assert other.poll() is None
    deaf = "import time; print('ready', flush=True); time.sleep(600)"
    with started("deaf", deaf) as process:
        assert ask(members_of("deaf")) == 0
        assert process.poll() is None


def test_workers_of_an_elastic_job_are_found_by_the_id_of_their_own_launcher() -> None:
    with started("second", STARTS, HANDLES) as launcher:
        assert len(members_of("second")) == 2
        assert ask(members_of("second")) == 1
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "asked\n"
        until(
            lambda: ask(members_of("rendezvous")) == 1, SECONDS, lambda: "not found by its own id"
        )


def test_one_launcher_of_an_elastic_job_leads_to_the_workers_of_the_others() -> None:
    """Their workers have one id. The launcher was started in a process of another job."""
    with (
        started("outer", HANDLES) as outer,
        started("outer", STARTS, HANDLES) as launcher,
        started("rendezvous", HANDLES) as far,
    ):
        members = members_of("second", [launcher.pid])
        assert far.pid in members
        assert len(members) == 2
        assert not {outer.pid, launcher.pid} & set(members)
        assert ask(members) == 2


def test_workers_on_other_hosts_are_named_by_host() -> None:
    cluster = {"worker": ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1", "10.0.0.3:1"]}
    with contextlib.ExitStack() as stack:
        pids = []
        for index in (0, 1):
            task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            variables = {"TF_CONFIG": json.dumps(task)}
            pids.append(stack.enter_context(started("mine", HANDLES, **variables)).pid)
        pids.append(stack.enter_context(started("mine", HANDLES, TF_CONFIG="{")).pid)
        members = members_of("mine")
        assert set(pids) <= set(members)
        assert workers_elsewhere(members) == {
            "10.0.0.2": ("worker 2",),
            "10.0.0.3": ("worker 3",),
        }
        assert workers_elsewhere(pids[2:]) == {}
