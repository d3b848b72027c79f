"""Program: stands for a program that runs in a fork of `tests/fork_server.py`.

    python -I -S tests/forked.py SOCKET PROGRAM ARGUMENTS...

PROGRAM is a path, or `-m` or `-c`, as of `python`. The program has this process's streams,
variables and folder, and gets its signals, SIGKILL too; this process ends as it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)


def main() -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])

    def pass_on(number: int, _: Any) -> None:
        with contextlib.suppress(OSError):  # the program has ended, and its status is here
            connection.sendall(bytes([number]))

    heard = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    request = {
        "command": sys.argv[2:],
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "ignored": [number for number in PASSED_ON if number not in heard],
    }
    data = json.dumps(request).encode()
    signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # the request comes before any of them
    socket.send_fds(connection, [len(data).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(data)
    for number in heard:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
    try:
        status = int(connection.recv(16) or -signal.SIGKILL)
    except ConnectionError:  # the server has ended
        status = -signal.SIGKILL
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
