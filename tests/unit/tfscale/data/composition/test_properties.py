"""Properties of every composition, in every order, on every topology; the cases are random."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.extension import EvenReplicaBatch
from tests.unit.tfscale.records.record_makers import write
from tfscale.data import (
    BlockShuffle,
    RandomAccessSource,
    ReadSource,
    bucketed,
    filtered,
    mixture,
    packed,
    record_files,
)
from tfscale.data.batches import Cut, random_access_batches
from tfscale.data.order import Order
from tfscale.data.sources import Division
from tfscale.data.sources.arrays import array_source

KINDS = ("plain", "shards", "filtered", "mixture", "packed", "bucketed", "nested")
FOLDER = tempfile.TemporaryDirectory()
"""Of record files, removed at the end of the process."""
QUICK = settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(QUICK, max_examples=8)
MANY = settings(QUICK, max_examples=600)
MANY_TOPOLOGIES = settings(QUICK, max_examples=60)


class Case(NamedTuple):
    """A source, and how often NumPy says that each of its examples is in an epoch."""

    source: RandomAccessSource
    times: np.ndarray
    order: Order
    division: Division
    sizes: list[int]  # the examples of each bucket


def sequences(lengths: np.ndarray) -> tf.RaggedTensor:
    """Sequence i has as many tokens i."""
    values = tf.repeat(tf.range(len(lengths), dtype=tf.int64), tf.constant(lengths))
    return tf.RaggedTensor.from_row_lengths(values, tf.constant(lengths))


def shards_of(numbers: np.ndarray, count: int) -> RandomAccessSource:
    """Record files with these numbers, in at most `count` files of about equal length."""
    paths = []
    folder = Path(FOLDER.name, f"{len(numbers)}-{count}")
    folder.mkdir(exist_ok=True)
    for shard, part in enumerate(np.array_split(numbers, min(count, len(numbers)))):
        paths.append(folder / f"{shard:03}")
        write(paths[-1], [int(number).to_bytes(8, "little") for number in part])
    return record_files(paths, decode=lambda record: tf.io.decode_raw(record, tf.int64)[0])


@st.composite
def cases(draw: st.DrawFn, most: int = 10**4) -> Case:
    kind = draw(st.sampled_from(KINDS))
    fewest = 2 if kind == "nested" else 1  # its filter would keep nothing of one example
    count = draw(st.integers(fewest, most) | st.integers(fewest, 20))
    x = np.arange(count)
    lengths = np.random.default_rng(count).integers(1, 9, count)
    times, sizes = np.ones([count], np.int64), []
    source: RandomAccessSource = array_source(x)
    if kind == "shards":
        source = shards_of(x, draw(st.integers(1, 100)))
    elif kind == "filtered":
        divisor = draw(st.integers(1, 5))
        source = filtered(x, lambda batch: batch % divisor == 0)
        times = np.ones([-(-count // divisor)], np.int64)
    elif kind == "packed":
        source = packed(sequences(lengths), length=draw(st.integers(8, 30)), tokens=None)
        times = np.ones([source.num_examples], np.int64)
    elif kind == "bucketed":
        limits = draw(st.sampled_from(((8,), (4, 8), (1, 3, 5, 10))))
        source = bucketed(sequences(lengths), boundaries=limits)
        sizes = np.bincount(np.searchsorted(limits, lengths), minlength=len(limits)).tolist()
    elif kind in ("mixture", "nested"):
        # Equal weights draw equal numbers, so that every example is in an epoch once.
        source = mixture([(x, 1), (x + count, 1)])
        times = np.ones([2 * count], np.int64)
        if kind == "nested":
            even = filtered(source, lambda batch: batch % 2 == 0)
            even_count = even.num_indices
            source = mixture([(even, 1), (np.arange(even.num_examples), 1)], until="all")
            times = np.ones([even_count + even.num_examples], np.int64)
            if count % 2:  # the halves differ in size, and the epoch ends before the larger one
                times = np.full_like(times, -1)
    blocks = st.builds(BlockShuffle, block=st.integers(1, 50), window=st.integers(1, 5))
    order = draw(
        st.just(Order(None)) | st.builds(Order, st.integers(0, 2**31 - 1), st.none() | blocks)
    )
    size = draw(st.integers(1, min(source.num_examples, 64)))
    drop = draw(st.booleans()) and max(sizes or [source.num_examples]) >= size
    return Case(source, times, order, source.division(size, drop_remainder=drop), sizes)


def steps_of(case: Case, epoch: int, first: int, stop: int) -> list[np.ndarray]:
    """The examples' indices in global batches, looked up at once and without a pipeline."""
    steps = tf.range(first, stop, dtype=tf.int64)
    starts, ends = case.division.bounds(steps, tf.constant(epoch, tf.int64), case.order)
    starts, sizes = starts.numpy(), (ends - starts).numpy()
    positions = np.concatenate([np.arange(a, a + n) for a, n in zip(starts, sizes, strict=True)])
    indices = case.source.indices(tf.constant(positions), tf.constant(epoch, tf.int64), case.order)
    return np.split(indices.numpy(), np.cumsum(sizes)[:-1])


def check_epoch(case: Case, epoch: int) -> None:
    """Every example is in an epoch as often as it should, and steps are as many as they should."""
    division = case.division
    batches = steps_of(case, epoch, 0, division.steps)
    size, sizes = division.batch_size, case.sizes or [case.source.num_examples]
    counted = [n // size if division.is_even else -(-n // size) for n in sizes]
    assert len(batches) == sum(counted)
    assert all(0 < len(batch) <= size for batch in batches)
    times = np.bincount(np.concatenate(batches), minlength=case.source.num_indices)
    if division.is_even:
        assert all(len(batch) == size for batch in batches)
        if case.times.min() > 0:
            assert times.max() == 1
    elif case.times.min() > 0:
        np.testing.assert_array_equal(times, case.times)
    if case.sizes:
        width = {case.source.take(tf.constant(batch)).shape[1] for batch in batches}
        assert width <= set(case.source.boundaries)  # type: ignore[attr-defined]


def check_topology(
    case: Case, epoch: int, step: int, workers: int, local_replicas: int, steps: int = 5
) -> None:
    """Global batches put together from all workers are those that one look-up finds."""
    division = case.division
    places = [divmod(epoch * division.steps + step + i, division.steps) for i in range(steps)]
    expected = [case.source.take(tf.constant(steps_of(case, e, s, s + 1)[0])) for e, s in places]
    if isinstance(case.source, ReadSource):  # example i is number i
        for (e, s), batch in zip(places, expected, strict=True):
            np.testing.assert_array_equal(batch, steps_of(case, e, s, s + 1)[0])
    read: list[list[Any]] = [[] for _ in places]
    for worker in range(workers):
        cut = Cut(
            division=case.division,
            order=case.order,
            is_padded=False,
            first_epoch=epoch,
            first_step=step,
            first_replica=worker * local_replicas,
            local_replicas=local_replicas,
            num_replicas=workers * local_replicas,
        )
        dataset = random_access_batches(case.source, cut, lambda batch, positions, epoch: batch)
        for i, batch in enumerate(dataset.take(steps * local_replicas)):
            rows = tf.nest.map_structure(lambda part, batch=batch: part[: count(batch)], batch.data)
            read[i // local_replicas].append(rows)
    for found, batch in zip(read, expected, strict=True):
        joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *found)
        tf.nest.map_structure(np.testing.assert_array_equal, joined, batch)


def count(batch: Any) -> int | None:
    return None if isinstance(batch, EvenReplicaBatch) else int(batch.examples)


@QUICK
@given(case=cases(), epoch=st.integers(0, 1000))
def test_every_example_is_in_an_epoch_once(case: Case, epoch: int) -> None:
    check_epoch(case, epoch)


@FEW
@given(
    data=st.data(),
    epoch=st.integers(0, 3),
    topology=st.tuples(st.integers(1, 4), st.integers(1, 3)),
)
def test_global_batches_are_the_same_for_every_topology_and_after_every_interruption(
    data: Any, epoch: int, topology: tuple[int, int]
) -> None:
    case = data.draw(cases(most=300))
    step = data.draw(st.integers(0, case.division.steps - 1))
    check_topology(case, epoch, step, *topology)


@pytest.mark.thorough
@MANY
@given(case=cases(), epoch=st.integers(0, 10**6))
def test_every_example_is_in_an_epoch_once_at_length(case: Case, epoch: int) -> None:
    check_epoch(case, epoch)


@pytest.mark.thorough
@MANY_TOPOLOGIES
@given(
    data=st.data(),
    epoch=st.integers(0, 100),
    topology=st.tuples(st.integers(1, 16), st.integers(1, 8)),
)
def test_global_batches_are_the_same_for_every_topology_at_length(
    data: Any, epoch: int, topology: tuple[int, int]
) -> None:
    case = data.draw(cases())
    step = data.draw(st.integers(0, case.division.steps - 1))
    check_topology(case, epoch, step, *topology, steps=20)


@pytest.mark.parametrize("kind", ["array", "ragged"])
def test_no_examples_are_refused(kind: str) -> None:
    empty = np.zeros([0]) if kind == "array" else sequences(np.zeros([0], np.int64))
    with pytest.raises(ValueError, match="arrays of the same positive length"):
        filtered(empty, lambda batch: batch > 0)
