"""Real faults for `tfscale doctor`, and the words by which it must name them.

Each is planted in a system of its own: a process with other limits, a control group, a mount or a
network namespace, a folder of metadata. Where the system does not allow it, `Unavailable` says why.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.cables import ADDRESSES, Cable
from tests.ports import free_ports
from tests.programs import ROOT, own_environment, prepared

SECONDS = 120.0
"""Deadline of a doctor; a busy machine may take most of it."""
PEERS_SECONDS = 60.0
FAILING_SECONDS = 1.5
"""How long the doctors look for a task that cannot be reached."""


class Unavailable(Exception):
    """This system does not allow the fault."""


@dataclass(frozen=True)
class Doctor:
    """One process of `tfscale doctor`.

    Attributes:
        flags: Its flags, besides --json.
        before: A command that runs the rest of its words.
        variables: Added to the environment.
        open_files: Its limit of open files, or None.
    """

    flags: tuple[str, ...]
    before: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    open_files: int | None = None

    def start(self) -> subprocess.Popen[str]:
        environ = own_environment(**self.variables)
        if "PYTHONPATH" in self.variables:  # metadata that hides that of this environment
            environ["PYTHONPATH"] = f"{self.variables['PYTHONPATH']}:{ROOT}"
        command = [*self.before, sys.executable, "-m", "tfscale", "doctor", "--json", *self.flags]
        if self.open_files is not None:
            limits = (self.open_files, self.open_files)
            command = prepared(f"resource.setrlimit(resource.RLIMIT_NOFILE, {limits})", *command)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )


def reports(doctors: list[Doctor]) -> list[tuple[int, dict[str, Any]]]:
    """Runs doctors at the same time; returns the status and the report of each."""
    with _started(doctors) as processes:
        return [_report(process) for process in processes]


def report_of_first(doctors: list[Doctor]) -> tuple[int, dict[str, Any]]:
    """Runs doctors at the same time until the first has ended; returns its status and report."""
    with _started(doctors) as processes:
        return _report(processes[0])


@contextlib.contextmanager
def _started(doctors: list[Doctor]) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [doctor.start() for doctor in doctors]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _report(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode in (0, 1), errors
    return process.returncode, json.loads(printed)


Plant = Callable[[Path], contextlib.AbstractContextManager[list[Doctor]]]


def tf_config(addresses: list[str], index: int) -> dict[str, str]:
    cluster = {"worker": addresses}
    return {
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    }


def peers_flags(seconds: float) -> tuple[str, ...]:
    return ("--only=cluster", "--peers", f"--peers_seconds={seconds:g}")


def two_workers(*flags: str, seconds: float = PEERS_SECONDS) -> list[Doctor]:
    """Returns the doctors of two workers of this host."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    every = (*peers_flags(seconds), *flags)
    return [Doctor(every, variables=tf_config(addresses, index)) for index in range(2)]


def metadata_folder(folder: Path, name: str, version: str, *requires: str) -> Path:
    """Writes the metadata of an installed wheel, and returns the folder to search."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    text = "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)])
    (info / "METADATA").write_text(f"{text}\n")
    return folder


@contextlib.contextmanager
def control_group(controller: str, files: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Makes a control group of version 1 or 2; yields the command that runs another one in it.

    Args:
        controller: "cpu", "memory" or "pids".
        files: The names of version 2, and what is written to them.
    """
    first = {
        "memory.max": "memory.limit_in_bytes",
        "pids.max": "pids.max",
        "cpu.max": "cpu.cfs_quota_us",
    }
    base = Path("/sys/fs/cgroup")
    is_first = (base / controller).is_dir()
    group = (base / controller if is_first else base) / f"doctor-{uuid.uuid4().hex}"
    try:
        group.mkdir()
    except OSError as error:
        raise Unavailable(f"no control group can be made: {error}") from error
    try:
        for name, text in files.items():
            if is_first and name == "cpu.max":
                quota, period = text.split()
                (group / "cpu.cfs_period_us").write_text(period)
                text = quota
            try:
                (group / (first[name] if is_first else name)).write_text(text)
            except OSError as error:
                raise Unavailable(f"no limit of {controller}: {error}") from error
        joined = f'echo $$ > {group}/cgroup.procs && exec "$@"'
        yield ("sh", "-c", joined, "sh")
    finally:
        group.rmdir()


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """Yields two network namespaces, or says why there are none."""
    try:
        made = Cable()
    except OSError as error:
        raise Unavailable(f"no network namespaces: {error}") from error
    with made:
        yield made


def in_mount(folder: Path, options: str, then: str = "true") -> tuple[str, ...]:
    """Returns the command that runs another one with a small file system of its own.

    Args:
        folder: Where it is mounted, for that command alone.
        options: Of tmpfs.
        then: A command of the shell, run after the mount.
    """
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(folder)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        raise Unavailable("no file system can be mounted")
    mount = f'mount -t tmpfs -o {options} none "{folder}"'
    return ("unshare", "-m", "sh", "-c", f'{mount} && {{ {then}; }}; exec "$@"', "sh")


def shifted_clock(folder: Path, seconds: int) -> dict[str, str]:
    """Returns the variables that shift a process's clock.

    Time namespaces do not shift the time of day. So a library in front of the C library adds to
    what the kernel says.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler, to shift a process's clock")
    source, library = folder / "shift.c", folder / "shift.so"
    source.write_text(
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *at) {\n"
        "  int status = (int)syscall(SYS_clock_gettime, id, at);\n"
        f"  if (status == 0 && id == CLOCK_REALTIME) at->tv_sec += {seconds};\n"
        "  return status;\n}\n"
    )
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise Unavailable(f"the C compiler failed: {done.stderr[:200]}")
    return {"LD_PRELOAD": str(library)}


def namespace_workers(made: Cable, seconds: float = PEERS_SECONDS) -> list[Doctor]:
    """Returns the doctors of two workers at the two ends of a cable."""
    addresses = [f"{host}:20001" for host in ADDRESSES]
    return [
        Doctor(
            peers_flags(seconds),
            before=tuple(made.command(index, [])),
            variables=tf_config(addresses, index),
        )
        for index in range(2)
    ]
