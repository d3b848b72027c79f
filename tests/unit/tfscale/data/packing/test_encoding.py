"""Records of packed sets; TensorFlow's and protobuf's own readers are the oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.tfscale.data.packing import sets
from tfscale.data.packing.decoding import parsed
from tfscale.data.packing.encoded_sources import EncodedExamples
from tfscale.data.packing.encoding import described
from tfscale.data.sources import as_source
from tfscale.records.manifest import Manifest

NUMBERS = [
    "bfloat16",
    "bool",
    "complex128",
    "complex64",
    "float16",
    "float32",
    "float64",
    "int16",
    "int32",
    "int64",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
]


def records_of(source: Any) -> tuple[list[bytes], Manifest]:
    read: Any = as_source(source)
    encoded = EncodedExamples(read)
    records = [r for batch in encoded.batches(0, encoded.num_examples) for r in batch]
    count = len(records)
    manifest = Manifest(
        "tfrecord",
        None,
        encoded.structure,
        encoded.features,
        count,
        None,
        None,
        "",
        "",
        "",
        (),
    )
    return records, manifest


def numbers(dtype: str, shape: tuple[int, ...], seed: int) -> tf.Tensor:
    """Random bits, and the smallest and largest values."""
    kind = tf.as_dtype(dtype)
    random = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if kind == tf.bool:
        return tf.constant(random.integers(0, 2, shape).astype(bool))
    data = random.integers(0, 256, count * kind.size, np.uint8)
    data[random.random(len(data)) < 0.3] = random.choice([0, 255])
    return tf.constant(np.frombuffer(data.tobytes(), kind.as_numpy_dtype).reshape(shape))


@st.composite
def parts(draw: st.DrawFn, rows: int) -> Any:
    shape = draw(st.lists(st.integers(0, 3), max_size=3).map(tuple))
    dtype = draw(st.sampled_from([*NUMBERS, "string"]))
    seed = draw(st.integers(0, 99))
    is_ragged = draw(st.booleans()) and 0 not in shape
    lengths = draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))
    full = (sum(lengths) if is_ragged else rows, *shape)
    if dtype == "string":
        texts = np.random.default_rng(seed).integers(0, 300, int(np.prod(full)))
        values = np.array([bytes([x % 256]) * (x % 7) for x in texts], object).reshape(full)
        tensor = tf.constant(values, tf.string, full)
    else:
        tensor = numbers(dtype, full, seed)
    if not is_ragged:
        return tensor
    return tf.RaggedTensor.from_row_lengths(tensor, tf.constant(lengths, tf.int64))


@st.composite
def sources(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(1, 4))
    part = parts(rows)
    keys = st.text("ab/~é", max_size=3)
    structures = st.recursive(
        part,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map(tuple),
            st.dictionaries(keys, inner, min_size=1, max_size=3),
        ),
        max_leaves=5,
    )
    return draw(structures)


@given(source=sources())
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_packed_is_what_is_read_for_any_structure_and_type(source: Any) -> None:
    records, manifest = records_of(source)
    sets.assert_same(parsed(tf.constant(records), manifest), sets.all_of(source))
    for record in records:
        example = tf.train.Example.FromString(record)
        assert len(record) == example.ByteSize()  # nothing that protobuf would not write


@pytest.mark.thorough
@given(source=sources())
@settings(max_examples=500, deadline=None)
def test_what_is_packed_is_what_is_read_at_length(source: Any) -> None:
    records, manifest = records_of(source)
    sets.assert_same(parsed(tf.constant(records), manifest), sets.all_of(source))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_keeps_its_bits(dtype: str) -> None:
    source = {"flat": numbers(dtype, (9,), 1), "box": numbers(dtype, (9, 2, 50), 2)}
    records, manifest = records_of(source)
    sets.assert_same(parsed(tf.constant(records), manifest), source)


def test_other_programs_find_numbers_where_they_expect_them() -> None:
    source = {
        "label": np.array([7, -1]),
        "weight": np.array([[0.5, 2]] * 2, np.float32),
        "word": np.array([b"a", b"\xff"]),
        "pixels": np.array([[1, 2], [3, 4]], np.uint8),
    }
    features = {
        "label": tf.io.FixedLenFeature([], tf.int64),
        "weight": tf.io.FixedLenFeature([2], tf.float32),
        "word": tf.io.FixedLenFeature([], tf.string),
        "pixels": tf.io.FixedLenFeature([], tf.string),
    }
    found = tf.io.parse_example(records_of(source)[0], features)
    assert found["label"].numpy().tolist() == [7, -1]
    assert found["weight"].numpy().tolist() == [[0.5, 2], [0.5, 2]]
    assert found["word"].numpy().tolist() == [b"a", b"\xff"]
    assert found["pixels"].numpy().tolist() == [b"\1\2", b"\3\4"]


@pytest.mark.parametrize("rows", [0, 3])
def test_a_batch_of_static_rows_has_static_shapes(rows: int) -> None:
    source = (np.zeros([3, 2, 2], np.float16), tf.ragged.constant([[1], [], [2, 3]]))
    records, manifest = records_of(source)
    function = tf.function(lambda texts: parsed(texts, manifest))
    spec = tf.TensorSpec([rows], tf.string)
    dense, ragged = function.get_concrete_function(spec).structured_outputs
    assert dense.shape == (rows, 2, 2)
    assert ragged.shape == (rows, None)
    found, _ = function(tf.constant(records[:rows], tf.string, [rows]))
    assert found.shape == (rows, 2, 2)


@pytest.mark.parametrize(
    ("spec", "received"),
    [
        (tf.TensorSpec([None, None, 3], tf.uint8), r"part 'value'.*tf\.image\.resize"),
        ({"a": tf.TensorSpec([2, None])}, "part 'a'"),
        (tf.SparseTensorSpec([3]), r"tf\.sparse\.to_dense"),
        (tf.RaggedTensorSpec([None, None], ragged_rank=1), r"RaggedTensor\.to_tensor"),
        ({"a": (tf.TensorSpec([], tf.qint8),)}, "qint8 for part 'a/0'"),
        ({1: tf.TensorSpec([])}, r"keys of text\. Received: keys \[1\]"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_the_cure(spec: Any, received: str) -> None:
    with pytest.raises(ValueError, match=received):
        described(spec)
