from __future__ import annotations

import gc
import io
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tfscale.launch import Outcome
from tfscale.launch.local_workers import launch_local_workers

# Each worker knows its index from TF_CONFIG; nothing else tells it.
INDEX = "import json, os, sys, signal, time; task = json.loads(os.environ['TF_CONFIG'])['task']\n"
Python = Callable[..., list[str]]


def run(command: list[str], num_workers: int, grace_seconds: float = 10.0) -> tuple[Outcome, bytes]:
    output = io.BytesIO()
    outcome = launch_local_workers(command, num_workers, grace_seconds=grace_seconds, output=output)
    return outcome, output.getvalue()


def lines_of(worker: int, output: bytes) -> list[bytes]:
    prefix = b"[worker %d] " % worker
    return [line.removeprefix(prefix) for line in output.splitlines() if line.startswith(prefix)]


def test_all_succeed(python: Python) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.stdout.write('end')"
    outcome, output = run(python(code), 3)
    assert outcome == Outcome()
    assert outcome.status == 0
    for worker in range(3):
        assert lines_of(worker, output) == [b"out", b"err", b"end"]
    assert len(output.splitlines()) == 9


def test_the_first_failure_decides_and_ends_the_others(python: Python, tmp_path: Path) -> None:
    fifo = tmp_path / "worker 0 is ready"
    os.mkfifo(fifo)
    code = INDEX + (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"if task['index'] == 1: open({str(fifo)!r}).read(); sys.exit(3)\n"
        f"open({str(fifo)!r}, 'w').close()\n"
        "signal.sigwait([signal.SIGTERM]); sys.exit(4)"
    )
    outcome, _ = run(python(code), 2)
    assert outcome.status == 3
    assert outcome.first_failure is not None
    assert outcome.first_failure.worker == 1
    assert re.fullmatch(
        r"worker 1 failed first: exit status 3 after \d+\.\d s; the whole job was ended",
        str(outcome),
    )


def test_a_success_does_not_end_the_others(python: Python, tmp_path: Path) -> None:
    fifo = tmp_path / "worker 0 has ended"
    os.mkfifo(fifo)
    # Worker 1 reads the end of the FIFO only when worker 0, which holds it open, has exited.
    code = INDEX + (
        f"fifo = open({str(fifo)!r}, 'r' if task['index'] else 'w')\n"
        "if task['index']: fifo.read(); print('worker 0 is gone')"
    )
    outcome, output = run(python(code), 2)
    assert outcome.status == 0
    assert lines_of(1, output) == [b"worker 0 is gone"]


def test_a_worker_killed_by_a_signal_has_the_status_of_a_shell(python: Python) -> None:
    outcome, _ = run(python("import os; os.kill(os.getpid(), 9)"), 1)
    assert outcome.status == 128 + 9
    assert "worker 0 failed first: killed by SIGKILL after" in str(outcome)


def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(
    python: Python, tmp_path: Path
) -> None:
    fifo = tmp_path / "worker 0 ignores SIGTERM"
    os.mkfifo(fifo)
    code = INDEX + (
        f"if task['index'] == 1: open({str(fifo)!r}).read(); sys.exit(3)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"open({str(fifo)!r}, 'w').close()\n"
        "while signal.sigwait([signal.SIGTERM]): print('trains on')"
    )
    started = time.monotonic()
    outcome, output = run(python(code), 2, grace_seconds=5.0)
    assert outcome.status == 3
    assert lines_of(0, output) == [b"trains on"]
    assert time.monotonic() - started >= 5.0


@pytest.mark.parametrize("ignore", [False, True])
def test_what_a_worker_leaves_in_its_group_is_ended(
    python: Python, until_gone: Callable[[int], None], ignore: bool
) -> None:
    child = python(
        "import signal, sys\n"
        + ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if ignore else "")
        + "print('ready', flush=True)\n"
        "signal.pause()"
    )
    code = (
        "import subprocess; "
        f"child = subprocess.Popen({child!r}, stdout=subprocess.PIPE); "
        "child.stdout.readline(); print(child.pid)"
    )
    started = time.monotonic()
    outcome, output = run(python(code), 1, grace_seconds=0.5 if ignore else 600.0)
    assert outcome.status == 0
    assert time.monotonic() - started < 300.0
    until_gone(int(lines_of(0, output)[0]))


def test_a_daemon_that_keeps_the_pipe_open_is_not_waited_for(
    python: Python, until_gone: Callable[[int], None]
) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen("
        "[sys.executable, '-S', '-c', 'import signal; signal.pause()'], start_new_session=True); "
        "print(child.pid)"
    )
    outcome, output = run(python(code), 1)
    daemon = int(lines_of(0, output)[0])
    os.kill(daemon, signal.SIGKILL)  # It was alive: otherwise this raises.
    until_gone(daemon)
    assert outcome.status == 0


def test_bytes_that_are_not_utf8_pass_unchanged(python: Python) -> None:
    _, output = run(python("import os; os.write(1, bytes(range(14, 256)) + bytes(range(10)))"), 1)
    assert output == b"[worker 0] " + bytes(range(14, 256)) + bytes(range(10)) + b"\n"


def test_long_lines_of_several_workers_do_not_deadlock(python: Python) -> None:
    code = "import sys; [sys.stdout.write('x' * 1000) for _ in range(3000)]"
    outcome, output = run(python(code), 2)
    assert outcome.status == 0
    assert output.count(b"x") == 2 * 3_000_000


def test_a_worker_gets_the_users_environment_and_its_task(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_USER", "kept")
    monkeypatch.setenv("TF_CONFIG", "of an outer job")
    _, output = run(python("import json, os; print(json.dumps(dict(os.environ)))"), 2)
    configs, jobs, servers = [], set(), set()
    for worker in range(2):
        environment = json.loads(lines_of(worker, output)[0])
        config = json.loads(environment.pop("TF_CONFIG"))
        assert config["task"] == {"type": "worker", "index": worker}
        configs.append(config["cluster"])
        assert environment.pop("PYTHONUNBUFFERED") == "1"
        assert environment.pop("TFSCALE_RESTART") == "0"
        jobs.add(environment.pop("TFSCALE_JOB_ID"))
        assert environment.pop("PMI_ID") == str(worker)  # MPI's rank
        servers.add(environment.pop("PMI_PORT"))
        assert (
            Path(environment.pop("TFSCALE_EXIT_REASON")).name
            == f"worker-{worker}.attempt-0.error.json"
        )
        ours = (
            "TF_CONFIG",
            "PYTHONUNBUFFERED",
            "TFSCALE_RESTART",
            "TFSCALE_JOB_ID",
            "TFSCALE_EXIT_REASON",
        )
        outer = {k: v for k, v in os.environ.items() if k not in ours}
        assert environment == outer
    assert len(jobs) == len(servers) == 1
    assert configs[0] == configs[1]
    assert list(configs[0]) == ["worker"]
    assert len(set(configs[0]["worker"])) == 2


def test_one_worker_is_a_cluster_of_one(python: Python) -> None:
    _, output = run(python("import os; print(os.environ['TF_CONFIG'])"), 1)
    config = json.loads(lines_of(0, output)[0])
    assert len(config["cluster"]["worker"]) == 1
    assert config["task"] == {"type": "worker", "index": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_worker_starts_with_empty_input_and_plain_signals() -> None:
    # A shell, as Python changes the dispositions that it was started with.
    outcome, output = run(["sh", "-c", "grep -E 'Sig(Ign|Blk)' /proc/self/status; wc -c"], 1)
    assert outcome.status == 0
    # Signals 32 and 33 are the C library's own: it blocks them around the start of a process.
    own = 0b11 << 31
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # these tests run under nohup
        own |= 1 << (signal.SIGHUP - 1)
    ignored_and_blocked = [int(line.split()[1], 16) & ~own for line in lines_of(0, output)[:2]]
    assert ignored_and_blocked == [0, 0]
    assert lines_of(0, output)[2].strip() == b"0"


def test_workers_bind_their_ports_and_reach_each_other(python: Python) -> None:
    code = INDEX + (
        "import socket\n"
        "cluster = json.loads(os.environ['TF_CONFIG'])['cluster']['worker']\n"
        "addresses = [(a.split(':')[0], int(a.split(':')[1])) for a in cluster]\n"
        "server = socket.socket(); server.bind(addresses[task['index']]); server.listen()\n"
        "def connect(address):\n"
        "    for _ in range(12000):\n"
        "        try: return socket.create_connection(address)\n"
        "        except ConnectionRefusedError: time.sleep(0.01)\n"
        "peer = connect(addresses[1 - task['index']]); server.accept(); print('connected')"
    )
    outcome, output = run(python(code), 2)
    assert outcome.status == 0
    assert sorted(output.splitlines()) == [b"[worker 0] connected", b"[worker 1] connected"]


def test_another_thread_may_launch(python: Python) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(python("print('x')"), 2)[0]))
    thread.start()
    thread.join(timeout=120.0)
    assert outcomes == [Outcome()]


def test_signal_handlers_and_descriptors_are_put_back(python: Python) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    run(python(""), 1)
    gc.collect()  # what earlier tests have left open is closed now, not in between
    handlers = [signal.getsignal(number) for number in numbers]
    descriptors = len(list(Path("/dev/fd").iterdir()))
    run(python(""), 3)
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert len(list(Path("/dev/fd").iterdir())) == descriptors


@pytest.mark.parametrize(
    ("command", "num_workers", "grace_seconds", "message"),
    [
        ([], 1, 1.0, r"`command` must be .* Received: command=\[\]"),
        ("python train.py", 1, 1.0, r"`command` must be a sequence"),
        (["ls"], 0, 1.0, r"`num_workers` must be .* Received: num_workers=0\."),
        (["ls"], True, 1.0, r"`num_workers` must be"),
        (["ls"], 1, -1.0, r"`grace_seconds` must be .* Received: grace_seconds=-1\.0\."),
        (["ls"], 1, float("nan"), r"`grace_seconds` must be"),
        (["ls"], 1, float("inf"), r"`grace_seconds` must be"),
    ],
)
def test_impossible_arguments_are_refused(
    command: list[str], num_workers: int, grace_seconds: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        launch_local_workers(command, num_workers, grace_seconds=grace_seconds)
