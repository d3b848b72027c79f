"""The file of a heartbeat: what it holds after a kill or a loss of power, and how it is closed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tfscale.monitor import heartbeat
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


def test_a_thread_that_is_kept_writes_to_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_END_SECONDS", 0.05)
    reached, goes_on = threading.Event(), threading.Event()

    def values() -> dict[str, Any]:
        if threading.current_thread() is not threading.main_thread():
            reached.set()
            assert goes_on.wait(60)
        return {"since": 0.0, "position": 1, "steps": 1, "phases": {"compute": 1.0}}

    beats = heartbeat.Heartbeat(tmp_path, 0, values)
    assert reached.wait(60)
    beats.remove()
    with (tmp_path / "other").open("w+b") as other:  # the lowest number that is free
        goes_on.set()
        for thread in [each for each in threading.enumerate() if each.name == "Monitor"]:
            thread.join(60)
        assert other.read() == b""
