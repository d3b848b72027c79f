"""What a heartbeat file holds after a kill, or after a host has lost power."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfscale.monitor.heartbeat import left_heartbeat


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"event": "heartbeat"}    \n', {"event": "heartbeat"}),
        (b"\0" * 1024, None),
        (b"", None),
        (b'{"event": "heart', None),
        (b"\xff\xfe", None),
        (b"[1]", None),
        (b"[" * 100_000, None),
        (b'{"event" }', None),
    ],
)
def test_only_a_whole_line_is_taken(tmp_path: Path, content: bytes, expected: object) -> None:
    (tmp_path / "heartbeat-0.json").write_bytes(content)
    assert left_heartbeat(tmp_path, 0) == expected


def test_there_may_be_none(tmp_path: Path) -> None:
    assert left_heartbeat(tmp_path, 0) is None
