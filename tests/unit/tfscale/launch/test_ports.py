from __future__ import annotations

import errno
import socket

import pytest

from tests.ports import free_ports
from tfscale.launch.ports import ReservedPort, reserve_port


def bind(number: int) -> None:
    with socket.socket() as plain:  # Without SO_REUSEADDR, the most that a worker can ask for.
        plain.bind(("127.0.0.1", number))
        plain.listen()


def test_a_reserved_port_cannot_be_bound_until_it_is_released() -> None:
    with reserve_port() as port:
        with pytest.raises(OSError, match="in use"):
            bind(port.number)
        port.release()
        bind(port.number)


def test_a_released_port_is_kept_from_other_launchers_until_it_is_closed() -> None:
    (number,) = free_ports(1)
    with ReservedPort(number) as port:
        port.release()
        with pytest.raises(OSError, match="in use") as taken:
            ReservedPort(number)
        assert taken.value.errno == errno.EADDRINUSE
    with ReservedPort(number) as again:
        assert again.address == f"127.0.0.1:{number}"


def test_a_port_that_someone_listens_on_is_not_reserved() -> None:
    with socket.create_server(("", 0)) as server, pytest.raises(OSError, match="in use"):
        ReservedPort(server.getsockname()[1])


def test_ports_differ_and_keep_off_those_of_outgoing_connections() -> None:
    ports = [reserve_port() for _ in range(50)]
    numbers = {port.number for port in ports}
    for port in ports:
        port.close()
    assert len(numbers) == 50
    assert max(numbers) < 32768  # net.ipv4.ip_local_port_range begins there.
