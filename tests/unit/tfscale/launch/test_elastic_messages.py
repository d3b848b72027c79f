from __future__ import annotations

import dataclasses

import pytest

from tfscale.launch.elastic import messages
from tfscale.launch.elastic.messages import (
    FROM_LAUNCHERS,
    FROM_RENDEZVOUS,
    Alive,
    Ended,
    Hello,
    Message,
    Offer,
    Start,
    decoded,
    encoded,
)

HELLO = Hello(1, "", 2, 4, 1, messages.digest(["python", "train.py"]), "10.0.0.2", "")


@pytest.mark.parametrize(
    "message",
    [HELLO, Offer((1, 2), None), Ended(True, False, 5), Start(3, ("a:1", "[::1]:2"), 1), Alive()],
)
def test_a_message_survives_the_line(message: Message) -> None:
    line = encoded(message)
    assert line.count(b"\n") == 1
    assert decoded(line, FROM_LAUNCHERS + FROM_RENDEZVOUS) == message


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r",
        b"",
        b"[]",
        b"7",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"tfscale":["Alive"]}',
        b'{"tfscale":"Alive","more":1}',
        b'{"tfscale":"Start","restart":0,"addresses":["a:1"],"first":0}',
        b'{"tfscale":"Offer","ports":[1.5],"room":null}',
        b'{"tfscale":"Offer","ports":[true],"room":null}',
        b'{"tfscale":"Offer","ports":"12","room":null}',
        b'{"tfscale":"Offer","ports":[-1],"room":null}',
        b'{"tfscale":"Offer","ports":[1],"room":' + b"9" * 30 + b"}",
        b'{"tfscale":"Offer","ports":[1],"room":NaN}',
        b'{"tfscale":"Offer","ports":[1]}',
        b'{"tfscale":"Ended","succeeded":1,"saved":false,"peak":null}',
        b'{"tfscale":"Leaving","reason":null,"status":1}',
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|its kind|other values|another type"):
        decoded(line, FROM_LAUNCHERS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"command": messages.digest(["python", "train.py "])}, "its command differs"),
        ({"min_workers": 1}, "its MIN of --num_workers=MIN:MAX differs: 1, and there 2"),
        ({"max_workers": 3}, "its MAX of --num_workers=MIN:MAX differs: 3, and there 4"),
        ({"workers_per_host": 2}, "its --workers_per_host differs: 2, and there 1"),
        ({"job_name": "b"}, "its --job_name differs: 'b', and there ''"),
        ({"protocol": 2}, "its version of tfscale differs: 2, and there 1"),
        ({"address": "10.0.0.3", "token": "t"}, ""),
    ],
)
def test_a_launcher_with_other_arguments_is_named_by_the_argument(
    changed: dict[str, object], said: str
) -> None:
    assert HELLO.difference(dataclasses.replace(HELLO, **changed)) == said  # type: ignore[arg-type]
