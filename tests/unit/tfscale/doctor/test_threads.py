from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tfscale.doctor.threads import within


def test_a_call_that_does_not_end_is_left_behind_at_its_deadline() -> None:
    ended = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, ended.wait)
    ended.set()
    assert within(60.0, lambda: 7) == 7
    with pytest.raises(FileNotFoundError):
        within(60.0, Path("/no/such/file").read_text)
