"""Starts a program in a separate Python process, outside any cluster, and reads what it prints."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAST_SECONDS = 240.0
"""The shortest deadline of a program: on a machine that does much else, Python itself is slow."""
END_SECONDS = 120.0
"""How long a program may take to exit after its output has ended, or after SIGTERM."""


def own_environment(**added: str) -> dict[str, str]:
    """Returns this process's variables without its cluster, plus the ones that are added.

    The width of a terminal, which shells may export, would change the lines of a help page.
    """
    left_out = ("TF_CONFIG", "TFSCALE_RESTART", "COLUMNS")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**inherited, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), **added}


_STARTING = threading.Lock()


def _fork_server() -> str:
    with _STARTING:
        return _started_fork_server()


@functools.cache
def _started_fork_server() -> str:
    """Starts `tests/fork_server.py` and returns its socket; it ends with this process."""
    path = str(Path(tempfile.mkdtemp(prefix="forks-")) / "socket")
    server = started_server("tests.fork_server", path)
    assert server.stdout is not None
    atexit.register(server.communicate)  # its standard input ends, and so does it
    assert server.stdout.readline() == "ready\n"
    return path


def forked(*command: str) -> tuple[str, ...]:
    """Returns the command of a program that does not import TensorFlow again, which takes 4 s.

    It is a process of its own, forked from one that has imported TensorFlow and Keras but started
    neither, with the variables, streams, signals and exit status of `python COMMAND...`. Use plain
    `python` where the start of Python, the import of Keras or its backend is what a test looks at:

        completed(*forked("-m", "tests.workers.agreement", folder, "stock"), timeout=60)
        run_program(*launch, sys.executable, *forked(PROGRAM, folder), timeout=60)

    Args:
        *command: What follows the interpreter: a path, or `-m` or `-c`, and arguments.

    Returns:
        What follows the interpreter instead.
    """
    return ("-I", "-S", str(Path(__file__).with_name("forked.py")), _fork_server(), *command)


def prepared(statement: str, *command: str) -> list[str]:
    """Returns the command of a process that runs a statement of Python and then another program.

    Not `preexec_fn`, for which Python forks: where a test has imported gRPC, its threads begin once
    more in the child, whose descriptors are being closed, and abort it
    (https://github.com/grpc/grpc/pull/43157).

    Example:
        >>> prepared("signal.signal(signal.SIGINT, signal.SIG_IGN)", "python", "train.py")[-2:]
        ['python', 'train.py']
    """
    whole = f"import os, resource, signal, sys; {statement}; os.execvp(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-S", "-c", whole, *command]


def completed(*command: str, timeout: float, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `python COMMAND...` and returns how it ended.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, in seconds; `LEAST_SECONDS` if that is longer.
        **variables: Added to its environment.
    """
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=own_environment(**variables),
        capture_output=True,
        text=True,
        timeout=max(timeout, LEAST_SECONDS),
        check=False,
    )


def run_program(*command: str, timeout: float, **variables: str) -> str:
    """Runs `python COMMAND...`, which must succeed; returns all that it printed.

    Args:
        *command: What follows the interpreter.
        timeout: Deadline, as of `completed`.
        **variables: Added to its environment.
    """
    done = completed(*command, timeout=timeout, **variables)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-8000:]
    return printed


def started(*command: str, **variables: str) -> subprocess.Popen[str]:
    """Starts `python COMMAND...` in a new session; its output and its errors are one pipe.

    Args:
        *command: What follows the interpreter.
        **variables: Added to its environment.
    """
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=own_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def started_server(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Starts `python -m MODULE ARGUMENTS...` in a new session, with pipes to it and from it."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=own_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines_of(process: subprocess.Popen[str], seconds: float) -> Iterator[str]:
    """Yields the lines of a started program as they come, and waits until it has exited.

    Args:
        process: See `started`.
        seconds: Deadline, after which SIGTERM ends the program: a launcher then ends its workers.
    """
    assert process.stdout is not None
    deadline = threading.Timer(seconds, process.terminate)
    deadline.daemon = True
    deadline.start()
    try:
        yield from process.stdout
    finally:
        deadline.cancel()
    process.wait(END_SECONDS)
