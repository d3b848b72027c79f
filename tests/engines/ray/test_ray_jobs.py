"""Jobs of `tfscale launch --engine=ray` on a real Ray cluster of two nodes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.programs import ROOT
from tests.waiting import until
from tfscale.launch.ports import reserve_port

pytestmark = pytest.mark.engines

SECONDS = 600.0
BIN = ROOT / ".venv-engines" / "bin"
PROGRAM = str(ROOT / "tests" / "engines" / "mpi" / "program.py")


class RayCluster:
    """A cluster in a process of its own, because Ray is in an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with reserve_port() as port:
            number = port.number
        self._process = subprocess.Popen(
            [
                str(BIN / "python"),
                "-m",
                "tests.engines.ray.cluster",
                f"/tmp/r{number}",
                str(number),
            ],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = json.loads(self._line("{"))["address"]

    def _line(self, beginning: str) -> str:
        """Returns the next line of the cluster that begins so."""
        assert self._process.stdout is not None
        late = threading.Timer(SECONDS, self._process.kill)
        late.start()
        try:
            for line in self._process.stdout:
                if line.startswith(beginning):
                    return line
        finally:
            late.cancel()
        raise RuntimeError(f"the Ray cluster has ended, or said nothing for {SECONDS:g} s")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
        return kept | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TFSCALE_JOBS_DIR": str(self._folder / "jobs"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def lose_a_node(self) -> None:
        """Ends a node without warning, and adds another one."""
        assert self._process.stdin is not None
        self._process.stdin.write("lose\n")
        self._process.stdin.flush()
        self._line("lost")

    def close(self) -> None:
        """Ends the cluster."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=60)
        self._process.kill()

    def tfscale(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `tfscale ARGUMENTS`."""
        return subprocess.run(
            [sys.executable, "-m", "tfscale", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def submit(self, *command: str, flags: tuple[str, ...] = ()) -> str:
        """Submits a job of two workers, one on each node; returns its id."""
        place = (f"--option=address={self.address}", "--option=placement=spread")
        engine = ("launch", "--engine=ray", "--num_workers=2", *place)
        deadline = time.monotonic() + SECONDS
        while True:
            done = self.tfscale(*engine, *flags, "--", *command)
            if "try again later" not in done.stderr or time.monotonic() > deadline:
                break  # a new cluster takes jobs a little after it has an address
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def output(self, job: str) -> str:
        """Returns all that Ray and the workers have written for a job."""
        return self.tfscale("jobs", "logs", job).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    if not (BIN / "ray").exists():
        pytest.skip("Ray is not installed: make engines")
    started = RayCluster(tmp_path_factory.mktemp("ray"))
    yield started
    started.close()


def test_workers_on_two_nodes_meet(cluster: RayCluster) -> None:
    job = cluster.submit("python", "-S", PROGRAM, "meet")
    assert cluster.tfscale("jobs", "wait", job).returncode == 0, cluster.output(job)
    assert cluster.output(job).count("met [0, 1]") >= 2


def test_a_failed_worker_is_named_and_its_status_is_that_of_the_job(cluster: RayCluster) -> None:
    job = cluster.submit("python", "-S", PROGRAM, "failed")
    assert cluster.tfscale("jobs", "wait", job).returncode == 3
    assert "worker 1 failed first: exit status 3" in cluster.output(job)


def test_a_job_is_stopped_and_its_workers_can_save(cluster: RayCluster) -> None:
    job = cluster.submit("python", "-S", PROGRAM, "saving")
    until(lambda: cluster.output(job).count("ready") >= 2, SECONDS, lambda: cluster.output(job))
    assert cluster.tfscale("jobs", "stop", job).returncode == 0
    assert cluster.output(job).count("saved") >= 2


def test_the_digits_recipe_reaches_its_accuracy(cluster: RayCluster, tmp_path: Path) -> None:
    job = cluster.submit(
        *("python", "-m", "recipes.image_classification", "--dataset=digits"),
        *("--distribution_strategy=multi_worker_mirrored", f"--model_dir={tmp_path}/digits"),
    )
    assert cluster.tfscale("jobs", "wait", job).returncode == 0, cluster.output(job)
    summary = json.loads((tmp_path / "digits/summary.json").read_text())
    # That of `make train` on one host; an image more or less is 0.003.
    assert summary["test_accuracy"] == pytest.approx(0.9917, abs=0.003)


@pytest.mark.parametrize("lost", ["lost-worker", "lost-node"])
def test_a_job_goes_on_after_a_loss_to_the_undisturbed_result(
    cluster: RayCluster, tmp_path: Path, lost: str
) -> None:
    folders = [tmp_path / "undisturbed", tmp_path / "disturbed"]
    for folder in folders:
        folder.mkdir()
    program = ("python", "-m", "tests.engines.ray.training")
    quiet = cluster.submit(*program, str(folders[0]))
    assert cluster.tfscale("jobs", "wait", quiet).returncode == 0, cluster.output(quiet)
    job = cluster.submit(*program, str(folders[1]), lost, flags=("--max_restarts=2",))
    if lost == "lost-node":
        until((folders[1] / "waits").exists, SECONDS, lambda: cluster.output(job), every=0.2)
        (folders[1] / "disturbed").touch()
        cluster.lose_a_node()
    assert cluster.tfscale("jobs", "wait", job).returncode == 0, cluster.output(job)
    assert "1 of 2 restarts used" in cluster.output(job)
    expected, found = (np.load(folder / "weights.npy") for folder in folders)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
