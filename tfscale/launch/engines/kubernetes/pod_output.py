"""Program: runs a command as first process of a container, and keeps its output in a file.

    python -m tfscale.launch.engines.kubernetes.pod_output FILE -- COMMAND [ARGUMENT ...]

Kubernetes keeps the output of a container no longer than its pod, which a restart of the job
deletes. So it is also appended to a file in a volume. Signals go to the command, and the status is
the command's: 128 + s if signal s ended it. It also collects orphans, as the first process must.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from tfscale.files.output_files import open_log

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CHUNK = 65_536
# What the command started may keep its output open after it has ended.
_LAST_OUTPUT_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Runs the command and returns its status.

    Args:
        arguments: FILE, "--", and the command.
    """
    path, separator, *command = arguments
    if separator != "--" or not command:
        raise SystemExit(f"FILE -- COMMAND must be given. Received: {arguments!r}.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open_log(path) as log:
        read_end, write_end = os.pipe()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
        process = subprocess.Popen(
            command,
            stdout=write_end,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, blocked),
        )
        for number in _FORWARDED:
            signal.signal(number, lambda received, _: _forward(process.pid, received))
        os.close(write_end)
        relay = threading.Thread(target=_relay, args=(read_end, log), daemon=True)
        relay.start()  # it does not get the signals, which would not end the wait below
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        status = _status_of(process.pid)
        relay.join(_LAST_OUTPUT_SECONDS)
        return status if status >= 0 else 128 - status


def _forward(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _status_of(process: int) -> int:
    """Waits for a process, collecting all others that end."""
    while True:
        ended, status = os.wait()
        if ended == process:
            return os.waitstatus_to_exitcode(status)


def _relay(read_end: int, log: BinaryIO) -> None:
    """Copies output to standard output and to the log, until its writers have ended."""
    complained = False
    while chunk := os.read(read_end, _CHUNK):
        rest = memoryview(chunk)
        while rest:  # a signal may end a write early
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
        try:
            log.write(chunk)
            log.flush()
        except OSError as error:  # training goes on without its log
            if not complained:
                print(f"tfscale: {log.name} could not be written: {error.strerror}.", flush=True)
            complained = True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
