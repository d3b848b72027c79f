"""Messages read without TensorFlow are those that TensorFlow's class reads."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.records.example_message import example_values


def serialized(**lists: list[bytes] | list[int] | list[float]) -> bytes:
    features = {}
    for name, values in lists.items():
        if not values or isinstance(values[0], bytes):
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], int):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    record: bytes = tf.train.Example(
        features=tf.train.Features(feature=features)
    ).SerializeToString()
    return record


def test_bytes_numbers_and_empty_lists() -> None:
    lists: dict[str, Any] = {
        "text": [b"a", b"", b"\xff" * 300],
        "whole": [0, -1, 127, 128, 2**63 - 1, -(2**63)],
        "real": [0.5, -0.0, float("inf")],
        "empty": [],
    }
    found = example_values(serialized(**lists))
    assert found is not None
    assert set(found) == set(lists)
    assert (found["text"], found["empty"]) == (lists["text"], [])
    assert np.array_equal(found["whole"], np.array(lists["whole"], np.int64))
    assert np.array_equal(found["real"], np.array(lists["real"], np.float32))
    kinds = [np.asarray(found[name]).dtype.name for name in ("whole", "real")]
    assert kinds == ["int64", "float32"]


def test_numbers_that_are_not_packed() -> None:
    ones = b"\x08\x05\x08\x06"  # two fields `value = 1`, varints
    feature = b"\x1a" + bytes([len(ones)]) + ones
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    expected = tf.train.Example.FromString(record).features.feature["x"].int64_list.value
    found = example_values(record)
    assert found is not None
    assert list(found["x"]) == list(expected) == [5, 6]


@pytest.mark.parametrize(
    "record", [b"", b"text", b"\x89PNG\r\n\x1a\n" * 9, b'{"a": 1}', b"\x0a\x00", b"\x0a\xff"]
)
def test_something_else_is_no_message(record: bytes) -> None:
    assert example_values(record) is None


def test_what_is_read_from_a_changed_message_is_what_tensorflow_reads() -> None:
    generator = random.Random(0)
    whole = serialized(a=[1, 300, -1], b=[b"text", b"more"], c=[0.25, 4.0])
    read = 0
    for _ in range(2000):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] = generator.randrange(256)
        found = example_values(bytes(changed))
        if found is None:
            continue
        read += 1
        features = tf.train.Example.FromString(bytes(changed)).features.feature
        assert set(found) == set(features)
        for name, values in found.items():
            kind = features[name].WhichOneof("kind")
            expected = list(getattr(features[name], kind).value) if kind else []
            assert np.array_equal(list(values), expected, equal_nan=kind == "float_list")
    assert read > 500
