"""The hosts of a batch job, and the step of srun on them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from tfscale.launch.engines.engine_tools import EngineFailed, run_tool

_PROBE_SECONDS = 45.0
_CURE = "Is slurmctld up?"


@dataclass(frozen=True)
class Allocation:
    """What Slurm has given to this batch job.

    Attributes:
        job: Slurm's number of the job; each member of a job array has its own.
        hosts: The hosts, in Slurm's notation.
        member: "array-3" for member 3 of a job array, else empty.
    """

    job: str
    hosts: str
    member: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Allocation:
        """Returns the allocation that the variables of a batch job describe.

        Raises:
            ValueError: If they describe none.
        """
        job = environ.get("SLURM_JOB_ID", "")
        if not job:
            raise ValueError(
                "`SLURM_JOB_ID` must be set: this program runs in a batch job. Received: "
                "SLURM_JOB_ID=''. Submit the script with sbatch."
            )
        task = environ.get("SLURM_ARRAY_TASK_ID", "")
        return cls(job, environ.get("SLURM_JOB_NODELIST", ""), f"array-{task}" if task else "")

    def names(self) -> list[str]:
        """Returns the names of the hosts.

        Raises:
            EngineFailed: If Slurm does not answer.
        """
        return run_tool(("scontrol", "show", "hostnames", self.hosts), cure=_CURE).split()

    def silent_hosts(self) -> str:
        """Starts a small program on every host. Returns what Slurm says if one does not answer.

        Slurm itself notices a lost host late (SlurmdTimeout, 300 s by default).
        """
        try:
            names = self.names()
            count = str(len(names))
            run_tool(
                (
                    *("srun", "--overlap", "--kill-on-bad-exit=1", "--input=none"),
                    *(f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1"),
                    *("--cpus-per-task=1", "--mem=0", f"--nodelist={self.hosts}", "true"),
                ),
                cure="",
                seconds=_PROBE_SECONDS,
            )
        except EngineFailed as error:
            return str(error).rstrip(". ")
        return ""

    def answering_hosts(self) -> list[str]:
        """Returns the hosts that the job still has, without those that do not answer.

        Raises:
            EngineFailed: If Slurm does not answer.
        """
        command = ("squeue", "--noheader", f"--jobs={self.job}", "--format=%N")
        now = replace(self, hosts=run_tool(command, cure=_CURE).strip())
        names = now.names()
        alone = [replace(self, hosts=name) for name in names]
        with ThreadPoolExecutor(max_workers=16) as pool:
            silent = list(pool.map(Allocation.silent_hosts, alone))
        return [name for name, why in zip(names, silent, strict=True) if not why]

    def requeue(self) -> None:
        """Ends this batch job and puts it into the queue again.

        Raises:
            EngineFailed: If Slurm refuses.
        """
        run_tool(("scontrol", "requeue", self.job), cure="Submit the job again by hand.")


def start_step(
    flags: Sequence[str], program: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts srun. Its messages are in the output of the batch job.

    Args:
        flags: Flags of srun.
        program: What each task runs.
        environment: Variables that are added.

    Raises:
        OSError: If srun cannot be started.
    """
    sys.stdout.flush()
    return subprocess.Popen(
        ("srun", *flags, *program),
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
