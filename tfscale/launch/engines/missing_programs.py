"""What to do where a program that an engine starts is missing.

A dry run needs none of them, so that a job can be written on a laptop: it names the missing ones. A
submission ends with the same sentence.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import PurePath

_SLURM = "Use a login node of the cluster, or install Slurm's clients (Debian: slurm-client)."
_MPI = (
    "Install one (Debian: apt install mpich, or openmpi-bin), or name it: --option=launcher=PATH."
)
_CURES = {
    "gcloud": "Install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install.",
    "kubectl": "Install it (Debian: kubernetes-client), and name the cluster in its configuration.",
    "mpiexec": _MPI,
    "mpirun": _MPI,
    "ray": 'Install it in the environment of tfscale: pip install "ray[default]".',
    "sbatch": _SLURM,
    "scancel": _SLURM,
    "scontrol": _SLURM,
    "srun": _SLURM,
}


def cure_of(program: str) -> str:
    """Returns what to do if a program is missing, a sentence; "" for programs of no engine.

    Example:
        >>> cure_of("/opt/bin/kubectl")
        'Install it (Debian: kubernetes-client), and name the cluster in its configuration.'
    """
    return _CURES.get(PurePath(program).name, "")


def missing_programs(commands: Iterable[Sequence[str]]) -> list[str]:
    """Returns a sentence for each program of these commands that this host does not have."""
    programs = dict.fromkeys(command[0] for command in commands)
    return [
        f"{program!r} is not on PATH of this host. {cure_of(program)}".rstrip()
        for program in programs
        if shutil.which(program) is None
    ]
