"""A disk that is full when a checkpoint is written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fault import Report, fault
from tests.faults.job import START_SECONDS, Job
from tests.faults.scene import Scene

SIZE = 1 << 20
"""Bytes of the disk: a hundred of the checkpoints."""
_BLOCK = 4096


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mounts a disk of `SIZE` bytes in memory; needs root.

    Args:
        folder: Where; made if missing.

    Raises:
        OSError: If it cannot be mounted.
    """
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise OSError(f"no disk can be mounted: {error}") from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True, timeout=30)


def fill(disk: Path) -> Path:
    """Fills a disk to the last block, and returns the file that does it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(os.urandom(_BLOCK))
    return filler


def missing() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root, to mount a small disk"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk"):
                return ""
        except OSError as error:
            return str(error)


@fault("full disk", "no room for checkpoints, until the job has failed", missing)
def full_disk(scene: Scene) -> Report:
    def disturb(job: Job) -> None:
        filler = fill(disk)
        job.await_line("could not be written to .* Free disk space", START_SECONDS)
        filler.unlink()

    with small_disk(scene.folder / "disk") as disk:
        training = dataclasses.replace(scene.training, disk=str(disk))
        return scene.disturbed(disturb, culprit=0, training=training)
