"""Program: forks once for each program that `tests/forked.py` sends, after importing TensorFlow.

Usage: python -m tests.fork_server SOCKET. It says "ready" when it listens, and ends, with all that
it has forked, when its standard input ends. TensorFlow is imported, but not started, so that a fork
is safe. It is frozen too, see `gc.freeze`: the garbage collector of a program looks at the objects
of that program only. See `tests.programs.forked`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import keras  # noqa: F401  (imported for the programs)
import numpy as np
import tensorflow as tf  # noqa: F401  (imported for the programs)

_READ_SECONDS = 60.0
"""How long a client may take to send its request: it has it when it connects."""


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Returns a request and the client's three streams."""
    connection.settimeout(_READ_SECONDS)
    head, files, _, _ = socket.recv_fds(connection, 8, 3)
    try:
        head += exactly(connection, 8 - len(head))
        data = exactly(connection, int.from_bytes(head, "big"))
    except OSError:
        for given in files:
            os.close(given)
        raise
    connection.settimeout(None)
    return json.loads(data), files


def exactly(connection: socket.socket, size: int) -> bytes:
    """Returns so many bytes; raises if a client that was killed has sent fewer."""
    data = b""
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionError("the client ended while it sent its request")
        data += part
    return data


def serve(listener: socket.socket) -> dict[str, Any]:
    """Forks for each request. Returns it in the child, and never in the server."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for file in (listener, woken, sys.stdin.fileno()):
        selector.register(file, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                try:
                    request, files = received(connection)
                except OSError:  # a client that was killed
                    connection.close()
                    continue
                with warnings.catch_warnings():
                    # Python 3.12 warns of a fork while threads are alive, and NumPy has some.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    selector.close()
                    for open_file in (woken, wake):
                        os.close(open_file)
                    for each in (listener, connection, *children.values()):
                        each.close()
                    os.setsid()
                    for number, given in enumerate(files):
                        os.dup2(given, number)
                        os.close(given)
                    return request
                for given in files:
                    os.close(given)
                children[pid] = connection
                selector.register(connection, selectors.EVENT_READ, pid)
            elif key.fileobj == woken:
                os.read(woken, 4096)
                for pid, status in ended(children):
                    connection = children.pop(pid)
                    selector.unregister(connection)
                    with contextlib.suppress(OSError):  # the client was killed
                        connection.sendall(str(status).encode())
                    connection.close()
            elif key.data is None:  # standard input has ended
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                shutil.rmtree(Path(sys.argv[1]).parent)
                os._exit(0)
            elif key.data in children:
                pass_on(children[key.data], key.data)


def ended(children: dict[int, socket.socket]) -> list[tuple[int, int]]:
    """The children that have ended, with their exit status, negative for a signal."""
    found = []
    for pid in children:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def pass_on(connection: socket.socket, pid: int) -> None:
    """Sends a child the signals that its client got; SIGKILL if that is gone."""
    try:
        numbers = connection.recv(64)
    except OSError:
        numbers = b""
    for number in numbers or bytes([signal.SIGKILL]):
        os.kill(pid, number)


def run(request: dict[str, Any]) -> None:
    """Runs a program as `python` does, in the child."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb", closefd=False))
    output = os.fdopen(1, "wb", buffering=0 if is_unbuffered else -1, closefd=False)
    sys.stdout = io.TextIOWrapper(output, write_through=is_unbuffered)
    errors = os.fdopen(2, "wb", closefd=False)
    sys.stderr = io.TextIOWrapper(errors, errors="backslashreplace", line_buffering=True)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    np.random.seed()  # as after an import: each process draws a state of its own
    program, *arguments = request["command"]
    if program == "-m":
        module, *arguments = arguments
        sys.argv = ["-m", *arguments]
        sys.path[0] = request["cwd"]
        runpy._run_module_as_main(module)  # type: ignore[attr-defined]
        return
    main = types.ModuleType("__main__")
    if program == "-c":
        text, *arguments = arguments
        sys.path[0], name = "", "<string>"
    else:
        text, name = Path(program).read_text("utf-8"), program
        sys.path[0], main.__file__ = str(Path(program).resolve().parent), program
    sys.modules["__main__"] = main
    sys.argv = [program, *arguments]
    exec(compile(text, name, "exec"), vars(main))


def main() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    gc.freeze()
    print("ready", flush=True)
    run(serve(listener))


if __name__ == "__main__":
    main()
