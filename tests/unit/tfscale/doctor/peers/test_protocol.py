from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.ports import free_ports
from tfscale.doctor.peers.protocol import LONGEST_LINE, Conversation, Listener, NotADoctor

SECONDS = 60.0
GARBAGE = [
    b"",
    b"\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"[1, 2]\n",
    b"null\n",
    b"{}\n",
    b'{"tfscale_doctor": 2}\n',
    b'{"tfscale_doctor": 1, "ask": ["x"]}\n',
    b'{"tfscale_doctor": 1, "ask": {"x": 1}, "file": 7}\n',
    b"[" * 100_000 + b"\n",
    b"x" * (LONGEST_LINE + 10),
    random.Random(0).randbytes(5000),
    b'{"tfscale_doctor": 1, "ask": "echo"',
]


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    if question.get("ask") != "echo":
        raise ValueError("not a question")
    return {"said": question["word"]}


@pytest.fixture
def port() -> Iterator[int]:
    (number,) = free_ports(1)
    with Listener(number, answer):
        yield number
    # The port is free at once.
    socket.create_server(("", number)).close()


def test_a_question_is_answered_over_either_protocol(port: int) -> None:
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    for host in hosts:
        with Conversation(f"{host}:{port}", SECONDS) as conversation:
            for word in ("a", "b\n", "é"):
                said = conversation.ask({"ask": "echo", "word": word})["said"]
                assert said == word


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_its_connection_and_nothing_else(
    garbage: bytes, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""
        except ConnectionError:
            pass  # ended before all was sent
    with Conversation(f"127.0.0.1:{port}", SECONDS) as conversation:
        assert conversation.ask({"ask": "echo", "word": "still"})["said"] == "still"
    assert failures == []


def test_a_connection_that_says_nothing_does_not_keep_others_waiting(port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)),
        Conversation(f"127.0.0.1:{port}", SECONDS) as conversation,
    ):
        assert conversation.ask({"ask": "echo", "word": "x"})["said"] == "x"


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400\r\n", b"{}\n", b'{"tfscale_doctor": 9}\n', b""])
def test_another_program_is_not_a_doctor(reply: bytes) -> None:
    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with Conversation(address, SECONDS) as conversation, pytest.raises(NotADoctor):
            conversation.ask({"ask": "hello"})
        thread.join()
