"""How processes that read end, with programs of a user that end in several ways."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.traces import marked, processes
from tests.programs import ROOT, own_environment
from tests.waiting import until

DEADLINE_SECONDS = 240.0
PROGRAM = """
import sys
from tests.unit.tfscale.data import datasets  # all that a reading process needs

class Mine(datasets.Rows):
    pass

def main():
    import tensorflow as tf
    from tfscale.data import indexed
    KIND = sys.argv[1]
    what = datasets.Does("hang") if KIND in ("interrupted", "killed") else Mine()
    source = indexed(what, read_workers=2)
    counter = tf.data.Dataset.from_tensors(tf.constant([3, 4], tf.int64)).repeat()
    batches = counter.map(source.take, num_parallel_calls=4).prefetch(4)
    print(next(iter(batches))["id"].numpy().tolist(), flush=True)
    if KIND == "raises":
        raise KeyError("mine")
    if KIND in ("interrupted", "killed"):
        print("waits", flush=True)
        source.take(tf.constant([0, 7], tf.int64))

GUARD
    main()
"""


def reading(folder: Path) -> list[int]:
    """The processes that read for the program in a folder."""
    found = []
    for process in processes(str(folder)):
        with contextlib.suppress(OSError):  # it has ended
            if b"sources/examples.py" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def started(folder: Path, kind: str, guard: str) -> subprocess.Popen[str]:
    """Starts the user's program, as the only one of its group, as a shell does."""
    path = folder / "program.py"
    path.write_text(PROGRAM.replace("GUARD", guard))
    return subprocess.Popen(
        [sys.executable, str(path), kind],
        cwd=folder,
        env={**own_environment(), "PYTHONPATH": str(ROOT), **marked(str(folder))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(program: subprocess.Popen[str], folder: Path) -> tuple[int, str, str]:
    """Waits for a program and what it started. Returns its status and what it wrote."""
    try:
        out, err = program.communicate(timeout=DEADLINE_SECONDS)
    finally:
        program.kill()
    until(lambda: not reading(folder), DEADLINE_SECONDS, lambda: f"{reading(folder)} read\n{err}")
    return program.returncode, out, err


@pytest.mark.parametrize(("kind", "status"), [("returns", 0), ("raises", 1)])
def test_a_program_ends_with_its_processes(tmp_path: Path, kind: str, status: int) -> None:
    program = started(tmp_path, kind, "if __name__ == '__main__':")
    found, out, err = ended(program, tmp_path)
    assert (found, out) == (status, "[3, 4]\n"), err
    assert "Traceback" not in err.partition("KeyError: 'mine'")[2]


@pytest.mark.parametrize("kind", ["interrupted", "killed"])
def test_a_signal_ends_a_program_whose_processes_wait(tmp_path: Path, kind: str) -> None:
    program = started(tmp_path, kind, "if __name__ == '__main__':")
    assert program.stdout is not None
    lines = [program.stdout.readline() for _ in range(2)]
    assert lines == ["[3, 4]\n", "waits\n"], program.communicate()[1]
    assert len(reading(tmp_path)) == 2
    if kind == "killed":
        program.kill()
    else:
        os.killpg(program.pid, signal.SIGINT)
    status, _, err = ended(program, tmp_path)
    assert status == -signal.SIGKILL if kind == "killed" else status != 0, err


def test_a_program_without_a_guard_says_what_is_missing(tmp_path: Path) -> None:
    status, _, err = ended(started(tmp_path, "returns", "if True:"), tmp_path)
    assert status == 1
    assert "under `if __name__ == '__main__':`" in err
