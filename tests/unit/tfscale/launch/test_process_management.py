"""The process manager of MPI in the launcher, asked as MPI libraries ask it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tfscale.launch.process_management import ProcessManagementServer


@pytest.fixture
def server() -> Iterator[ProcessManagementServer]:
    with ProcessManagementServer("job", num_workers=2) as server:
        yield server


class Client:
    """One worker's connection."""

    def __init__(self, server: ProcessManagementServer, index: int) -> None:
        environment = server.environment({}, index)
        host, port = environment["PMI_PORT"].split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=120)
        self._lines: Any = self.socket.makefile("r")

    def ask(self, request: str, lines: int = 1) -> list[str]:
        self.socket.sendall(f"{request}\n".encode())
        return [self.read() for _ in range(lines)]

    def read(self) -> str:
        return str(self._lines.readline().rstrip("\n"))


def test_a_worker_learns_its_rank_and_the_size_of_the_job(server: ProcessManagementServer) -> None:
    answers = Client(server, 1).ask("cmd=initack pmiid=1", lines=4)
    assert answers == ["cmd=initack rc=0", "cmd=set size=2", "cmd=set rank=1", "cmd=set debug=0"]


def test_what_one_worker_puts_the_other_gets_after_the_barrier(
    server: ProcessManagementServer,
) -> None:
    first, second = Client(server, 0), Client(server, 1)
    for value in ("10.0.0.1#2", "10.0.0.1#3"):  # a barrier can be used again
        first.ask(f"cmd=put kvsname=job key=address value={value}")
        first.socket.sendall(b"cmd=barrier_in\n")
        assert second.ask("cmd=barrier_in") == ["cmd=barrier_out rc=0"]
        assert first.read() == "cmd=barrier_out rc=0"
        found = second.ask("cmd=get kvsname=job key=address")
        assert found == [f"cmd=get_result rc=0 value={value}"]


def test_a_key_that_is_not_there_and_an_unknown_request_are_errors(
    server: ProcessManagementServer,
) -> None:
    client = Client(server, 0)
    assert "rc=-1" in client.ask("cmd=get kvsname=job key=missing")[0]
    assert "rc=-1" in client.ask("mcmd=spawn cmd=spawn")[0]


def test_a_worker_that_ended_is_not_counted_at_the_next_barrier(
    server: ProcessManagementServer,
) -> None:
    gone, first, second = (Client(server, index) for index in (0, 0, 1))
    gone.socket.sendall(b"cmd=barrier_in\n")
    gone.socket.shutdown(socket.SHUT_WR)
    assert gone.read() == ""  # the server has read the end and closed
    first.socket.sendall(b"cmd=barrier_in\n")
    first.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        first.socket.recv(1)
    assert second.ask("cmd=barrier_in") == ["cmd=barrier_out rc=0"]


def test_requests_may_arrive_in_pieces_and_several_at_once(
    server: ProcessManagementServer,
) -> None:
    client = Client(server, 0)
    client.socket.sendall(b"cmd=get_app")
    client.socket.sendall(b"num\ncmd=get_universe_size\n")
    assert [client.read(), client.read()] == [
        "cmd=appnum rc=0 appnum=0",
        "cmd=universe_size rc=0 size=2",
    ]


def test_a_request_without_an_end_closes_the_connection(server: ProcessManagementServer) -> None:
    client = Client(server, 0)
    client.socket.sendall(b"x" * 10_000)
    with contextlib.suppress(ConnectionResetError):
        assert client.socket.recv(1) == b""


def test_variables_of_an_outer_mpiexec_are_not_passed_on(server: ProcessManagementServer) -> None:
    outer = {"PMI_FD": "9", "PMI_RANK": "3", "PMI_SIZE": "4", "HOME": "/home/user"}
    environment = server.environment(outer, 1)
    assert set(environment) == {"HOME", "PMI_PORT", "PMI_ID"}
    assert environment["PMI_ID"] == "1"
