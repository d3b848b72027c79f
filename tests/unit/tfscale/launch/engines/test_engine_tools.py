from __future__ import annotations

import time

import pytest

from tfscale.launch.engines import engine_tools
from tfscale.launch.engines.engine_tools import EngineFailed, run_tool


def test_what_a_tool_prints_is_returned_and_what_it_says_is_in_the_error() -> None:
    assert run_tool(("cat",), cure="", text="given\n") == "given\n"
    with pytest.raises(EngineFailed, match="failed with status 3: no room"):
        run_tool(("sh", "-c", "echo no room >&2; exit 3"), cure="Make some")
    with pytest.raises(EngineFailed, match=r"'no-such-tool' is not on PATH\. Install it"):
        run_tool(("no-such-tool",), cure="Install it")


def test_a_tool_that_hangs_is_waited_for_aloud_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_tools, "NOTICE_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(EngineFailed, match=r"`sleep 60` has not answered within 0\.5 s\. Wait"):
        run_tool(("sleep", "60"), cure="Wait", seconds=0.5)
    assert time.monotonic() - began < 30
    assert "waits for `sleep 60`, at most 0.5 s." in capsys.readouterr().err
