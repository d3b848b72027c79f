"""The machine and the versions of a benchmark, without a host's or a user's name."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = ("tfscale", "keras", "tensorflow", "tensorflow-cpu", "tensorflow-tpu", "numpy")


@dataclass(frozen=True)
class Machine:
    """Where and when a benchmark ran.

    Attributes:
        processor: Model of the processor.
        cpus: Logical CPUs.
        memory_bytes: Memory of the host; 0 if unknown.
        system: Operating system and architecture.
        accelerators: Names of the GPUs that `nvidia-smi` lists.
        versions: Of Python and of the packages in use, by name.
        date: Start of the benchmark, UTC, ISO 8601.
        load_before: Load average over a minute before the first process was started.
        load_after: The same after the last round; 0 until `at_end`.
    """

    processor: str
    cpus: int
    memory_bytes: int
    system: str
    accelerators: list[str]
    versions: Mapping[str, str]
    date: str
    load_before: float
    load_after: float = 0.0

    @staticmethod
    def of_this_host() -> Machine:
        """Returns this host at the start of a benchmark."""
        return Machine(
            processor=_processor(),
            cpus=os.cpu_count() or 1,
            memory_bytes=_memory_bytes(),
            system=f"{platform.system()} {platform.release().partition('-')[0]} "
            f"{platform.machine()}",
            accelerators=_accelerators(),
            versions={"python": platform.python_version(), **dict(_installed(_PACKAGES))},
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            load_before=os.getloadavg()[0],
        )

    def at_end(self, versions: Mapping[str, str] | None = None) -> Machine:
        """Returns the same host after the last round.

        Args:
            versions: More versions, such as that of a peer's library. Those of this Python remain.
        """
        return dataclasses.replace(
            self,
            versions={**(versions or {}), **self.versions},
            load_after=os.getloadavg()[0],
        )

    @property
    def kind(self) -> str:
        """What makes times comparable: processors, their number, and accelerators."""
        return ", ".join([f"{self.cpus} x {self.processor}", *self.accelerators])


def _installed(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    with contextlib.suppress(ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def _accelerators() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [program, "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return []
