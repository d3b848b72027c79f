"""The engine `local`: the workers are processes of this host, in the foreground by default."""

from __future__ import annotations

from tfscale.launch.engines.in_background import InBackground
from tfscale.launch.engines.job_request import JobRequest
from tfscale.launch.host_job import check_job
from tfscale.launch.hosts import Hosts
from tfscale.launch.local_workers import check_tasks
from tfscale.launch.shares import Shares


class Local(InBackground):
    """Runs the workers on this host, with `tfscale launch` in the background."""

    name = "local"

    def check(self, request: JobRequest) -> None:
        """Refuses what this host cannot have, before anything is started or shown.

        Raises:
            ValueError: If there is such a thing.
            FileNotFoundError: If the program does not exist or is not executable.
        """
        super().check(request)
        starts = self.flags.get("start_seconds")
        check_job(request.command, request.num_workers, request.grace_seconds, starts)
        if self.flags.get("rendezvous") is not None:
            return  # an elastic job: `num_workers` are those of all hosts
        hosts = self.flags.get("hosts")
        check_tasks(
            request.num_workers,
            request.num_ps,
            request.num_data_workers,
            None if hosts is None else Hosts(tuple(hosts.split(",")), self.flags["host_index"]),
        )
        Shares.of_host(request.num_workers, request.gpus_per_worker, request.cpus_per_worker)
