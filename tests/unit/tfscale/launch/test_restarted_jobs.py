"""Jobs that are restarted by a real launcher; each restart waits a second."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_ports
from tfscale.launch import Outcome, launch_local_workers

Launch = Callable[..., Any]
Python = Callable[..., list[str]]
UntilGone = Callable[[int], None]

TASK = (
    "import json, os, signal, subprocess, sys\n"
    "config = json.loads(os.environ['TF_CONFIG']); index = config['task']['index']\n"
    "restart = int(os.environ['TFSCALE_RESTART'])\n"
)


def test_the_whole_job_is_started_again_on_new_ports(
    launch: Launch, python: Python, tmp_path: Path
) -> None:
    fifo = tmp_path / "the child of worker 0 ignores SIGTERM"
    os.mkfifo(fifo)
    # The first start ends by worker 1's failure; worker 0 and a stubborn child of it live on until
    # they are ended. In the second start nothing of them may be left.
    child = python(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('ignores it', flush=True); signal.pause()"
    )
    code = TASK + (
        f"left = {str(tmp_path / 'left')!r}\n"
        "print(restart, *config['cluster']['worker'], flush=True)\n"
        "if restart:\n"
        "    for pid in open(left).read().split():\n"
        "        try: os.kill(int(pid), 0)\n"
        "        except ProcessLookupError: print('gone', flush=True)\n"
        "elif index: open(" + repr(str(fifo)) + ").read(); sys.exit(7)\n"
        "else:\n"
        f"    child = subprocess.Popen({child!r}, stdout=subprocess.PIPE)\n"
        "    child.stdout.readline(); open(left, 'w').write(f'{os.getpid()} {child.pid}')\n"
        f"    open({str(fifo)!r}, 'w').close()\n"
        "    signal.pause()"
    )
    status, output, errors = launch(
        *("--num_workers=2", "--grace_seconds=0.5", "--max_restarts=2", "--"), *python(code)
    ).finish()
    assert status == 0
    lines = [line.split()[2:] for line in output.splitlines()]
    assert sorted(line[0] for line in lines) == ["0", "0", "1", "1", *["gone"] * 4]
    ports = {restart: line[1:] for line in lines for restart in line[:1] if restart != "gone"}
    assert len({*ports["0"], *ports["1"]}) == 4
    assert re.fullmatch(
        r"tfscale launch: worker 1 failed first: exit status 7 after \d+\.\d s; "
        r"ending the others within 0\.5 s\.\n"
        r"tfscale launch: worker 1 failed first: exit status 7 after \d+\.\d s; "
        r"the whole job was ended\. Restart in 1 s; 1 of 2 restarts used\.\n",
        errors,
    )


def test_failures_use_restarts_up_and_preemptions_do_not(launch: Launch, python: Python) -> None:
    code = TASK + "print(restart); sys.exit([42, 3, -9][restart] if restart < 2 else 4)"
    command = ["--num_workers=1", "--max_restarts=1", "--early_seconds=0", "--", *python(code)]
    status, output, errors = launch(*command).finish()
    assert status == 4
    assert output == "".join(f"[worker 0] {restart}\n" for restart in range(3))
    first, second, last = errors.splitlines()
    assert first.startswith(
        "tfscale launch: worker 0 was preempted, all saved (exit status 42 after "
    )
    assert first.endswith("Restart in 1 s, not counted (preempted); 0 of 1 restarts used.")
    assert second.endswith("Restart in 1 s; 1 of 1 restarts used.")
    assert "worker 0 failed first: exit status 4 after" in last
    assert last.endswith("; not restarted: 1 of 1 restarts are used.")


def test_without_the_flag_nothing_is_started_again(launch: Launch, python: Python) -> None:
    status, output, errors = launch(
        "--num_workers=1", "--", *python("print('once'); raise SystemExit(42)")
    ).finish()
    assert (status, output) == (42, "[worker 0] once\n")
    assert errors.count("\n") == 1
    assert "Restart" not in errors


def test_a_job_that_fails_at_once_again_and_again_is_given_up(
    launch: Launch, python: Python
) -> None:
    command = ["--num_workers=1", "--max_restarts=99", "--", *python(TASK + "sys.exit(5)")]
    started = time.monotonic()
    status, _, errors = launch(*command).finish()
    assert status == 5
    assert time.monotonic() - started >= 1.0 + 2.0
    assert [re.findall(r"in \d s", line) for line in errors.splitlines()[:2]] == [
        ["in 1 s"],
        ["in 2 s"],
    ]
    assert errors.splitlines()[2].endswith(
        "; not restarted: 3 times in a row the job ended within 20 s of its start, "
        "so another restart is unlikely to help."
    )


@pytest.mark.parametrize(
    ("number", "exit_status", "status"),
    [(signal.SIGINT, 3, 130), (signal.SIGTERM, 3, 143), (signal.SIGTERM, 42, 42)],
)
def test_a_signal_ends_the_wait_for_a_restart(
    launch: Launch, python: Python, number: int, exit_status: int, status: int
) -> None:
    code = TASK + f"sys.exit({exit_status})"
    # With two hosts the wait is long enough for a signal that comes late.
    own, other = free_ports(2)
    launcher = launch(
        *(f"--hosts=127.0.0.1:{own},127.0.0.1:{other}", "--host_index=0", "--max_restarts=9"),
        *("--", *python(code)),
        stderr=subprocess.STDOUT,
    )
    assert "Restart in 25 s" in launcher.read_lines(1)[0]
    launcher.process.send_signal(number)
    ended, output, _ = launcher.finish()
    assert ended == status
    assert output.startswith(f"tfscale launch: {signal.Signals(number).name} received; ")


@pytest.mark.parametrize(("statuses", "status"), [((42, 42), 42), ((42, 0), 143)])
def test_a_job_that_has_saved_after_sigterm_says_so_and_is_not_restarted(
    launch: Launch, python: Python, statuses: tuple[int, int], status: int
) -> None:
    code = TASK + (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "print('ready', flush=True); signal.sigwait([signal.SIGTERM]); print('saved')\n"
        f"sys.exit({statuses!r}[index])"
    )
    launcher = launch(
        *("--num_workers=2", "--max_restarts=9", "--grace_seconds=60", "--"), *python(code)
    )
    launcher.read_lines(2)
    launcher.process.send_signal(signal.SIGTERM)
    ended, output, errors = launcher.finish()
    assert ended == status
    assert sorted(output.splitlines()) == ["[worker 0] saved", "[worker 1] saved"]
    assert ("all saved" in errors) is (status == 42)
    assert "Restart" not in errors


def test_a_signal_while_a_failed_job_is_ended_means_no_restart(
    launch: Launch, python: Python, tmp_path: Path
) -> None:
    fifo = tmp_path / "worker 0 waits for SIGTERM"
    os.mkfifo(fifo)
    code = TASK + (
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        f"if index: open({str(fifo)!r}).read(); sys.exit(3)\n"
        f"open({str(fifo)!r}, 'w').close()\n"
        "signal.sigwait([signal.SIGTERM]); print('is ended', flush=True); signal.pause()"
    )
    launcher = launch(
        *("--num_workers=2", "--grace_seconds=600", "--max_restarts=9", "--"), *python(code)
    )
    assert launcher.read_lines(1) == ["[worker 0] is ended"]
    launcher.process.send_signal(signal.SIGTERM)
    status, _, errors = launcher.finish()
    assert status == 3
    assert errors.endswith("the whole job was ended; not restarted: SIGTERM was received.\n")


def test_a_launcher_killed_after_a_restart_leaves_nothing(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    code = TASK + (
        "if not restart: sys.exit(1)\n"
        "print(os.getpid(), flush=True)\n"
        "subprocess.Popen([sys.executable, '-S', '-c', "
        "'import os, signal; print(os.getpid(), flush=True); signal.pause()']); signal.pause()"
    )
    launcher = launch("--num_workers=1", "--max_restarts=1", "--", *python(code))
    pids = launcher.read_pids(2)
    launcher.process.kill()
    for pid in pids:
        until_gone(pid)


def test_every_start_of_every_worker_has_a_log(
    launch: Launch, python: Python, tmp_path: Path
) -> None:
    logs = tmp_path / "made" / "here"
    code = TASK + (
        "print('worker', index, 'start', restart); sys.stdout.write('1/2\\r2/2')\n"
        "sys.exit(0 if restart or not index else 9)"
    )
    flags = ["--num_workers=2", "--max_restarts=1", "--grace_seconds=30", f"--log_dir={logs}"]
    status, output, _ = launch(*flags, "--", *python(code)).finish()
    assert status == 0
    assert {path.name for path in logs.iterdir()} == {
        f"worker-{worker}.attempt-{start}.log" for worker in range(2) for start in range(2)
    }
    for start in range(2):
        # Worker 0 of the first start may have been ended before it wrote anything.
        for worker in range(1 if start == 0 else 0, 2):
            log = logs / f"worker-{worker}.attempt-{start}.log"
            assert log.read_text() == f"worker {worker} start {start}\n2/2\n"
            assert f"[worker {worker}] worker {worker} start {start}\n" in output
    before = (logs / "worker-1.attempt-0.log").read_text()
    launch("--num_workers=2", f"--log_dir={logs}", "--", *python("print('again')")).finish()
    assert (logs / "worker-1.attempt-0.log").read_text() == before + "again\n"


def test_a_full_disk_under_the_logs_ends_the_job(
    launch: Launch, python: Python, tmp_path: Path
) -> None:
    log = tmp_path / "worker-0.attempt-0.log"
    flags = ["--num_workers=1", "--max_restarts=9", f"--log_dir={tmp_path}"]
    code = "import signal; print('a line', flush=True); signal.pause()"
    # The limit on the size of a file stands in for a full disk.
    kind = "resource.RLIMIT_FSIZE"
    small = f"resource.setrlimit({kind}, (3, resource.getrlimit({kind})[1]))"
    launcher = launch(*flags, "--", *python(code), before=small)
    status, _, errors = launcher.finish()
    assert status == 1
    assert errors == (
        f"tfscale launch: output cannot be written ({log}: File too large); "
        "the whole job was ended.\n"
    )


@pytest.mark.parametrize(
    ("log_dir", "reason"),
    [("/dev/null", "File exists"), ("{}/file", "File exists"), ("{}/file/x", "Not a directory")],
)
def test_a_log_folder_that_is_none_is_refused_before_a_worker_starts(
    launch: Launch, python: Python, tmp_path: Path, log_dir: str, reason: str
) -> None:
    (tmp_path / "file").write_text("mine")
    log_dir = log_dir.format(tmp_path)
    flags = ["--num_workers=1", f"--log_dir={log_dir}"]
    status, output, errors = launch(*flags, "--", *python("print('started')")).finish()
    assert (status, output) == (2, "")
    assert errors == (
        "tfscale launch: `log_dir` must be a folder that this process can write to. Received: "
        f"log_dir={log_dir!r} ({reason}). Choose another folder.\n"
    )
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_a_log_is_added_to_a_file_and_to_nothing_else(
    launch: Launch, python: Python, tmp_path: Path, kind: str
) -> None:
    log = tmp_path / "worker-0.attempt-0.log"
    mine = tmp_path / "mine"
    mine.write_text("mine")
    match kind:
        case "link":
            log.symlink_to(mine)
        case "FIFO":
            os.mkfifo(log)  # whose opening would wait for a reader
        case "folder":
            log.mkdir()
    flags = ["--num_workers=1", f"--log_dir={tmp_path}"]
    status, output, errors = launch(*flags, "--", *python("print('started')")).finish()
    assert (status, output) == (1, "")
    assert errors.startswith("tfscale launch: the job could not be started: ")
    assert f"it is a {kind}" in errors
    assert str(log) in errors
    assert errors.count("\n") == 1
    assert mine.read_text() == "mine"


def test_a_secret_in_a_flag_that_is_unknown_is_not_printed(launch: Launch) -> None:
    status, _, errors = launch("--num_workers=1", "--api_token=abc", "--", "true").finish()
    assert status == 2
    assert "unknown arguments: --api_token=***." in errors


def test_the_deadline_for_the_start_reaches_the_workers(launch: Launch, python: Python) -> None:
    code = "import json, os; print(json.dumps(os.environ['TFSCALE_START_SECONDS']))"
    _, output, _ = launch("--num_workers=1", "--start_seconds=90", "--", *python(code)).finish()
    assert float(json.loads(output.removeprefix("[worker 0] "))) == 90.0


def test_the_outcome_counts_the_restarts(
    python: Python, capsys: pytest.CaptureFixture[str]
) -> None:
    output = io.BytesIO()
    code = TASK + "print(restart); sys.exit(0 if restart else 1)"
    outcome = launch_local_workers(python(code), 1, max_restarts=1, output=output)
    assert outcome == Outcome(restarts=1)
    assert outcome.status == 0
    assert output.getvalue() == b"[worker 0] 0\n[worker 0] 1\n"
    assert "Restart in 1 s" in capsys.readouterr().err


def test_a_job_keeps_its_name_over_restarts_and_another_job_has_another(python: Python) -> None:
    code = (
        "import os, sys; print(os.environ['TFSCALE_JOB_ID'], flush=True); "
        "sys.exit(int(os.environ['TFSCALE_RESTART'] == '0'))"
    )
    names = []
    for _ in range(2):
        output = io.BytesIO()
        launch_local_workers(python(code), num_workers=1, max_restarts=1, output=output)
        names.append(set(output.getvalue().decode().replace("[worker 0] ", "").split()))
    assert [len(of_job) for of_job in names] == [1, 1]
    assert names[0] != names[1]
