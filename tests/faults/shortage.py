"""The kernel kills a worker that uses too much memory."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.faults import injections
from tests.faults.fault import Report, fault
from tests.faults.job import INJECT, Job
from tests.faults.scene import Scene

LIMIT = 256 << 20
"""Bytes that the worker may take after the fault begins; memory it has by then does not count."""
_GROUPS = Path("/sys/fs/cgroup/memory")


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """Makes a group of processes whose memory the kernel limits (cgroups, version 1); needs root.

    Args:
        limit: In bytes, of all processes in the group, without what they had before they joined.

    Raises:
        OSError: If the system does not allow it.
    """
    folder = _GROUPS / f"faults-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(limit), "ascii")
        yield folder
    finally:
        folder.rmdir()


def missing() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root, to limit a process's memory"
    try:
        with memory_group(LIMIT):
            return ""
    except OSError as error:
        return f"no group with limited memory: {error}"


@fault("memory taken", "the kernel kills worker 1, which takes more than its limit", missing)
def memory_taken(scene: Scene) -> Report:
    def disturb(job: Job) -> None:
        (group / "cgroup.procs").write_text(str(job.process(1)), "ascii")
        job.signal(1, INJECT)

    training = scene.injecting(injections.MEMORY_TAKEN)
    with memory_group(LIMIT) as group:
        return scene.disturbed(disturb, culprit=1, training=training)
