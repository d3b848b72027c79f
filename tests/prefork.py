"""Runs modules as `python -m` does, from a process that has imported what they need.

    with contextlib.closing(Prefork("tensorflow", "keras")) as prefork:
        status = prefork.run("pytest", "tests/unit/test_mine.py", stdout=path, stderr=path)

Importing TensorFlow and Keras takes some seconds of processor time, and a fork does not.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path

from tests.programs import ROOT, started_server


class Prefork:
    """A process that is forked for each module. It starts with the first one.

    Args:
        *imported: Modules that it imports at its start.
    """

    def __init__(self, *imported: str) -> None:
        self._imported = imported
        self._server: subprocess.Popen[str] | None = None

    def run(
        self,
        module: str,
        *arguments: str,
        stdout: Path,
        stderr: Path,
        cwd: Path = ROOT,
        seconds: float = 240,
        **variables: str,
    ) -> int:
        """Runs a module to its end. Returns its exit status, negative for a signal.

        Args:
            module: What follows `python -m`.
            *arguments: What follows the module.
            stdout: File to which its standard output is appended.
            stderr: File to which its standard error is appended; may be the same.
            cwd: Its working directory.
            seconds: Deadline.
            **variables: Added to its environment.

        Raises:
            TimeoutError: If it does not end in time. It is killed then.
        """
        if self._server is None:
            self._server = self._started()
        assert self._server.stdin is not None
        request = {
            "module": module,
            "argv": arguments,
            "env": variables,
            "cwd": str(cwd),
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._answer(self._server, seconds))

    def close(self) -> None:
        """Ends the process, and the module that runs, if any."""
        if self._server is not None:
            os.killpg(self._server.pid, 9)  # a module that runs belongs to the same group
            self._server.communicate()
            self._server = None

    def _started(self) -> subprocess.Popen[str]:
        server = started_server("tests.prefork_server", *self._imported)
        assert self._answer(server, 240) == "ready"
        return server

    def _answer(self, server: subprocess.Popen[str], seconds: float) -> str:
        assert server.stdout is not None
        if not select.select([server.stdout], [], [], seconds)[0]:
            self.close()
            raise TimeoutError(f"a module did not end within {seconds:g} s")
        return server.stdout.readline().strip()
