"""Two workers on two hosts, which are network namespaces, and the cable between them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from tests.faults.cables import ADDRESSES, Cable, missing
from tests.faults.fault import Report, fault
from tests.faults.job import START_SECONDS, Job, Line, launcher
from tests.faults.lines import RESTART_LINE, STEP_LINE
from tests.faults.scene import CASE_SECONDS, FAULT_STEP, Scene
from tests.faults.timeline import names, noticed
from tests.faults.training import Training

PORT = 5000
SHORT_SECONDS = 5.0
LOSS = 0.05
COME_TOGETHER_SECONDS = 30.0


@fault("cable 5 s", "the cable between two hosts is cut for 5 s: survives", missing)
def cut_for_a_moment(scene: Scene) -> Report:
    with Cable() as cable, _Hosts(scene, cable) as hosts:
        at = hosts.await_step()
        cable.loss = 1.0
        time.sleep(SHORT_SECONDS)
        cable.loss = 0.0
        return hosts.finish(at, restarts=0)


@fault("cable 5 %", "the cable loses 5 % of all packets: completes", missing)
def lossy(scene: Scene) -> Report:
    with Cable() as cable, _Hosts(scene, cable) as hosts:
        at = hosts.await_step()
        cable.loss = LOSS
        return hosts.finish(at, restarts=0)


@fault("cable cut and mended", "the cable is cut until both hosts have noticed", missing)
def cut_and_mended(scene: Scene) -> Report:
    with Cable() as cable, _Hosts(scene, cable, training=scene.watched_training) as hosts:
        at = hosts.await_step()
        cable.loss = 1.0
        for job in hosts.jobs:
            job.await_line(RESTART_LINE, START_SECONDS, at)
        cable.loss = 0.0
        return hosts.finish(at, restarts=1)


@fault("cable cut", "the cable is cut for good: both give up; a new job resumes", missing)
def cut_for_good(scene: Scene) -> Report:
    with Cable() as cable:
        with _Hosts(scene, cable, "--max_restarts=1", scene.watched_training) as hosts:
            at = hosts.await_step()
            cable.loss = 1.0
            statuses = [job.wait(CASE_SECONDS) for job in hosts.jobs]
            lines = sorted(hosts.lines(), key=lambda line: line.at)
        cable.loss = 0.0
        # The new launchers count from 0: the notes need another folder, the checkpoints do not.
        folder = scene.folder / "again"
        folder.mkdir()
        training = scene.training
        again = dataclasses.replace(training, folder=str(folder), disk=training.folder)
        earlier = [dataclasses.replace(training, attempt=i) for i in range(2)]
        with _Hosts(scene, cable, training=again) as hosts:
            report = hosts.finish(at, restarts=0, earlier=earlier)
    who = names(lines, at, 1)
    trouble = list(report.trouble)
    if not all(statuses):
        trouble.append(f"the launchers ended with {statuses}, where None is a hang")
    if not who:
        trouble.append("no line names worker 1")
    return dataclasses.replace(
        report, noticed=noticed(lines, at), named=who, trouble=tuple(trouble)
    )


class _Hosts:
    """A launcher at each end of a cable, each with one worker."""

    def __init__(
        self,
        scene: Scene,
        cable: Cable,
        restarts: str = "--max_restarts=3",
        training: Training | None = None,
    ) -> None:
        self._scene = scene
        self._training = training or scene.training
        hosts = ",".join(f"{address}:{PORT}" for address in ADDRESSES)
        flags = (f"--hosts={hosts}", f"--start_seconds={COME_TOGETHER_SECONDS:g}", restarts)
        commands = [
            cable.command(end, launcher(self._training, *flags, f"--host_index={end}"))
            for end in range(len(ADDRESSES))
        ]
        self.jobs: list[Job] = [scene.job(command) for command in commands]

    def __enter__(self) -> _Hosts:
        return self

    def __exit__(self, *error: object) -> None:
        for job in self.jobs:
            job.__exit__(None, None, None)

    def await_step(self) -> float:
        """Waits for the step of the fault; returns when it was."""
        for job in self.jobs:
            job.await_line(rf"{STEP_LINE}{FAULT_STEP}$")
        return time.monotonic()

    def lines(self) -> list[Line]:
        """Returns the lines of both hosts."""
        return [line for job in self.jobs for line in job.lines]

    def finish(self, at: float, restarts: int, earlier: Sequence[Training] = ()) -> Report:
        """Waits for the end of the job, and judges it; see `Scene.report`."""
        statuses = [job.wait(CASE_SECONDS) for job in self.jobs]
        status = next((status for status in statuses if status != 0), 0)
        return self._scene.report(self.jobs, at, status, 1, self._training, restarts, earlier)
