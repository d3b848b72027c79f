"""Programs that end while their pipeline calls Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, own_environment

# When the program ends, threads of TensorFlow wait for Python's lock to read ahead, and the
# iterator is kept. The long switch interval makes sure that they still wait.
PROGRAM = """
import sys, time
import numpy as np
import tensorflow as tf
import tfscale

class Rows:
    def __len__(self):
        return 100_000
    def __getitem__(self, index):
        return np.float32(index)

source = tfscale.data.indexed(Rows())
indices = tf.data.Dataset.range(100_000).batch(2)
batches = iter(indices.map(source.take, num_parallel_calls=4).prefetch(1000))
print(np.asarray(next(batches)).tolist(), flush=True)
sys.setswitchinterval(100.0)
until = time.monotonic() + 0.3
while time.monotonic() < until:
    pass
END
"""

# The threads that wait get no processor for half a second, as on a very busy machine.
BUSY = """
import os, time
os.sched_setaffinity(0, {0})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
os.write(1, b"b")
until = time.monotonic() + 0.5
while time.monotonic() < until:
    pass
"""
STARVED = f"""
import os, subprocess, threading
for thread in map(int, os.listdir("/proc/self/task")):
    os.sched_setaffinity(thread, {{int(thread == threading.get_native_id())}})
busy = subprocess.Popen([sys.executable, "-S", "-c", {BUSY!r}], stdout=subprocess.PIPE)
assert busy.stdout.read(1)
"""


# After the wait for the calls that run: says how many begin in spite of it.
LATE = """
import atexit, time

def late():
    from tfscale.data.python_calls import _CALLS
    before = _CALLS._begun
    time.sleep(1.0)
    print("late", _CALLS._begun - before)

atexit.register(late)
"""


def run(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    path.write_text(program)
    return subprocess.run(
        [sys.executable, str(path)],
        env={**own_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(("end", "status"), [("", 0), ("raise KeyError('mine')", 1)])
def test_a_program_that_keeps_its_iterator_ends(tmp_path: Path, end: str, status: int) -> None:
    ended = run(tmp_path / "program.py", PROGRAM.replace("END", end))
    assert (ended.returncode, ended.stdout) == (status, "[0.0, 1.0]\n"), ended.stderr
    assert ("mine" if status else "") in ended.stderr
    assert "has not stopped" not in ended.stderr


@pytest.mark.thorough
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or os.cpu_count() == 1,
    reason="needs two processors, and root to keep one",
)
def test_calls_of_threads_that_the_machine_does_not_run_are_waited_for(tmp_path: Path) -> None:
    program = LATE + PROGRAM.replace("END", STARVED)
    ended = run(tmp_path / "program.py", program)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "[0.0, 1.0]\nlate 0\n", ended.stderr
