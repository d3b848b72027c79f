"""Jobs that the tests submit and watch, by `tfscale launch` and `tfscale jobs` as users do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines.slurm.cluster import SlurmCluster
from tests.programs import ROOT
from tests.waiting import until

PATIENCE = 900.0
TRAINING = ("python", "-m", "tests.engines.slurm.training")


def weights(folder: Path) -> list[np.ndarray]:
    """Returns the weights that a training has left in its folder."""
    with np.load(folder / "weights.npz") as found:
        return [found[name] for name in found.files]


class Jobs:
    """Submits and watches jobs of one cluster.

    Args:
        slurm: The cluster.
        folder: For the records of the jobs. Exists.
    """

    def __init__(self, slurm: SlurmCluster, folder: Path) -> None:
        self._slurm = slurm
        self.folder = folder

    def tfscale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `tfscale ARGUMENTS...`."""
        return subprocess.run(
            (sys.executable, "-m", "tfscale", *arguments),
            cwd=self.folder,
            env={
                **self._slurm.environment,
                # As after `activate`: the commands of the jobs begin with "python".
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TFSCALE_JOBS_DIR": str(self.folder / "jobs"),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",
                "PYTHONPATH": str(ROOT),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def submit(self, *arguments: str) -> str:
        """Runs `tfscale launch --engine=slurm ARGUMENTS...` and returns the id of the job."""
        done = self.tfscale("launch", "--engine=slurm", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def record(self, job: str) -> dict[str, Any]:
        """Returns the record of a job."""
        found = json.loads((self.folder / "jobs" / job / "job.json").read_text())
        assert isinstance(found, dict)
        return found

    def status(self, job: str) -> dict[str, Any]:
        """Returns what `tfscale jobs status --json` says."""
        done = self.tfscale("jobs", "status", job, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def wait(self, job: str, *, state: str = "succeeded") -> dict[str, Any]:
        """Waits until a job is over, and requires how."""

        def is_over() -> dict[str, Any] | None:
            found = self.status(job)
            ends = ("succeeded", "failed", "stopped", "unknown")
            return found if found["state"] in ends else None

        found: dict[str, Any] = self.until(is_over, f"the end of {job}", job)
        assert found["state"] == state, f"{found}\n{self.output(job)}"
        return found

    def log(self, job: str, name: str) -> str:
        """Returns the text of a log of a job, empty if there is none yet."""
        path = self.folder / "jobs" / job / "logs" / name
        return path.read_text() if path.exists() else ""

    def until_printed(self, job: str, text: str, name: str = "worker-0.attempt-0.log") -> None:
        """Waits until a log of a job has a text."""
        self.until(lambda: text in self.log(job, name), f"{text!r} in {name}", job)

    def until(self, is_so: Callable[[], Any], what: str, job: str) -> Any:
        """Waits until something is true, and returns it."""
        return until(is_so, PATIENCE, lambda: f"waited for {what}: {self.output(job)}", every=0.2)

    def output(self, job: str) -> str:
        """Returns all that a job has printed, for a failed test."""
        logs = sorted((self.folder / "jobs" / job / "logs").rglob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in logs)
