"""The cluster of a Slurm job step: each task that `srun` starts is a worker.

    srun -K1 --nodes=2 --ntasks-per-node=1 python train.py

Slurm gives a task its number and host, the hosts of the step and the number of tasks on each. The
order of the tasks follows from the distribution (`srun --distribution`). TensorFlow's
SlurmClusterResolver sorts n10 before n2 and treats every distribution as block, so the cluster is
built here. The variables are those of Slurm 22.05.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from strategies.cluster.cluster import Cluster
from strategies.cluster.environments.ports import BASE_PORT_VARIABLE, computed_ports
from strategies.cluster.environments.scontrol import Scontrol, scontrol_answer
from strategies.cluster.environments.slurm_notation import (
    expand_counts,
    expand_ports,
    place_tasks,
)
from strategies.cluster.environments.variables import integer_variable

_STEP_CURE = "Start the program with srun, or unset the SLURM_ variables to train in one process."
_TF_CONFIG_CURE = "or set TF_CONFIG in every task."


def cluster_from_slurm(
    environ: Mapping[str, str], *, scontrol: Scontrol = scontrol_answer
) -> Cluster | None:
    """Returns the cluster of the Slurm step that `environ` describes.

    Every task is a worker (parameter servers need a TF_CONFIG). A task listens on the address of
    its host in Slurm (NodeAddr) and on one of the ports that Slurm reserved for the step
    (`MpiParams=ports=...` in slurm.conf, or `srun --resv-ports=N`). Slurm reserves the same ports
    on every host, one more than the fullest host has tasks, so tasks are counted host by host.
    If none are reserved, the ports are computed from the job and step numbers: see
    `strategies.cluster.environments.ports` for the risk of a collision. TFSCALE_BASE_PORT has
    precedence over both.

    Args:
        environ: The environment of one task.
        scontrol: Answers `scontrol show hostnames LIST` and `scontrol show node LIST --oneliner`.

    Returns:
        The cluster, or None outside of a step (also in the shell of `sbatch` and `salloc`, although
        SLURM_ variables are set there), in a step of one task, and if the tasks of the step are the
        daemons of `mpirun` rather than this program.

    Raises:
        ValueError: If the step is heterogeneous, its distribution is arbitrary, its ports are too
            few, or the variables contradict each other.
        RuntimeError: If `scontrol` does not answer.
    """
    if "SLURM_STEP_ID" not in environ or "SLURM_STEP_NUM_TASKS" not in environ:
        return None
    num_tasks = integer_variable(environ, "SLURM_STEP_NUM_TASKS", minimum=1, cure=_STEP_CURE)
    if num_tasks == 1 or _tasks_are_daemons_of_mpi(environ, num_tasks):
        return None
    if "SLURM_HET_SIZE" in environ:
        raise ValueError(
            "`SLURM_HET_SIZE` must be unset: a heterogeneous job has a distribution and reserved "
            f"ports for each component. Received: SLURM_HET_SIZE={environ['SLURM_HET_SIZE']!r}. "
            f"Ask for one component (no ':' and no hetjob), {_TF_CONFIG_CURE}"
        )
    task = integer_variable(environ, "SLURM_PROCID", minimum=0, cure=_STEP_CURE)
    job = integer_variable(environ, "SLURM_JOB_ID", minimum=0, cure=_STEP_CURE)
    step = integer_variable(environ, "SLURM_STEP_ID", minimum=0, cure=_STEP_CURE)

    nodelist = _text_variable(environ, "SLURM_STEP_NODELIST")
    hosts = scontrol(("show", "hostnames", nodelist)).split()
    counts = _tasks_per_host(environ, hosts, num_tasks)
    placement = place_tasks(hosts, counts, stride=_stride(environ))
    _check_own_place(environ, placement, task)

    host_addresses = _host_addresses(scontrol(("show", "node", nodelist, "--oneliner")), hosts)
    addresses = [host_addresses[host] for host in placement]
    # Counted by address, not by host name: several slurmd on one machine share its ports.
    ordinals = [addresses[:index].count(address) for index, address in enumerate(addresses)]
    # 13: concurrent steps of one job get slots far from those of the next jobs.
    ports = _reserved_ports(environ, max(ordinals) + 1) or computed_ports(
        environ, job + 13 * step, max(ordinals) + 1
    )
    workers = tuple(
        f"{address}:{ports[ordinal]}" for address, ordinal in zip(addresses, ordinals, strict=True)
    )
    return Cluster({"worker": workers}, "worker", task, source=f"Slurm step {job}.{step}")


def _tasks_are_daemons_of_mpi(environ: Mapping[str, str], num_tasks: int) -> bool:
    """Returns whether `mpirun` runs its daemons in this step, instead of srun this program.

    In an allocation `mpirun` starts one daemon per host through srun. All processes that a daemon
    starts inherit its SLURM_PROCID, so several would be worker 0. srun never sets Open MPI's
    variables; `srun --mpi=pmi2` sets PMI_RANK to the number of the task.
    """
    if "OMPI_COMM_WORLD_RANK" in environ:
        return True
    if "PMI_RANK" not in environ:
        return False
    own = (environ.get("SLURM_PROCID"), str(num_tasks))
    return (environ["PMI_RANK"], environ.get("PMI_SIZE")) != own


def _text_variable(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "")
    if not text:
        raise ValueError(
            f"`{name}` must be set in a Slurm step. Received: {name}={text!r}. {_STEP_CURE}"
        )
    return text


def _tasks_per_host(environ: Mapping[str, str], hosts: Sequence[str], num_tasks: int) -> list[int]:
    text = _text_variable(environ, "SLURM_STEP_TASKS_PER_NODE")
    counts = expand_counts(text)
    if len(counts) != len(hosts) or sum(counts) != num_tasks:
        raise ValueError(
            f"`SLURM_STEP_TASKS_PER_NODE` must give the {num_tasks} tasks of {len(hosts)} hosts. "
            f"Received: SLURM_STEP_TASKS_PER_NODE={text!r}. {_STEP_CURE}"
        )
    return counts


def _stride(environ: Mapping[str, str]) -> int:
    """Returns how many consecutive tasks go to one host under the distribution of the step."""
    # "cyclic:block:block,NoPack": only the first word concerns hosts, the others sockets and cores.
    # Without --distribution srun leaves the variable unset, which means block.
    text = environ.get("SLURM_DISTRIBUTION", "")
    across_hosts = re.split("[:,=]", text.lower())[0]
    if across_hosts in ("", "block"):
        return integer_variable(environ, "SLURM_STEP_NUM_TASKS", minimum=1, cure=_STEP_CURE)
    if across_hosts == "cyclic":
        return 1
    if across_hosts == "plane":
        return integer_variable(environ, "SLURM_DIST_PLANESIZE", minimum=1, cure=_STEP_CURE)
    raise ValueError(
        "`SLURM_DISTRIBUTION` must be block, cyclic or plane: others do not determine where the "
        f"tasks are. Received: SLURM_DISTRIBUTION={text!r}. Use srun --distribution=block, "
        f"{_TF_CONFIG_CURE}"
    )


def _check_own_place(environ: Mapping[str, str], placement: Sequence[str], task: int) -> None:
    """Compares the computed host of this task with the real one.

    Every task does so; if none raises, the whole placement is right.
    """
    actual = _text_variable(environ, "SLURMD_NODENAME")
    if task >= len(placement) or placement[task] != actual:
        computed = placement[task] if task < len(placement) else "no host"
        raise ValueError(
            f"`SLURMD_NODENAME` must be {computed!r}, the host of task {task} under the "
            f"distribution {environ.get('SLURM_DISTRIBUTION', 'block')!r}. "
            f"Received: SLURMD_NODENAME={actual!r}. Use srun --distribution=block, "
            f"{_TF_CONFIG_CURE}"
        )


def _host_addresses(answer: str, hosts: Sequence[str]) -> dict[str, str]:
    """Returns the NodeAddr of every host from the lines of `scontrol show node --oneliner`."""
    addresses: dict[str, str] = {}
    for line in answer.splitlines():
        fields = dict(re.findall(r"\b(NodeName|NodeAddr)=(\S+)", line))
        if {"NodeName", "NodeAddr"} <= fields.keys():
            address = fields["NodeAddr"]
            addresses[fields["NodeName"]] = f"[{address}]" if ":" in address else address
    missing = [host for host in hosts if host not in addresses]
    if missing:
        raise ValueError(
            f"`scontrol show node` must give the NodeAddr of {missing}. "
            f"Received: {answer.strip()[:200]!r}. Ask the administrator, {_TF_CONFIG_CURE}"
        )
    return addresses


def _reserved_ports(environ: Mapping[str, str], count: int) -> list[int]:
    """Returns the ports Slurm reserved for the step ("12001-12003,12007"), or [] if none."""
    text = environ.get("SLURM_STEP_RESV_PORTS", "")
    if not text or environ.get(BASE_PORT_VARIABLE):
        return []
    ports = expand_ports(text)
    if len(ports) < count:
        raise ValueError(
            f"`SLURM_STEP_RESV_PORTS` must contain {count} ports, the tasks of the fullest host. "
            f"Received: SLURM_STEP_RESV_PORTS={text!r}. Use srun --resv-ports={count}, or set "
            f"{BASE_PORT_VARIABLE} to the first of {count} free ports."
        )
    return ports
