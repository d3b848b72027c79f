"""How many replica batches are read ahead: as many as memory allows, at least those of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import input_pipeline
from tfscale.data.batches import read_ahead, steps_ahead

ROW = tf.TensorSpec([None, 64, 64, 3], tf.float32)  # 48 KiB
LARGE = tf.TensorSpec([1024, 224, 224, 3], tf.float32)  # 588 MiB


@pytest.mark.parametrize(
    ("spec", "rows", "replicas", "ahead"),
    [
        pytest.param(ROW, 256, 1, 4, id="12 MiB a batch: of two steps, at least 4"),
        pytest.param(ROW, 256, 8, 16, id="of two steps of 8 replicas: 192 MiB"),
        pytest.param(ROW, 256, 12, 21, id="as many as 256 MiB have room for"),
        pytest.param(ROW, 256, 32, 32, id="of one step, if two are more than 256 MiB"),
        pytest.param(LARGE, 1024, 1, 1, id="one that is larger than 256 MiB"),
        pytest.param((LARGE, LARGE), 1024, 2, 2, id="of one step in any case"),
        pytest.param(tf.TensorSpec([None], tf.string), 256, 1, 4, id="strings of unknown size"),
        pytest.param(tf.TensorSpec([None, None], tf.int64), 256, 1, 4, id="unknown lengths"),
        pytest.param(tf.RaggedTensorSpec([None, None], tf.int64), 9, 1, 4, id="ragged rows"),
        pytest.param((), 256, 1, 4, id="nothing"),
    ],
)
def test_batches_are_read_ahead_by_their_size(
    spec: Any, rows: int, replicas: int, ahead: int
) -> None:
    assert read_ahead(spec, rows, replicas) == ahead


def test_data_workers_are_asked_four_steps_ahead_or_one_of_large_batches() -> None:
    assert steps_ahead(ROW, 256, 1, workers=3) == 12
    assert steps_ahead(ROW, 256, 8, workers=3) == 3  # 96 MiB a step
    assert steps_ahead(LARGE, 1024, 1, workers=2) == 2
    assert steps_ahead(tf.TensorSpec([None], tf.string), 256, 1, workers=1) == 4


def test_a_pipeline_of_large_batches_reads_one_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prefetch(dataset: tf.data.Dataset, size: int) -> tf.data.Dataset:
        asked.append(size)
        return dataset

    # Read in place: nothing of it is in memory.
    images = np.broadcast_to(np.float32(0), (40, 4096, 4096))
    pipeline = input_pipeline(images, tf.distribute.OneDeviceStrategy("CPU:0"), 8)
    monkeypatch.setattr(tf.data.Dataset, "prefetch", prefetch)
    pipeline.replica_batches(0)
    assert asked[-1] == 1
