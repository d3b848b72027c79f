"""What `--option NAME=VALUE` may set for Slurm, and how sbatch calls it."""

from __future__ import annotations

import re
from collections.abc import Mapping

OPTIONS: Mapping[str, str] = {
    "account": "account that is charged",
    "array": "job array, such as 0-3 or 1,5,9-15:2: each member is a job with workers, log "
    "folder and TFSCALE_JOB_ID of its own, and finds its number in SLURM_ARRAY_TASK_ID",
    "constraint": "features that each host must have, such as a100",
    "dependency": "jobs to wait for, such as afterok:1234",
    "distribution": "which worker is on which host: block (default), cyclic, or plane=N",
    "exclude": "hosts not to use, such as n[3-5]",
    "exclusive": "yes: share no host with other jobs",
    "nodelist": "hosts to use, such as n[1-2]",
    "nodes": "number of hosts, such as 2",
    "ntasks_per_node": "workers (with parameter servers: tasks) on each host",
    "partition": "partition",
    "python": "Python of the batch job and of each task, with tfscale in it (default: the one "
    "that submits)",
    "qos": "quality of service",
    "requeue": "no: end a preempted job with status 42 instead of queueing it again",
    "reservation": "reservation to use",
}
"""Each name, and one line of help."""

_SWITCHES = ("exclusive", "requeue")
_COUNTS = ("nodes", "ntasks_per_node")
_OF_THE_STEP = ("distribution", "nodes", "ntasks_per_node")
_NOT_OF_SBATCH = ("python",)
# sbatch reads quotes, backslashes and comments in the lines of a script.
_PLAIN = re.compile(r"[^\s\"'#\\]+")
_ARRAY = re.compile(r"\d+(-\d+(:[1-9]\d*)?)?(,\d+(-\d+(:[1-9]\d*)?)?)*(%[1-9]\d*)?")
_DISTRIBUTION = re.compile(r"(block|cyclic|plane=[1-9][0-9]*)(:[a-z:,=]+)?", re.IGNORECASE)


def checked(options: Mapping[str, str]) -> Mapping[str, str]:
    """Returns options, all among `OPTIONS`, that sbatch can be given.

    Raises:
        ValueError: If one is malformed. Names it, its value, and the cure.
    """
    for name, value in options.items():
        received = f"Received: --option {name}={value}."
        if not _PLAIN.fullmatch(value) and name not in _NOT_OF_SBATCH:
            raise ValueError(
                f"`{name}` must be a text without spaces, quotes, # and backslashes. {received}"
            )
        if name in _SWITCHES and value not in ("yes", "no"):
            raise ValueError(f"`{name}` must be yes or no. {received}")
        if name in _COUNTS and not re.fullmatch("[1-9][0-9]*", value):
            raise ValueError(f"`{name}` must be a positive integer. {received}")
        if name == "distribution" and not _DISTRIBUTION.fullmatch(value):
            raise ValueError(
                "`distribution` must be block, cyclic or plane=N: others do not say where a worker "
                f"is. {received}"
            )
        if name == "array":
            array_members(value)
    return options


def array_members(text: str) -> tuple[int, ...]:
    """Returns the numbers of the members of a job array.

    Raises:
        ValueError: If the text is not in Slurm's notation.

    Example:
        >>> array_members("1,5,9-15:2%4")
        (1, 5, 9, 11, 13, 15)
    """
    if not _ARRAY.fullmatch(text):
        raise ValueError(
            "`array` must be numbers and ranges such as 0-3 or 1,5,9-15:2%4. "
            f"Received: --option array={text}."
        )
    found: set[int] = set()
    for part in text.partition("%")[0].split(","):
        whole, _, step = part.partition(":")
        first, _, last = whole.partition("-")
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    if not found:
        raise ValueError(
            f"`array` must have members. Received: --option array={text}. Example: 0-3."
        )
    return tuple(sorted(found))


def sbatch_flags(options: Mapping[str, str]) -> list[str]:
    """Returns the flags of sbatch for the options."""
    flags = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if name in _SWITCHES:
            flags += [flag] if name == "exclusive" and value == "yes" else []
        elif name not in _NOT_OF_SBATCH:
            flags.append(f"{flag}={value}")
    return flags


def srun_flags(options: Mapping[str, str]) -> list[str]:
    """Returns the flags of srun for the options."""
    names = [name for name in _OF_THE_STEP if name in options]
    return [f"--{name.replace('_', '-')}={options[name]}" for name in names]
