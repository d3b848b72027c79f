"""The GPUs and CPUs of this host that each worker gets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strategies.extension import whole_number

GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
CPUS_VARIABLE = "TFSCALE_CPUS"
"""The variable for the CPUs of a process, read and removed by exec_tied.py."""


@dataclass(frozen=True)
class Shares:
    """Which devices each worker gets.

    Attributes:
        gpus: Names of the GPUs of each worker, by index, as CUDA_VISIBLE_DEVICES has them. None:
            all see all.
        cpus: Numbers of the CPUs of each worker, by index. None: all share all.
    """

    gpus: tuple[tuple[str, ...], ...] | None = None
    cpus: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of_host(
        cls, num_workers: int, gpus_per_worker: int | None, cpus_per_worker: int | None
    ) -> Shares:
        """Divides what this process may use.

        Args:
            num_workers: Workers on this host. Positive.
            gpus_per_worker: GPUs of each; 0 hides all. None does not divide them.
            cpus_per_worker: CPUs of each. Positive. None does not divide them.

        Raises:
            ValueError: If there are too few, or CPUs cannot be assigned on this system.
        """
        gpus: tuple[tuple[str, ...], ...] | None = None
        cpus: tuple[tuple[int, ...], ...] | None = None
        if gpus_per_worker is not None:
            cure = "Pass 0 to hide all GPUs."
            each = whole_number("gpus_per_worker", gpus_per_worker, at_least=0, cure=cure)
            found = visible_gpus(os.environ)
            _refuse_too_few("gpus_per_worker", each, num_workers, len(found), "GPUs")
            gpus = tuple(tuple(found[i * each : (i + 1) * each]) for i in range(num_workers))
        if cpus_per_worker is not None:
            cure = "Omit it to let all workers share all CPUs."
            each = whole_number("cpus_per_worker", cpus_per_worker, cure=cure)
            if sys.platform != "linux":
                raise ValueError(
                    "`cpus_per_worker` must be omitted here: only Linux assigns CPUs to processes. "
                    f"Received: cpus_per_worker={each}."
                )
            usable = sorted(os.sched_getaffinity(0))
            _refuse_too_few("cpus_per_worker", each, num_workers, len(usable), "CPUs")
            cpus = tuple(tuple(usable[i * each : (i + 1) * each]) for i in range(num_workers))
        return cls(gpus, cpus)

    def environment(self, kind: str, index: int) -> Mapping[str, str]:
        """Returns the variables for a process.

        Args:
            kind: "worker", "chief", "ps" or "data worker". Only workers have a share.
            index: The process's index among those of its kind on this host.
        """
        found: dict[str, str] = {}
        is_worker = kind == "worker"
        if self.gpus is not None:
            found[GPUS_VARIABLE] = ",".join(self.gpus[index]) if is_worker else ""
        if self.cpus is not None and is_worker:
            found[CPUS_VARIABLE] = ",".join(map(str, self.cpus[index]))
        return found


def visible_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """Returns the GPUs that a process sees, as CUDA_VISIBLE_DEVICES names them.

    Args:
        environ: Its environment.
        devices: Where the driver shows devices (nvidia0, nvidia1, ...).

    Example:
        >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2,GPU-8932f937"})
        ['2', 'GPU-8932f937']
    """
    chosen = environ.get(GPUS_VARIABLE)
    if chosen is None:
        found = [path.name for path in devices.glob("nvidia*")]
        return [str(i) for i in range(sum(bool(re.fullmatch("nvidia[0-9]+", n)) for n in found))]
    names = [name.strip() for name in chosen.split(",")]
    # CUDA ignores what follows the first invalid one.
    end = next((i for i, name in enumerate(names) if name in ("", "-1", "NoDevFiles")), len(names))
    return names[:end]


def _refuse_too_few(name: str, each: int, num_workers: int, found: int, what: str) -> None:
    if each * num_workers > found:
        raise ValueError(
            f"`{name}` must be at most {found // num_workers}: this process may use {found} {what} "
            f"for {num_workers} workers. Received: {name}={each}. Start fewer workers, or give "
            "each less."
        )
