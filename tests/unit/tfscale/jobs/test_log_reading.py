"""The output of tasks, from growing files and from programs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tfscale.jobs.log_reading import FileTail, Source, follow_logs, print_logs


def test_lines_are_returned_once_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = FileTail(path)
    assert tail.lines() == []
    for text, lines in [("a", []), ("b\nc\nd", [b"ab", b"c"]), ("", []), ("\n", [b"d"])]:
        with path.open("a") as file:
            file.write(text)
        assert tail.lines() == lines
    path.open("a").write("end")
    assert tail.lines(is_last=True) == [b"end"]


def test_files_and_programs_are_followed_until_the_job_is_over(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "0").write_bytes(b"a\n\xff\nno end")
    late = "import sys, time; time.sleep(1); print(sys.argv[1:])"  # the job is over before
    program = (sys.executable, "-S", "-c", late)
    sources: dict[str, Source] = {"worker-0": tmp_path / "0"}
    rounds = iter([False, False, True])

    def is_over() -> bool:
        over = next(rounds)
        if not over:
            sources["data_worker-3"] = program  # one that comes later
        return over

    follow_logs(lambda: sources, is_over)
    lines = set(capfdbinary.readouterr().out.splitlines())
    expected = {b"[worker 0] a", b"[worker 0] \xff", b"[worker 0] no end"}
    assert lines == expected | {b"[data worker 3] ['--follow']"}
    print_logs(sources, 1)
    lines = set(capfdbinary.readouterr().out.splitlines())
    assert lines == {b"[worker 0] no end", b"[data worker 3] []"}
    print_logs(sources, 0)
    assert capfdbinary.readouterr().out == b""
