"""What travels together, and which pack waits for which."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from strategies.keras_support.context import packs as module
from strategies.keras_support.context.packs import Turns, packs


def test_neighbours_of_one_dtype_travel_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 16)
    sizes = [("float32", 2), ("float32", 2), ("float32", 1), ("float64", 1), ("float32", 9)]
    values = [tf.TensorSpec([size], dtype) for dtype, size in sizes]
    assert list(packs(values, range(5))) == [[0, 1], [2], [3], [4]]
    assert list(packs(values, [4, 2, 1])) == [[4], [2, 1]]
    assert list(packs([], [])) == []


def test_a_value_without_a_static_shape_counts_as_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACK_BYTES", 8)
    values = [tf.TensorSpec([2], "float32"), tf.TensorSpec([None], "float32")]
    assert list(packs(values, range(2))) == [[0, 1]]


def test_a_pack_waits_for_the_one_two_before() -> None:
    graph = tf.Graph()
    made: list[Any] = []
    with graph.as_default():
        turns = Turns()
        for value in range(4):
            with turns.next():
                made.append(tf.constant(value))
            turns.ends(made[-1])
    waited = [[op.name for op in each.op.control_inputs] for each in made]
    assert waited == [[], [], [made[0].op.name], [made[1].op.name]]
