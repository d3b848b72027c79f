"""The table of faults that `tfscale doctor` must name; `doctor_faults` makes them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.doctor_faults import (
    FAILING_SECONDS,
    PEERS_SECONDS,
    Doctor,
    Plant,
    Unavailable,
    cable,
    control_group,
    in_mount,
    metadata_folder,
    namespace_workers,
    peers_flags,
    shifted_clock,
    tf_config,
    two_workers,
)
from tests.ports import free_ports


class Fault(NamedTuple):
    """One row.

    Attributes:
        name: What is wrong.
        plant: Plants it; yields the doctors, the first of which must name it.
        words: What the problem and its cure must contain. "{pid}" is this process.
        is_thorough: Whether it takes long, or repeats what another row proves.
    """

    name: str
    plant: Plant
    words: tuple[str, ...]
    is_thorough: bool


FAULTS: list[Fault] = []

Planting = Callable[[Path], Iterator[list[Doctor]]]


def fault(name: str, *words: str, is_thorough: bool = False) -> Callable[[Planting], Planting]:
    """Adds a row to the table."""

    def add(plant: Planting) -> Planting:
        FAULTS.append(Fault(name, contextlib.contextmanager(plant), words, is_thorough))
        return plant

    return add


def with_metadata(folder: Path, name: str, version: str) -> Doctor:
    found = metadata_folder(folder / "site", name, version)
    return Doctor(("--only=wheels",), variables={"PYTHONPATH": str(found)})


@fault("two TensorFlows", "tensorflow-macos", "overwrite each other", "Uninstall both")
def two_tensorflows(folder: Path) -> Iterator[list[Doctor]]:
    yield [with_metadata(folder, "tensorflow-macos", "2.16.2")]


@fault(
    "a dependency of another version", "needs protobuf", "3.20.3", "pip install", is_thorough=True
)
def old_protobuf(folder: Path) -> Iterator[list[Doctor]]:
    yield [with_metadata(folder, "protobuf", "3.20.3")]


@fault("an old NCCL", "needs nvidia-nccl-cu12", "2.10.3", "pip install", is_thorough=True)
def old_nccl(folder: Path) -> Iterator[list[Doctor]]:
    yield [with_metadata(folder, "nvidia-nccl-cu12", "2.10.3")]


@fault("TF_CONFIG is not JSON", "`TF_CONFIG` must be JSON", "Check its quotes")
def broken_cluster(folder: Path) -> Iterator[list[Doctor]]:
    yield [Doctor(("--only=cluster",), variables={"TF_CONFIG": "{'cluster': {}}"})]


@fault("the port is taken", "of worker 0 is taken by process {pid} (", "End that process")
def taken_port(folder: Path) -> Iterator[list[Doctor]]:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        other = free_ports(1)[0]
        addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{other}"]
        yield [Doctor(("--only=cluster",), variables=tf_config(addresses, 0))]


@fault("one address is localhost", "means every host itself", "10.77.0.2", "/etc/hosts")
def localhost_address(folder: Path) -> Iterator[list[Doctor]]:
    addresses = [f"localhost:{free_ports(1)[0]}", "10.77.0.2:20001"]
    yield [Doctor(("--only=cluster",), variables=tf_config(addresses, 0))]


@fault("a proxy between the tasks", "http_proxy is set", "no_proxy=127.0.0.1")
def proxy(folder: Path) -> Iterator[list[Doctor]]:
    variables = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "example.org"}
    first, *_ = two_workers()
    joined = {**first.variables, **variables}
    yield [Doctor(("--only=cluster",), variables=joined)]


@fault("a task is missing", "worker 1 at 127.0.0.1:", "nothing listens there", "Start tfscale")
def missing_task(folder: Path) -> Iterator[list[Doctor]]:
    yield two_workers(seconds=FAILING_SECONDS)[:1]


@fault("a name that does not exist", "worker 1 at no-such-host.invalid:20001", "Correct the name")
def unknown_name(folder: Path) -> Iterator[list[Doctor]]:
    flags = peers_flags(FAILING_SECONDS)
    addresses = [f"127.0.0.1:{free_ports(1)[0]}", "no-such-host.invalid:20001"]
    yield [Doctor(flags, variables=tf_config(addresses, 0))]


@fault("another program at the address", "another program answers", "End that program")
def another_program(folder: Path) -> Iterator[list[Doctor]]:
    program = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "while True:\n    got, _ = server.accept()\n"
        "    got.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')\n"
        "    got.recv(100)\n    got.close()"
    )
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        addresses = [f"127.0.0.1:{free_ports(1)[0]}", f"127.0.0.1:{int(other.stdout.readline())}"]
        flags = peers_flags(FAILING_SECONDS)
        yield [Doctor(flags, variables=tf_config(addresses, 0))]
    finally:
        other.kill()
        other.communicate()


@fault("tasks of two clusters", "worker 1 at", "another task answers", "the same cluster")
def two_clusters(folder: Path) -> Iterator[list[Doctor]]:
    first, second, third = (f"127.0.0.1:{port}" for port in free_ports(3))
    flags = peers_flags(PEERS_SECONDS)
    yield [
        Doctor(flags, variables=tf_config([first, second], 0)),
        Doctor(flags, variables=tf_config([third, second], 1)),
    ]


@fault("no route in one direction", "worker 1 at 10.77.0.2:20001", "no answer", "correct the route")
def no_route(folder: Path) -> Iterator[list[Doctor]]:
    with cable() as made:
        route = ["ip", "route", "add", "unreachable", "10.77.0.2/32"]
        subprocess.run(made.command(0, route), check=True, timeout=60)
        yield namespace_workers(made, FAILING_SECONDS)[:1]


@fault("a clock that is wrong", "The clock of worker 1", "90.", "ahead of", "NTP")
def wrong_clock(folder: Path) -> Iterator[list[Doctor]]:
    first, second = two_workers()
    shifted = {**second.variables, **shifted_clock(folder, 90)}
    yield [first, dataclasses.replace(second, variables=shifted)]


@fault("other versions in one task", "keras is 3.14.1 on worker 1", "Install the same versions")
def other_versions(folder: Path) -> Iterator[list[Doctor]]:
    first, second = two_workers()
    site = metadata_folder(folder / "site", "keras", "3.14.1")
    variables = {**second.variables, "PYTHONPATH": str(site)}
    yield [first, dataclasses.replace(second, variables=variables)]


@fault(
    "a folder that is not shared",
    "worker 1 does not see the files",
    "Mount the same file",
    is_thorough=True,
)
def folder_not_shared(folder: Path) -> Iterator[list[Doctor]]:
    first, second = two_workers(f"--shared_dir={folder}")
    yield [first, dataclasses.replace(second, before=in_mount(folder, "size=1m"))]


@fault("a full disk", "cannot be written: No space left on device", "Delete files")
def full_disk(folder: Path) -> Iterator[list[Doctor]]:
    fill = f"head -c 2M /dev/zero > {folder}/full 2> /dev/null"
    before = in_mount(folder, "size=1m", fill)
    yield [Doctor(("--only=storage", f"--dirs={folder}"), before=before)]


@fault(
    "temporary files on a full disk",
    "(temporary files) cannot be written: No space left on device",
    "TMPDIR chooses this folder",
)
def full_temporary_folder(folder: Path) -> Iterator[list[Doctor]]:
    fill = f"head -c 2M /dev/zero > {folder}/full 2> /dev/null"
    before = in_mount(folder, "size=1m", fill)
    yield [Doctor(("--only=storage",), before=before, variables={"TMPDIR": str(folder)})]


@fault("no inodes", "cannot be written: No space left on device", "No inodes are left")
def no_inodes(folder: Path) -> Iterator[list[Doctor]]:
    fill = f"touch {folder}/0 {folder}/1 {folder}/2 {folder}/3 2> /dev/null"
    before = in_mount(folder, "size=300m,nr_inodes=3", fill)
    yield [Doctor(("--only=storage", f"--dirs={folder}"), before=before)]


@fault(
    "a read-only folder",
    "cannot be written: Read-only file system",
    "mount it writable",
    is_thorough=True,
)
def read_only(folder: Path) -> Iterator[list[Doctor]]:
    before = in_mount(folder, "size=300m,ro")
    yield [Doctor(("--only=storage", f"--dirs={folder}"), before=before)]


@fault("little memory", "of memory is free", "the limit of this control group: 700.0 MB", "End")
def little_memory(folder: Path) -> Iterator[list[Doctor]]:
    with control_group("memory", {"memory.max": "699998208"}) as before:
        yield [Doctor(("--only=host",), before=before)]


@fault("half a processor", "is 0.5 of a processor", "--cpus-per-task")
def half_a_processor(folder: Path) -> Iterator[list[Doctor]]:
    with control_group("cpu", {"cpu.max": "50000 100000"}) as before:
        yield [Doctor(("--only=host",), before=before)]


@fault("few processes", "more processes and threads may start", "--pids-limit", is_thorough=True)
def few_processes(folder: Path) -> Iterator[list[Doctor]]:
    with control_group("pids", {"pids.max": "100"}) as before:
        yield [Doctor(("--only=host",), before=before)]


@fault("few open files", "may have 200 open files (ulimit -n)", "limits.conf")
def few_open_files(folder: Path) -> Iterator[list[Doctor]]:
    yield [Doctor(("--only=host",), open_files=200)]


@fault("a folder of another user", "cannot be written: Permission denied", "Change its owner")
def foreign_folder(folder: Path) -> Iterator[list[Doctor]]:
    if os.geteuid() == 0:
        raise Unavailable("root may write everywhere")
    folder.chmod(0o500)
    yield [Doctor(("--only=storage", f"--dirs={folder}"))]


def words_of(row: Fault) -> tuple[str, ...]:
    """Returns the words of a row, with the number of this process."""
    return tuple(word.replace("{pid}", str(os.getpid())) for word in row.words)
