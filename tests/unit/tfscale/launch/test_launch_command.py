from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tfscale.launch import command

Launch = Callable[..., Any]
Python = Callable[..., list[str]]
UntilGone = Callable[[int], None]

REPORT_PID = "import os, signal, subprocess, sys; print('ready', os.getpid(), flush=True); "


def test_status_and_reason_are_the_first_failures(launch: Launch, python: Python) -> None:
    code = (
        "import json, os, signal, sys; "
        "sys.exit(7) if json.loads(os.environ['TF_CONFIG'])['task']['index'] else signal.pause()"
    )
    status, output, errors = launch("--num_workers=2", "--", *python(code)).finish()
    assert status == 7
    assert output == ""
    assert re.fullmatch(
        r"tfscale launch: worker 1 failed first: exit status 7 after \d+\.\d s; "
        r"ending the others within 10 s\.\n"
        r"tfscale launch: worker 1 failed first: exit status 7 after \d+\.\d s; "
        r"the whole job was ended\.\n",
        errors,
    )


def test_only_the_last_line_has_the_cause(launch: Launch, python: Python) -> None:
    code = (
        "import json, os, signal, sys\n"
        "if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 0: signal.pause()\n"
        "reason = {'why': 'ValueError: a row of letters', 'is_own': True, 'at_fault': ''}\n"
        "with open(os.environ['TFSCALE_EXIT_REASON'], 'w') as file: json.dump(reason, file)\n"
        "sys.exit(1)"
    )
    _, _, errors = launch("--num_workers=2", "--", *python(code)).finish()
    first, last = errors.splitlines()
    assert first.endswith(" s; ending the others within 10 s.")
    assert last.endswith(" s (ValueError: a row of letters); the whole job was ended.")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_is_passed_on_and_leaves_nothing(
    launch: Launch, python: Python, until_gone: UntilGone, number: int, status: int
) -> None:
    code = (
        "import os, signal\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\n"
        "print('ready', os.getpid(), flush=True)\n"
        f"print('got', int(signal.sigwait([{int(number)}])))"
    )
    launcher = launch("--num_workers=2", "--grace_seconds=60", "--", *python(code))
    pids = launcher.read_pids(2)
    launcher.process.send_signal(number)
    ended, output, errors = launcher.finish()
    assert ended == status
    assert sorted(output.splitlines()) == [f"[worker {i}] got {int(number)}" for i in range(2)]
    name = signal.Signals(number).name
    assert errors == f"tfscale launch: {name} received; the whole job was ended.\n"
    for pid in pids:
        until_gone(pid)


def test_after_a_signal_the_grace_ends_in_sigkill(launch: Launch, python: Python) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code += REPORT_PID + "signal.pause()"
    launcher = launch("--num_workers=2", "--grace_seconds=0.5", "--", *python(code))
    launcher.read_pids(2)
    started = time.monotonic()
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.finish()[0] == 143
    assert time.monotonic() - started >= 0.5


def test_a_second_ctrl_c_kills_at_once(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    code = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('ready', os.getpid(), flush=True)\n"
        "while signal.sigwait([signal.SIGINT]): print('not yet', flush=True)"
    )
    launcher = launch("--num_workers=2", "--grace_seconds=600", "--", *python(code))
    pids = launcher.read_pids(2)
    launcher.process.send_signal(signal.SIGINT)
    assert sorted(launcher.read_lines(2)) == ["[worker 0] not yet", "[worker 1] not yet"]
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.finish()[0] == 130
    for pid in pids:
        until_gone(pid)


def test_a_signal_to_a_suspended_launcher_is_handled_when_it_goes_on(
    launch: Launch, python: Python
) -> None:
    # Any of its threads, of which each worker has two, may get the signal.
    launcher = launch("--num_workers=6", "--", *python(REPORT_PID + "signal.pause()"))
    launcher.read_pids(6)
    launcher.process.send_signal(signal.SIGSTOP)
    os.waitpid(launcher.process.pid, os.WUNTRACED)  # until all of them have stopped
    launcher.process.send_signal(signal.SIGTERM)
    launcher.process.send_signal(signal.SIGCONT)
    assert launcher.finish()[0] == 143


def test_nohup_survives_the_terminal(launch: Launch, python: Python) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launcher = launch("--num_workers=1", "--", *python(REPORT_PID + "signal.pause()"))
        pid = launcher.read_pids(1)[0]
        launcher.process.send_signal(signal.SIGHUP)
        os.kill(pid, signal.SIGKILL)  # The first failure; SIGHUP would have come before it.
        assert launcher.finish()[0] == 128 + signal.SIGKILL
    finally:
        signal.signal(signal.SIGHUP, before)


# The kernel sends nothing to the worker's child when the launcher dies: the guard has to.
WITH_CHILD = (
    REPORT_PID + "child = subprocess.Popen([sys.executable, '-S', '-c', "
    "'import os, signal; print(os.getpid(), flush=True); signal.pause()']); signal.pause()"
)


def test_a_killed_launcher_leaves_nothing(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    launcher = launch("--num_workers=2", "--", *python(WITH_CHILD))
    pids = launcher.read_pids(4)
    launcher.process.kill()
    for pid in pids:
        until_gone(pid)


def kill_guard(launcher: int, workers: list[int]) -> None:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (guard,) = {int(pid) for pid in children} - set(workers)
    os.kill(guard, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_kernel_kills_the_workers_even_if_the_guard_is_killed_first(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    launcher = launch("--num_workers=2", "--", *python(REPORT_PID + "signal.pause()"))
    pids = launcher.read_pids(2)
    kill_guard(launcher.process.pid, pids)
    launcher.process.kill()
    for pid in pids:
        until_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_job_that_goes_well_does_not_need_the_guard(
    launch: Launch, python: Python, tmp_path: Path
) -> None:
    fifo = tmp_path / "the guard is gone"
    os.mkfifo(fifo)
    code = f"import os; print('ready', os.getpid(), flush=True); print(open({str(fifo)!r}).read())"
    launcher = launch("--num_workers=1", "--", *python(code))
    kill_guard(launcher.process.pid, launcher.read_pids(1))
    fifo.write_text("trained")
    assert launcher.finish() == (0, "[worker 0] trained\n", "")


def test_a_reader_that_goes_away_ends_the_job(
    launch: Launch, python: Python, until_gone: UntilGone
) -> None:
    code = REPORT_PID + "\nwhile True: print('more')"
    launcher = launch("--num_workers=1", "--", *python(code))
    (pid,) = launcher.read_pids(1)
    launcher.process.stdout.close()
    errors = launcher.process.stderr.read().decode()
    assert launcher.process.wait(timeout=120.0) == 1
    assert errors == (
        "tfscale launch: output cannot be written (Broken pipe); the whole job was ended.\n"
    )
    until_gone(pid)


def test_a_reader_that_does_not_read_does_not_stop_sigterm(
    launch: Launch, python: Python, until_gone: UntilGone, tmp_path: Path
) -> None:
    fifo = tmp_path / "the pipe to the reader is full"
    os.mkfifo(fifo)
    # The child blocks on the full pipes; the worker sees that when nothing more is written.
    code = REPORT_PID + (
        "\nimport threading\n"
        "count = 0\n"
        "def write():\n"
        "    global count\n"
        "    while True: print('x' * 1000); count += 1\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "before = -1\n"
        "while count != before or not count: before = count; threading.Event().wait(0.3)\n"
        f"open({str(fifo)!r}, 'w').close(); signal.pause()"
    )
    launcher = launch("--num_workers=1", "--grace_seconds=1", "--", *python(code))
    (pid,) = launcher.read_pids(1)
    fifo.read_text()
    launcher.process.send_signal(signal.SIGTERM)
    assert launcher.process.wait(timeout=120.0) == 143
    until_gone(pid)


def test_two_launchers_at_once_share_no_port(launch: Launch, python: Python) -> None:
    # No process binds its port: only the launchers keep them apart. Both run until both have read.
    code = "import os, signal; print(os.environ['TF_CONFIG'], flush=True); signal.pause()"
    launchers = [launch("--num_workers=2", "--", *python(code)) for _ in range(2)]
    lines = [launcher.read_lines(2) for launcher in launchers]
    clusters = [json.loads(of_one[0][len("[worker 0] ") :])["cluster"] for of_one in lines]
    assert len({address for cluster in clusters for address in cluster["worker"]}) == 4
    for launcher in launchers:
        launcher.process.send_signal(signal.SIGTERM)
        assert launcher.finish()[0] == 143


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_workers=0", "--", "ls"], "must be a positive integer. Received: '0'."),
        (["--num_workers=two", "--", "ls"], "must be a positive integer. Received: 'two'."),
        (["--", "ls"], "the following arguments are required: --num_workers"),
        (["--num_workers=2", "--grace_seconds=-1", "--", "ls"], "Received: '-1'."),
        (["--num_workers=2", "--max_restarts=-1", "--", "ls"], "at least 0. Received: '-1'."),
        (["--num_workers=2", "--start_seconds=0", "--", "ls"], "must be a positive, finite"),
        (["--hosts=a:1,b:1", "--", "ls"], "--hosts and --host_index must be given together"),
        (
            ["--num_workers=2", "--host_index=0", "--", "ls"],
            "must be given together, or neither of them",
        ),
        (["--hosts=a:1,b:1", "--host_index=2", "--", "ls"], "Received: host_index=2."),
        (["--hosts=a:1,b", "--host_index=0", "--", "ls"], "Received: 'b' in hosts="),
        (
            ["--hosts=a:1,a:2", "--host_index=0", "--num_workers=2", "--", "ls"],
            "leave 2 consecutive ports",
        ),
        (["--num_workers=2"], "`--` followed by a command is required"),
        (["--num_workers=2", "--"], "`--` followed by a command is required"),
        (["--num_workers=2", "ls", "-l"], "`--` followed by a command is required"),
        (["--num_workers=2", "--num_servers=1", "--", "ls"], "unknown arguments: --num_servers"),
        (["--num_workers=2", "--num_ps=-1", "--", "ls"], "at least 0. Received: '-1'."),
        (
            ["--num_workers=2", "--", "no-such-program"],
            "'no-such-program', which is neither a file nor a name on PATH.",
        ),
        (["--num_workers=2", "--", "/"], "Received: '/', which is neither a file"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    launch: Launch, arguments: list[str], message: str
) -> None:
    status, output, errors = launch(*arguments).finish()
    assert status == 2
    assert output == ""
    assert errors.startswith("tfscale launch: ")
    assert message in errors
    assert errors.count("\n") == 1
    assert errors.endswith("\n")


@pytest.mark.parametrize(
    ("name", "cure"),
    [("train.py", "Run it with Python: python {}."), ("train", "Run chmod +x {} first.")],
)
def test_a_file_that_is_not_executable_gets_the_cure(
    launch: Launch, tmp_path: Path, name: str, cure: str
) -> None:
    script = tmp_path / name
    script.write_text("print('trained')\n")
    status, _, errors = launch("--num_workers=2", "--", str(script)).finish()
    assert status == 2
    assert errors == (
        "tfscale launch: `command` must begin with a program that can be executed. Received: "
        f"{str(script)!r}, which exists but is not executable. {cure.format(script)}\n"
    )


def test_a_program_that_cannot_start_says_why(launch: Launch, tmp_path: Path) -> None:
    script = tmp_path / "train"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    status, output, _ = launch("--num_workers=1", "--", str(script)).finish()
    assert status == 127
    assert output == (
        f"[worker 0] tfscale launch: cannot run {str(script)!r}: No such file or directory\n"
    )


def test_windows_is_refused_in_a_sentence() -> None:
    code = (
        "import sys; sys.modules.update(fcntl=None, termios=None); import tfscale.launch; "
        "from tfscale.__main__ import main; sys.platform = 'win32'; "
        "sys.exit(main(['launch', '--num_workers=2', '--', 'ls']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(command.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "which Windows does not have. Run it in WSL 2" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_commands_own_dashes_stay(launch: Launch, python: Python) -> None:
    code = "import sys; print(sys.argv[1:])"
    _, output, _ = launch(
        "--num_workers=1", "--", *python(code, "a", "--", "--num_workers=3")
    ).finish()
    assert output == "[worker 0] ['a', '--', '--num_workers=3']\n"


def test_the_first_example_of_the_help_runs(launch: Launch) -> None:
    status, help_text, _ = launch("--help").finish()
    assert status == 0
    example = re.search(r"^  tfscale launch (.*)$", help_text, re.MULTILINE)
    assert example is not None
    status, output, errors = launch(*shlex.split(example[1])).finish()
    assert (status, errors) == (0, "")
    assert sorted(line[:11] for line in output.splitlines()) == ["[worker 0] ", "[worker 1] "]
