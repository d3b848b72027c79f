"""The pods of generated manifests really run: each command in namespaces under its pod's name.

Addresses, variables, host names, signals and exit statuses are real. What Kubernetes would do with
them is done by `mini_cluster`, which is written after its sources. Nothing here is a cluster.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.kubernetes.mini_cluster import Run, run_manifest
from tests.engines.kubernetes.namespaces import Host, NoNamespaces, RunningPod
from tests.programs import ROOT
from tfscale.launch.engines import JobRequest
from tfscale.launch.engines.kubernetes.answers import job_status
from tfscale.launch.engines.kubernetes.manifests import manifest
from tfscale.launch.engines.kubernetes.settings import settings_of

pytestmark = pytest.mark.engines

SECONDS = 900.0
MAKE_TRAIN = 0.9917
"""The test accuracy of `make train`."""
DIGITS = (
    *("python", "-m", "recipes.image_classification", "--dataset=digits"),
    *("--distribution_strategy=multi_worker_mirrored", "--model_dir=/mnt/shared/digits"),
    "--checkpoint_every=15",
)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "mount"))):
        pytest.skip("network namespaces need root, ip, unshare and mount")
    (tmp_path / "claim").mkdir()
    try:
        with Host(tmp_path, {"training": tmp_path / "claim"}) as made:
            yield made
    except NoNamespaces as error:
        pytest.skip(str(error))


def documents(kind: str = "jobset", **changed: Any) -> tuple[dict[str, Any], ...]:
    request = JobRequest(
        **{
            **{"command": DIGITS, "name": "digits", "num_workers": 2, "grace_seconds": 30.0},
            **{"log_dir": Path("/mnt/shared/logs")},
            **changed,
        }
    )
    options = {"image": "digits:1", "kind": kind, "claim": "training", "mount": "/mnt/shared"}
    return manifest(request, settings_of(options), "digits-7f3a1b")


class Once:
    """Sends a signal to the last pod of a role, in one attempt, once an epoch has ended in it."""

    def __init__(self, log: Path, role: str, number: int) -> None:
        self._log, self._role, self._number = log, role, number
        self.is_done = False

    def __call__(self, pods: list[RunningPod], attempt: int) -> None:
        if self.is_done or not self._log.exists():
            return
        if len(re.findall(r"^Epoch [0-9]+/", self._log.read_text(), re.MULTILINE)) < 3:
            return
        pod = max((p for p in pods if p.pod.role == self._role), key=lambda p: p.pod.index)
        pod.signal(self._number)
        self.is_done = True


def accuracy(host: Host) -> float:
    summary = json.loads((host.claims["training"] / "digits" / "summary.json").read_text())
    return round(float(summary["test_accuracy"]), 4)


def test_a_train_job_trains_the_digits_like_make_train(host: Host) -> None:
    run = run_manifest(documents("trainjob", max_restarts=0), host, seconds=SECONDS)
    assert (run.state, run.restarts, accuracy(host)) == ("Completed", 0, MAKE_TRAIN)


def test_a_job_set_restarts_after_a_killed_and_a_preempted_pod(host: Host) -> None:
    """The failure counts, the preemption does not, and the result is the undisturbed one."""
    logs = host.claims["training"] / "logs"
    killed = Once(logs / "worker-0.attempt-0.log", "worker", signal.SIGKILL)
    preempted = Once(logs / "worker-0.attempt-1.log", "worker", signal.SIGTERM)

    def disturb(pods: list[RunningPod], attempt: int) -> None:
        killed(pods, attempt)
        preempted(pods, attempt)

    run = run_manifest(documents(max_restarts=1), host, seconds=SECONDS, disturb=disturb)
    assert (run.state, run.restarts, run.counted) == ("Completed", 2, 1)
    assert {status for attempt, _, _, status in run.exits if attempt == 0} - {137} <= {1}
    assert {status for attempt, _, _, status in run.exits if attempt == 1} == {42}
    assert accuracy(host) == MAKE_TRAIN
    assert {path.name for path in logs.glob("*.log")} == {
        f"worker-{worker}.attempt-{attempt}.log" for worker in (0, 1) for attempt in (0, 1, 2)
    }
    assert "resum" in (logs / "worker-0.attempt-2.log").read_text().lower()


def test_a_job_runs_preempted_workers_again(host: Host) -> None:
    log = host.claims["training"] / "logs" / "worker-0.attempt-0.log"
    preempted = Once(log, "digits-7f3a1b", signal.SIGTERM)
    run = run_manifest(documents("job", max_restarts=0), host, seconds=SECONDS, disturb=preempted)
    assert (run.state, run.replaced, accuracy(host)) == ("Completed", 2, MAKE_TRAIN)
    assert sorted(status for *_, status in run.exits) == [0, 0, 42, 42]


def test_a_job_without_restarts_fails_with_its_first_pod(host: Host) -> None:
    run = run_manifest(
        documents("job", command=("sh", "-c", "exit $((JOB_COMPLETION_INDEX * 3))"), log_dir=None),
        host,
        seconds=60,
    )
    assert (run.state, run.reason) == ("Failed", "BackoffLimitExceeded")
    assert (0, "digits-7f3a1b", 1, 3) in run.exits


def test_an_error_is_written_to_the_termination_log_which_is_a_mount(
    host: Host, tmp_path: Path
) -> None:
    """As the kubelet mounts /dev/termination-log: such a file cannot be replaced by another."""
    own, mounted = tmp_path / "kubelet", tmp_path / "termination-log"
    own.touch()
    mounted.touch()
    program = (
        "from strategies.cluster.exit_reason import write_exit_reason_at_end as begin; "
        "begin('worker', 0); raise ValueError('a row' + '!' * 5000)"
    )
    script = f'mount --bind {own} {mounted} && exec {sys.executable} -c "$1"'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFSCALE_EXIT_REASON": str(mounted)}
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", program]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    assert not mounted.read_text()
    cut = own.read_text()[:4096]  # as Kubernetes does
    state = {"terminated": {"exitCode": 1, "message": cut, "finishedAt": "1"}}
    pod = {
        "metadata": {"labels": {}},
        "status": {"phase": "Failed", "containerStatuses": [{"state": state}]},
    }
    failed = {"type": "Failed", "status": "True", "message": "failed"}
    job = {"kind": "JobSet", "metadata": {}, "status": {"conditions": [failed]}}
    assert "exit status 1: ValueError: a row!!!" in job_status(job, [pod]).detail


def small_program(host: Host, kind: str, **counts: Any) -> tuple[tuple[dict[str, Any], ...], Path]:
    folder = host.claims["training"]
    command = ("python", "-m", "tests.engines.kubernetes.programs_of_pods", kind, "/mnt/shared")
    return documents(command=command, max_restarts=1, **counts), folder


def test_chief_workers_and_server_train_together_and_a_killed_worker_comes_back(
    host: Host,
) -> None:
    made, folder = small_program(host, "roles", num_ps=1)
    killed = Once(folder / "logs" / "chief.attempt-0.log", "worker", signal.SIGKILL)
    run = run_manifest(made, host, seconds=SECONDS, disturb=killed)
    assert (run.state, run.restarts, run.replaced) == ("Completed", 0, 1), run
    losses = json.loads((folder / "losses.json").read_text())
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 5


def losses_of(host: Host, run: Run, folder: Path) -> list[float]:
    assert run.state == "Completed"
    found: list[float] = json.loads((folder / "losses.json").read_text())
    return found


def test_data_workers_compute_the_input_and_a_killed_one_comes_back(host: Host) -> None:
    made, folder = small_program(host, "data", num_data_workers=2)
    killed = Once(folder / "logs" / "worker-0.attempt-0.log", "data", signal.SIGKILL)
    run = run_manifest(made, host, seconds=SECONDS, disturb=killed)
    assert (run.restarts, run.replaced) == (0, 1), run
    with_data_workers = losses_of(host, run, folder)
    without, folder = small_program(host, "data")
    run = run_manifest(without, host, seconds=SECONDS)
    assert losses_of(host, run, folder) == pytest.approx(with_data_workers, rel=1e-6)
