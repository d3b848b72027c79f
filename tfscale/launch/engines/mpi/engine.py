"""The engine `mpi`: `mpiexec` starts the workers, on this host or on several.

    tfscale launch --engine=mpi --num_workers=4 --option hosts=a:2,b:2 -- python train.py

MPI has no queue and no restarts. So it runs in the foreground, or with `--detach` in the background
of this host, and a failed job is restarted from here, as a whole.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strategies.extension import JOB_VARIABLE, integers, parse_hosts
from tfscale.cli.errors import complain
from tfscale.launch.attempts import ended_after, run_with_restarts
from tfscale.launch.engines.engine import Submission
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool
from tfscale.launch.engines.in_background import InBackground
from tfscale.launch.engines.job_record import JobRecord
from tfscale.launch.engines.job_request import JobRequest, refuse_all_but_workers
from tfscale.launch.engines.missing_programs import cure_of
from tfscale.launch.engines.mpi.command import (
    Implementation,
    implementation,
    mpi_command,
    once_per_host,
)
from tfscale.launch.engines.mpi.starts import MpiStart, OutputOfWorkers
from tfscale.launch.events import Events, signals_as_events
from tfscale.launch.outcome import Outcome
from tfscale.launch.output import SharedOutput
from tfscale.launch.ports import ReservedPort, reserve_port
from tfscale.launch.restarts import RestartPolicy

_WORKER = "tfscale.launch.engines.mpi.worker"
_STACKS = "tfscale.launch.engines.stack_request"
_PORTS = integers(1024, below=65_536)
_THIS_HOST = "localhost"


class Mpi(InBackground):
    """Runs the workers with `mpiexec`."""

    name = "mpi"
    options: Mapping[str, str] = {
        "hosts": "hosts and their workers, such as a:2,b:2 (default: all on this host)",
        "launcher": "mpiexec or mpirun, a name or a path (default: the first of them on PATH)",
        "args": "more arguments for it, as in a shell: args='--mca btl tcp,self'",
        "base_port": "the first of the workers' ports on each host (default: free ones)",
    }

    def check(self, request: JobRequest) -> None:
        """Refuses what mpiexec cannot give. Other hosts may have more memory than this one."""
        _refuse(request)

    def submission(self, request: JobRequest, job: JobRecord) -> Submission:
        """Returns the command of `mpiexec`, or what starts it in the background.

        The flags of MPICH and Open MPI differ. A dry run without a launcher has those of MPICH.
        """
        start = _Plan.of(request, needs_launcher=not self.flags.get("dry_run"))
        if self.flags.get("detach"):
            return super().submission(request, job)
        port = start.base_port or _free_ports(start.most_workers)
        return Submission({}, (start.command(request, job.id, 0, port),))

    def run(self, request: JobRequest) -> int:
        """Runs the job until its end, in the foreground.

        Args:
            request: What is asked for.

        Returns:
            The exit status.

        Raises:
            ValueError: If MPI cannot do what is asked.
            EngineFailed: If there is no launcher.
            OSError: If the system provides no port or process.
        """
        plan = _Plan.of(request)
        policy = RestartPolicy(request.max_restarts, request.early_seconds)
        events: Events = queue.SimpleQueue()
        with contextlib.ExitStack() as stack:
            stack.enter_context(signals_as_events(events))
            name = os.environ.get(JOB_VARIABLE) or f"{request.name}-{secrets.token_hex(3)}"
            output = OutputOfWorkers(SharedOutput(None), events)

            def attempt(restart: int) -> Outcome:
                port = plan.base_port or _free_ports(plan.most_workers)
                command = plan.command(request, name, restart, port)
                output.begin(f"{name}.{restart}")
                return MpiStart(command, plan.kind, request, events, output).run()

            limit = stack.enter_context(ended_after(request.time_limit, events))
            outcome = limit.told(run_with_restarts(attempt, policy, events))
        if outcome.status != 0:
            complain("tfscale launch", f"{outcome}.")
        return outcome.status

    def ask_for_stacks(self, job: JobRecord) -> str:
        """Runs a program on every host that sends SIGUSR2 to the workers that handle it."""
        hosts = [host for host, _ in parse_hosts(job.options.get("hosts", _THIS_HOST))]
        if hosts == [_THIS_HOST]:
            return super().ask_for_stacks(job)
        launcher, kind = _launcher(job.options)
        program = (sys.executable, "-m", _STACKS, job.id)
        added = _added(job.options)
        command = once_per_host(launcher, kind, hosts, program, added)
        answer = run_tool(command, cure="`py-spy dump --pid` on a host shows one process.")
        return "; ".join(line for line in answer.splitlines() if line.startswith("asked"))


@dataclass(frozen=True)
class _Plan:
    """What a request becomes on MPI.

    Attributes:
        launcher: The program.
        kind: Whose it is.
        hosts: The hosts and their workers.
        added: Arguments for the launcher.
        base_port: The first port on each host, if it is given.
    """

    launcher: str
    kind: Implementation
    hosts: tuple[tuple[str, int], ...]
    added: tuple[str, ...]
    base_port: int | None

    @classmethod
    def of(cls, request: JobRequest, needs_launcher: bool = True) -> _Plan:
        _refuse(request)
        port = request.options.get("base_port")
        if port is not None and _PORTS.value(port) is None:
            raise ValueError(
                f"`--option base_port` must be {_PORTS.words}. Received: base_port={port!r}. "
                "Example: 23000."
            )
        launcher, kind = _launcher(request.options, needs_launcher)
        added = _added(request.options)
        if kind is Implementation.OPEN_MPI:
            _refuse_root(launcher, added)
        base_port = None if port is None else int(port)
        return cls(launcher, kind, _hosts(request), added, base_port)

    @property
    def most_workers(self) -> int:
        """Workers of the fullest host."""
        return max(count for _, count in self.hosts)

    def command(
        self, request: JobRequest, job_id: str, restart: int, base_port: int
    ) -> tuple[str, ...]:
        """Returns the command line of one start."""
        flags = {
            "job_id": job_id,
            "restart": restart,
            "base_port": base_port,
            "grace_seconds": request.grace_seconds,
            "hosts": ",".join(f"{host}:{count}" for host, count in self.hosts),
            "gpus_per_worker": request.gpus_per_worker,
            "cpus_per_worker": request.cpus_per_worker,
            "log_dir": None if request.log_dir is None else request.log_dir.absolute(),
        }
        if self.hosts[0][0] == _THIS_HOST:
            flags["hosts"] = None
        given = [f"--{name}={value}" for name, value in flags.items() if value is not None]
        given += [f"--env={name}={value}" for name, value in request.environment.items()]
        worker = (sys.executable, "-m", _WORKER, *given, "--", *request.command)
        return mpi_command(
            self.launcher,
            self.kind,
            self.hosts,
            worker,
            folder=str(request.folder),
            environ=os.environ,
            added=self.added,
        )


def _refuse(request: JobRequest) -> None:
    refuse_all_but_workers(request, Mpi.name)
    if request.memory is not None:
        raise ValueError(
            "`--memory` must be left out with --engine=mpi, which does not limit it. Received: "
            f"--memory={request.memory}. Use --engine=slurm or kubernetes."
        )


def _added(options: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the user's arguments for the launcher."""
    text = options.get("args", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(
            f"`--option args` must be words as in a shell. Received: args={text!r} ({error}). "
            "Example: args='--mca btl tcp,self'."
        ) from error


def _refuse_root(launcher: str, added: Sequence[str]) -> None:
    """Refuses to start Open MPI's mpirun as root, which ends at once with words of its own."""
    confirmed = all(
        any(os.environ.get(f"{name}_ALLOW_RUN_AS_ROOT{more}") for name in ("OMPI", "PRTE"))
        for more in ("", "_CONFIRM")
    )
    if os.geteuid() == 0 and not confirmed and "--allow-run-as-root" not in added:
        raise ValueError(
            "`--engine=mpi` must not be run as root with Open MPI. Received: user root, launcher "
            f"{launcher}. Use another user; in a container: --option args=--allow-run-as-root."
        )


def _hosts(request: JobRequest) -> tuple[tuple[str, int], ...]:
    """Returns the hosts with the workers that each gets, the first ones full."""
    text = request.options.get("hosts")
    if text is None:
        return ((_THIS_HOST, request.num_workers),)
    listed = parse_hosts(text, "--option hosts")
    places = sum(count for _, count in listed)
    if places < request.num_workers:
        raise ValueError(
            f"`--option hosts` must have a place for each of the {request.num_workers} workers. "
            f"Received: hosts={text!r} with {places}. Example for four workers: a:2,b:2."
        )
    used, left = [], request.num_workers
    for host, count in listed:
        if left:
            used.append((host, min(count, left)))
            left -= used[-1][1]
    return tuple(used)


def _launcher(options: Mapping[str, str], is_needed: bool = True) -> tuple[str, Implementation]:
    """Returns the launcher, and whose it is; where it is missing but not needed, as MPICH's."""
    names = [options["launcher"]] if "launcher" in options else ["mpiexec", "mpirun"]
    found = next((path for path in map(shutil.which, names) if path), None)
    cure = cure_of("mpiexec")
    if found is None and not is_needed:
        return names[0], Implementation.HYDRA
    if found is None:
        raise EngineFailed(f"{' or '.join(names)} is not on PATH. {cure}")
    launcher = names[0] if "launcher" in options else found
    return launcher, implementation(launcher, run_tool((found, "--version"), cure=cure))


def _free_ports(count: int) -> int:
    """Returns the first of some consecutive ports that are free on this host, drawn at random."""
    for _ in range(100):
        with reserve_port() as first, contextlib.ExitStack() as others:
            try:
                for number in range(first.number + 1, first.number + count):
                    others.enter_context(ReservedPort(number))
            except OSError:
                continue
            return first.number
    raise OSError(f"no {count} consecutive ports are free on {socket.gethostname()}")
