"""How a snapshot is copied from the variables and written to disk past the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfscale.checkpoints import direct_file
from tfscale.checkpoints.direct_file import BLOCK_BYTES
from tfscale.checkpoints.state import SnapshotMemory


@pytest.mark.parametrize("is_at_hand", [True, False])
def test_a_snapshot_is_what_a_variable_was_in_the_memory_of_the_one_before(
    is_at_hand: bool,
) -> None:
    memory, variable = SnapshotMemory(), tf.Variable(tf.range(5.0))
    first = memory.taken("v", variable, is_at_hand=is_at_hand)
    memory.fill()
    variable.assign_add(tf.ones([5]))
    np.testing.assert_array_equal(first, np.arange(5.0))
    second = memory.taken("v", variable, is_at_hand=is_at_hand)
    variable.assign_add(tf.ones([5]))
    memory.fill()
    assert second is first
    np.testing.assert_array_equal(second, np.arange(1.0, 6.0))


def test_a_copied_variable_is_let_go() -> None:
    """Its buffer has one owner again: TensorFlow writes into it, and moves it nowhere."""
    memory, variable = SnapshotMemory(), tf.Variable(tf.range(5.0))

    def place() -> int:
        return int(np.asarray(memoryview(variable.read_value())).ctypes.data)

    memory.taken("v", variable)
    memory.fill()
    before = place()
    memory.taken("v", variable)
    memory.fill()
    variable.assign_add(tf.ones([5]))
    assert place() == before
    memory.taken("v", variable)
    variable.assign_add(tf.ones([5]))
    assert place() != before


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", "bfloat16", "float64"])
def test_every_dtype_of_a_variable_can_be_copied(dtype: str) -> None:
    memory, values = SnapshotMemory(), tf.cast(tf.constant([[1, 0, 1]]), dtype)
    variable = tf.Variable(tf.zeros_like(values))
    memory.taken("v", variable)
    variable.assign(values)
    found = memory.taken("v", variable)
    memory.fill()
    assert found.dtype.name == dtype
    np.testing.assert_array_equal(found.astype("float64"), [[1.0, 0.0, 1.0]])


@pytest.mark.parametrize("size", [0, 1, 4096, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 4097])
@pytest.mark.parametrize("is_direct", [True, False])
def test_a_file_past_the_cache_holds_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, is_direct: bool
) -> None:
    if not is_direct:
        monkeypatch.setattr(os, "O_DIRECT", 0, raising=False)  # as on macOS
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8).tobytes()
    with direct_file.uncached_file(tmp_path / "file") as file:
        for first in range(0, size, 5_000_011):
            file.write(data[first : first + 5_000_011])
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error() -> None:
    with (
        pytest.raises(OSError, match="No space left"),
        direct_file.uncached_file(Path("/dev/full")) as file,
    ):
        file.write(b"x" * BLOCK_BYTES)
