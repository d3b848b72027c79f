"""Jobs whose workers cannot connect: they print the reason, and end."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable

from strategies.cluster.cluster import Cluster
from tests.faults.fault import Report, fault
from tests.faults.job import Job, launcher, program
from tests.faults.lines import START_LINE, STEP_LINE
from tests.faults.scene import CASE_SECONDS, Scene
from tests.faults.training import Training
from tfscale.launch.ports import reserve_port

DEADLINE_SECONDS = 10.0
"""Within which the workers of the jobs must connect."""
REFUSAL_SECONDS = 120.0
SLOW_PACE_SECONDS = 1.0
"""A minute for the first job, so that it runs when the second one starts."""
_START_SECONDS = "TFSCALE_START_SECONDS"


@fault("port taken by a job", "two jobs of `tfscale launch --hosts` on the same ports")
def two_launchers(scene: Scene) -> Report:
    with reserve_port() as port:
        number = int(port.address.rpartition(":")[2])
    hosts = (f"--hosts=127.0.0.1:{number}", "--host_index=0", "--num_workers=2")
    first = launcher(_slow(scene), *hosts)
    second = launcher(_another(scene), *hosts)
    reason = rf"port {number} of this host.* is not available"
    return _beside(scene, first, second, lambda job: {}, reason)


@fault("port taken by a worker", "two clusters by TF_CONFIG on the same ports")
def two_clusters(scene: Scene) -> Report:
    def own_cluster(job: Job) -> dict[str, str]:
        addresses = tuple(f"127.0.0.1:{port}" for port in sorted(job.ports()))
        config = Cluster({"worker": addresses}, "worker", 0).to_tf_config()
        return {"TF_CONFIG": config, _START_SECONDS: str(DEADLINE_SECONDS)}

    return _beside(
        scene,
        launcher(_slow(scene), "--num_workers=2"),
        program(_another(scene)),
        own_cluster,
        r"Could not start gRPC server|port \d+",
    )


@fault("peer missing", "worker 0 only, by TF_CONFIG; 10 s to connect")
def no_worker(scene: Scene) -> Report:
    return _alone(scene, 0)


@fault("chief missing", "worker 1 only, by TF_CONFIG; 10 s to connect")
def no_chief(scene: Scene) -> Report:
    return _alone(scene, 1)


@fault("name unknown", "a host whose name never resolves; 10 s to connect")
def unknown_name(scene: Scene) -> Report:
    with reserve_port() as port:
        address = port.address
    flags = (f"--hosts={address},nowhere.invalid:2222", "--host_index=0")
    command = launcher(scene.training, *flags, f"--start_seconds={DEADLINE_SECONDS:g}")
    return _refused(scene, command, {}, r"nowhere\.invalid")


def _slow(scene: Scene) -> Training:
    return dataclasses.replace(scene.training, pace_seconds=SLOW_PACE_SECONDS)


def _another(scene: Scene) -> Training:
    folder = scene.folder / "second"
    folder.mkdir()
    return dataclasses.replace(scene.training, folder=str(folder))


def _beside(
    scene: Scene,
    first: list[str],
    second: list[str],
    environment: Callable[[Job], dict[str, str]],
    reason: str,
) -> Report:
    """Starts a second job while a first one runs: it fails, and the first one is not disturbed."""
    with scene.job(first) as job:
        job.await_line(rf"{STEP_LINE}2$")
        report = _refused(scene, second, environment(job), reason)
        status = job.wait(CASE_SECONDS)
        ended = scene.report([job], 0.0, status, 0, scene.training, restarts=0)
    return dataclasses.replace(
        report,
        is_equal=ended.is_equal,
        left_over=(*report.left_over, *ended.left_over),
        trouble=(*report.trouble, *ended.trouble),
    )


def _alone(scene: Scene, worker: int) -> Report:
    with reserve_port() as one, reserve_port() as other:
        addresses = (one.address, other.address)
    environment = {
        "TF_CONFIG": Cluster({"worker": addresses}, "worker", worker).to_tf_config(),
        _START_SECONDS: str(DEADLINE_SECONDS),
    }
    missing = rf"Missing: worker {1 - worker} \({addresses[1 - worker]}"
    return _refused(scene, program(scene.training), environment, missing)


def _refused(scene: Scene, command: list[str], environment: dict[str, str], reason: str) -> Report:
    """Runs a command that must fail and say why, in time; times count from its first line."""
    mark = f"{scene.folder}/refused"
    with scene.job(command, environment, mark) as job:
        started = time.monotonic()
        status = job.wait(REFUSAL_SECONDS)
        reports = [line for line in job.lines if re.search(reason, line.text)]
        left = scene.left_over(set(), mark)
        began = next((line.at for line in job.lines if START_LINE in line.text), started)
    trouble = []
    if status is None:
        trouble.append(f"it did not end within {REFUSAL_SECONDS:g} s")
    if status == 0:
        trouble.append("it ended with status 0")
    if not reports:
        said = " / ".join(line.text for line in job.lines[-4:])
        trouble.append(f"no line reports {reason!r}: {said}")
        return Report(left_over=left, trouble=tuple(trouble))
    who = (
        reports[0].text.partition(":")[0] if reports[0].text.startswith("tfscale") else "TensorFlow"
    )
    return Report(reports[0].at - began, (who,), left_over=left, trouble=tuple(trouble))
