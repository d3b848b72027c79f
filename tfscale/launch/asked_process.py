"""A process that is asked one thing: the request and the answer are files of JSON.

    with asked_process("tfscale.find.batch_probe", request, environment) as asked:
        asked.process.wait(60)
    asked.answer         # None if the process has written none
    asked.last_lines     # of its standard error

It is killed with this process, which may be killed at any time, and at the end of the block. If
this process is a worker of a cluster, the new one is not, unless it is told to be that worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategies.extension import EXIT_REASON_VARIABLE, environment_of_one_process
from tfscale.launch import exec_tied

_LAST_LINES = 3
_OWN_REPORTS = (EXIT_REASON_VARIABLE, "TFSCALE_TRIAL")  # of a worker; of a trial of a sweep
"""Files that this process writes about itself, which another one would overwrite."""


@dataclass
class AskedProcess:
    """A process that was asked.

    Attributes:
        process: The process.
        answer: After the block: what it has written, or None.
        last_lines: After the block: the end of its standard error.
    """

    process: subprocess.Popen[bytes]
    answer: dict[str, Any] | None = None
    last_lines: str = ""


@contextlib.contextmanager
def asked_process(
    module: str,
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    has_cluster: bool = False,
) -> Iterator[AskedProcess]:
    """Starts a module that takes two files: the request, and where it writes the answer.

    Args:
        module: It imports what this process imports, also from the current folder.
        request: JSON values by name.
        environment: Of the process, but for PYTHONPATH, and without what makes a worker of it.
        has_cluster: Whether it is this worker of the cluster, whose variables it then has.
    """
    kept = dict(environment) if has_cluster else environment_of_one_process(environment)
    for own in _OWN_REPORTS:
        kept.pop(own, None)
    with tempfile.TemporaryDirectory(prefix="tfscale-") as folder:
        request_file, answer_file, errors = (
            Path(folder, name) for name in ("request.json", "answer.json", "stderr")
        )
        request_file.write_text(json.dumps(request), "utf-8")
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", exec_tied.__file__, str(os.getpid())),
                    *(sys.executable, "-m", module, str(request_file), str(answer_file)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
        asked = AskedProcess(process)
        try:
            yield asked
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if answer_file.exists():
            asked.answer = json.loads(answer_file.read_text("utf-8"))
        lines = errors.read_text("utf-8", "replace").splitlines()
        asked.last_lines = " ".join(line.strip() for line in lines[-_LAST_LINES:])


def files_of_request() -> tuple[dict[str, Any], Path]:
    """Returns the request that this process was asked, and the file for its answer."""
    request, answer = map(Path, sys.argv[1:])
    return json.loads(request.read_text("utf-8")), answer


def write_answer(file: Path, answer: Mapping[str, Any]) -> None:
    """Writes the answer, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(answer), "utf-8")
    part.replace(file)
