"""What an outcome says about the machine: nothing that names its owner."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from importlib import metadata

from tfscale.bench.machine import Machine


def test_this_host_is_described_by_processor_memory_and_versions() -> None:
    machine = Machine.of_this_host()
    assert machine.cpus == os.cpu_count()
    assert machine.memory_bytes > 2**28
    assert machine.system.startswith(platform.system())
    assert machine.versions["python"] == platform.python_version()
    assert machine.versions["keras"] == metadata.version("keras")
    assert machine.kind.startswith(f"{machine.cpus} x {machine.processor}")


def test_at_the_end_a_peers_versions_are_added_and_own_ones_remain() -> None:
    start = Machine.of_this_host()
    end = start.at_end({"torch": "2.0", "numpy": "0"})
    assert end.versions["torch"] == "2.0"
    assert end.versions["numpy"] == metadata.version("numpy")
    assert (end.date, end.load_before) == (start.date, start.load_before)


def test_neither_host_nor_user_is_named() -> None:
    text = repr(Machine.of_this_host()).split()
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text
