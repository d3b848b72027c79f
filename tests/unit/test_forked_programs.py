"""A program in a fork ends and prints as one that `python` starts itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.programs import END_SECONDS, completed, forked, prepared, started
from tests.waiting import until

SAYS_WHERE = "import os, sys; print(sys.argv, os.environ['OF_TEST'], os.getcwd(), __name__)"
PROGRAMS = {
    "arguments, variables and folder": SAYS_WHERE,
    "an exit status": "import sys; sys.exit(42)",
    "a text as the status": "import sys; sys.exit('a reason')",
    "at exit": "import atexit; atexit.register(print, 'last'); print('first')",
    "a thread that goes on": (
        "import threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()"
    ),
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "an abort": "import os; print('lost'); os.abort()",
    "standard input": "import sys; print(sys.stdin.read())",
    "no standard output": "import os; os.close(1); print('lost')",
}


def ends(*command: str) -> tuple[int, str, str]:
    done = completed(*command, timeout=240, OF_TEST="x = 1")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_ends_as_it_does_in_python(code: str) -> None:
    found, wanted = ends(*forked("-c", code, "an argument")), ends("-c", code, "an argument")
    assert found[:2] == wanted[:2], found
    assert found[2].splitlines()[-1:] == wanted[2].splitlines()[-1:]


def test_an_error_has_the_last_lines_of_python(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def divide():\n    return 1 / 0\n\nprint(__file__)\ndivide()\n")
    found, wanted = ends(*forked(str(program))), ends(str(program))
    assert found[:2] == wanted[:2]
    assert found[2].splitlines()[-6:] == wanted[2].splitlines()[-6:]
    assert "ZeroDivisionError" in found[2]


def test_a_module_is_the_main_program() -> None:
    found, wanted = (ends(*how("-m", "json.tool", "-h")) for how in (forked, lambda *all_: all_))
    assert found == wanted


def test_tensorflow_is_imported_and_not_started() -> None:
    code = (
        "import sys; print('tensorflow' in sys.modules, 'strategies' in sys.modules)\n"
        "import tensorflow as tf; tf.config.set_logical_device_configuration(\n"
        "    tf.config.list_physical_devices('CPU')[0],\n"
        "    [tf.config.LogicalDeviceConfiguration()] * 3)\n"
        "print(len(tf.config.list_logical_devices('CPU')))"
    )
    assert ends(*forked("-c", code))[:2] == (0, "True False\n3\n")


def test_processes_draw_different_numbers() -> None:
    code = "import random, numpy as np; print(random.random(), np.random.random())"
    assert ends(*forked("-c", code))[1] != ends(*forked("-c", code))[1]


def test_lines_come_at_once_where_python_is_not_to_buffer_them() -> None:
    code = "print('here'); import time; time.sleep(600)"
    process = started(*forked("-c", code), PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.wait(END_SECONDS)


WAITS = (
    "import os, signal, sys, time\n"
    "def said(number, frame):\n"
    "    print(signal.Signals(number).name, flush=True)\n"
    "    sys.exit(3)\n"
    "signal.signal(signal.SIGTERM, said)\n"
    "print(os.getpid(), flush=True)\n"
    "time.sleep(600)"
)


def test_a_signal_is_passed_on() -> None:
    process = started(*forked("-c", WAITS))
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.communicate(timeout=END_SECONDS)[0] == "SIGTERM\n"
    assert process.returncode == 3


def test_a_program_is_killed_with_the_process_that_stands_for_it() -> None:
    process = started(*forked("-c", WAITS))
    assert process.stdout is not None
    number = int(process.stdout.readline())
    process.kill()
    assert process.wait(END_SECONDS) == -signal.SIGKILL
    end = time.monotonic() + END_SECONDS
    while Path(f"/proc/{number}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("is_ignored", [False, True])
def test_ctrl_c_is_ignored_where_the_program_is_to_ignore_it(is_ignored: bool) -> None:
    code = (
        "try:\n    print('up', flush=True)\n    input()\n    print('went on')\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)"
    )
    handler = "SIG_IGN" if is_ignored else "SIG_DFL"
    process = subprocess.Popen(
        prepared(
            f"signal.signal(signal.SIGINT, signal.{handler})",
            sys.executable,
            *forked("-c", code),
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    if not is_ignored:
        assert process.stdout.readline() == "interrupted\n"
    rest = process.communicate("\n", timeout=END_SECONDS)[0]
    assert rest == ("went on\n" if is_ignored else "")


def test_a_client_that_is_killed_before_its_request_keeps_no_other_waiting() -> None:
    command = forked("-c", "print('served')")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(command[3])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(command[3])
        socket.send_fds(client, [b"\0" * 7 + b"9"], [0, 1, 2])
    assert ends(*command) == (0, "served\n", "")


def test_a_signal_that_comes_after_the_end_changes_no_status(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        program = Path(__file__).parents[1] / "forked.py"
        command = [sys.executable, "-I", "-S", str(program), str(tmp_path / "socket"), "-c", ""]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        connection, _ = server.accept()
        with connection:
            head, files, _, _ = socket.recv_fds(connection, 8, 3)
            for file in files:
                os.close(file)
            connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            status = Path(f"/proc/{process.pid}/status")
            until(lambda: _handles_sigterm(status.read_text()), 60, status.read_text)
            process.send_signal(signal.SIGSTOP)
            until(lambda: "State:\tT" in status.read_text(), 60, status.read_text)
            connection.sendall(b"7")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 7)


def _handles_sigterm(status: str) -> bool:
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    of_sigterm = 1 << (signal.SIGTERM - 1)
    blocked, caught = (int(fields[name], 16) for name in ("SigBlk", "SigCgt"))
    return bool(caught & of_sigterm) and not blocked & of_sigterm
