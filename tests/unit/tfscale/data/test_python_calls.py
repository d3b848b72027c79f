"""Programs that end while their pipeline calls Python."""

from __future__ import annotations

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


@pytest.mark.parametrize(("end", "status"), [("", 0), ("raise KeyError('mine')", 1)])
def test_a_program_that_keeps_its_iterator_ends(tmp_path: Path, end: str, status: int) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("END", end))
    ended = subprocess.run(
        [sys.executable, str(path)],
        env={**own_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, "[0.0, 1.0]\n"), ended.stderr
    assert ("mine" if status else "") in ended.stderr
    assert "has not stopped" not in ended.stderr
