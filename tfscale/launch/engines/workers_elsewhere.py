"""The workers of a job that are on other hosts, as the TF_CONFIG of those of this host says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfscale.launch.process_tree import PROCESSES

_CLUSTER = b"TF_CONFIG="


def workers_elsewhere(
    members: Iterable[int], processes: Path = PROCESSES
) -> Mapping[str, tuple[str, ...]]:
    """Returns by host the tasks of a job that none of these processes is, such as "worker 2".

    Args:
        members: The processes of the job on this host.
        processes: Where the system shows its processes.
    """
    here: set[str] = set()
    hosts: dict[str, str] = {}
    for process in members:
        try:
            variables = (processes / str(process) / "environ").read_bytes().split(b"\0")
            text = next(each[len(_CLUSTER) :] for each in variables if each.startswith(_CLUSTER))
            config = json.loads(text)
            for kind, addresses in config["cluster"].items():
                for index, address in enumerate(addresses):
                    hosts[f"{kind} {index}"] = address.rpartition(":")[0]
            here.add(f"{config['task']['type']} {config['task']['index']}")
        except (OSError, StopIteration, ValueError, TypeError, KeyError, AttributeError):
            continue  # it has ended, or has no cluster, or none that a launcher has written
    missing: dict[str, tuple[str, ...]] = {}
    for task, host in hosts.items():
        if task not in here:
            missing[host] = (*missing.get(host, ()), task)
    return missing
