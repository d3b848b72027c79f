"""Program: runs `tfscale launch` of a job's folder in the background.

    python -m tfscale.launch.engines.background_process FOLDER

It starts itself again in a session of its own and prints that process's id. The second one runs the
command line of the folder and writes how it ended.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from strategies.extension import JOB_VARIABLE, Deadline
from tfscale.files.output_files import write_whole
from tfscale.launch.engines.in_background import (
    EXIT_FILE,
    LAUNCHER_LOG,
    PROCESS_FILE,
    RUN_FILE,
    start_of,
)

_START_SECONDS = 50.0  # less than the deadline of a tool of an engine

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Starts the background process, or is it."""
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["--run"]:
        return _run(folder)
    with (folder / LAUNCHER_LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(folder), "--run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Its file first: a program that reads the id may ask for the job's state at once.
    deadline = Deadline(_START_SECONDS)
    while True:
        has_ended = process.poll() is not None  # before the look: a short job has a file, too
        if (folder / PROCESS_FILE).exists():
            print(process.pid)
            return 0
        if has_ended or deadline.is_over():
            process.kill()
            late = "" if has_ended else f"it has not started within {_START_SECONDS:g} s\n"
            print(late + (folder / LAUNCHER_LOG).read_text(errors="replace"), file=sys.stderr)
            return 1
        time.sleep(0.02)


def _run(folder: Path) -> int:
    status = 1
    try:
        try:
            # Until the launcher handles signals itself, one ends this process in order. The first
            # may come as soon as the file of this process is there.
            for number in _SIGNALS:
                signal.signal(number, lambda number, _: sys.exit(128 + number))
            _launch(folder)
        finally:  # nothing interrupts the record of the end
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        said = _last_line(folder / LAUNCHER_LOG)
        if not status and "succeeded" not in said:
            said = ""  # a notice, such as of a worker that was stopped for a while
        ended = {"status": status, "said": said}
        write_whole(folder / EXIT_FILE, json.dumps(ended) + "\n")
    return status


def _launch(folder: Path) -> None:
    pid = os.getpid()
    place = {"pid": pid, "start": start_of(pid), "host": socket.gethostname()}
    write_whole(folder / PROCESS_FILE, json.dumps(place) + "\n")
    values = json.loads((folder / RUN_FILE).read_text("utf-8"))
    os.chdir(values["folder"])
    os.environ[JOB_VARIABLE] = values["job_id"]
    # The log files of the tasks have what the launcher would print for them.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    sys.argv = ["tfscale", *values["tfscale"]]
    runpy.run_module("tfscale", run_name="__main__", alter_sys=True)


def _last_line(log: Path) -> str:
    sys.stderr.flush()
    lines = log.read_text("utf-8", "replace").splitlines()
    said = [line for line in lines if line.startswith("tfscale ")]
    return said[-1].partition(": ")[2] if said else ""


if __name__ == "__main__":
    sys.exit(main())
