"""A task answers as long as its process runs, with real TensorFlow servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from strategies.cluster import server_probe
from strategies.cluster.server_probe import TaskProbe, answers
from tests.programs import ROOT, own_environment
from tests.waiting import until

SERVER = (
    "import tensorflow as tf, sys\n"
    "server = tf.distribute.Server({'ps': ['127.0.0.1:0']}, job_name='ps', task_index=0)\n"
    "print(server.target.rpartition('/')[2], flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=own_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip().rpartition(":")[2]
    yield process, f"127.0.0.1:{port}"
    process.kill()
    process.wait(60)


def test_a_server_answers_unless_its_process_is_stopped_or_gone(
    server: tuple[subprocess.Popen[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, address = server
    monkeypatch.setattr(server_probe, "SILENT_SECONDS", 0.5)
    probe = TaskProbe({"ps 0": address}, dict)

    def is_alive() -> bool:
        probe.look()
        return answers(address) and not probe.silent()

    until(is_alive, 120, probe.silent)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # until all its threads have stopped
    assert not answers(address, 0.5)
    probe.look()
    assert list(probe.silent()) == ["ps 0"]
    os.kill(process.pid, signal.SIGCONT)
    until(is_alive, 120, probe.silent)
    process.kill()
    process.wait(60)
    assert not answers(address, 0.5)
