"""The memory of a pack, whatever the examples are. Linux only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.programs import completed

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

_PROGRAM = """
import json, pathlib, sys

import numpy as np
import tensorflow as tf

from tfscale.data import ReadSource, pack


def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


class Images:
    def __init__(self, num_examples, side):
        self.num_examples, self.fingerprint, self.side = num_examples, "images", side
        self.element_spec = tf.TensorSpec([side, side, 3], tf.uint8)

    def read(self, indices):
        images = np.empty([len(indices), self.side, self.side, 3], np.uint8)
        images[:] = (indices % 251)[:, np.newaxis, np.newaxis, np.newaxis]
        return images


folder, kind, count, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
pack(ReadSource(Images(10, 4)), folder + "/small")
before = peak()
source = ReadSource(Images(count, side))
keep = (lambda images: images[:, 0, 0, 0] % 5 != 0) if kind == "filter" else None
if kind == "dataset":
    source = tf.data.Dataset.range(count).map(lambda row: tf.zeros([side, side, 3], tf.uint8))
pack(source, folder + "/large", keep=keep, jobs=16)
print(json.dumps({"megabytes": peak() - before}))
"""


@pytest.mark.parametrize("kind", ["source", "filter", "dataset"])
@pytest.mark.parametrize(("count", "side"), [(8000, 224), (30, 4000)])
def test_a_pack_takes_less_than_500_mb(kind: str, count: int, side: int, tmp_path: Path) -> None:
    arguments = (str(tmp_path), kind, str(count), str(side))
    done = completed("-c", _PROGRAM, *arguments, timeout=300, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["megabytes"] < 500
