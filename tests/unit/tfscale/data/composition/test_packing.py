from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import bucketed, filtered, mixture, packed
from tfscale.data.composition.bins import best_fit
from tfscale.data.composition.packing import Packed


def lognormal_lengths(count: int, length: int) -> np.ndarray:
    """Lengths as documents have them: half are below a tenth of `length`, few reach it."""
    lengths = np.random.default_rng(0).lognormal(np.log(length / 10), 1.0, count)
    return np.clip(lengths, 1, length).astype(np.int64)


def ragged(lengths: Any) -> tf.RaggedTensor:
    """Sequences in which all tokens differ: 1, 2, 3, ..."""
    values = tf.range(1, int(np.sum(lengths)) + 1)
    return tf.RaggedTensor.from_row_lengths(values, tf.constant(lengths, tf.int64))


def segments(batch: Any) -> list[list[int]]:
    """The sequences of packed examples, whose positions and padding are checked."""
    found = []
    parts = (batch[name].numpy() for name in ("tokens", "segment_ids", "positions"))
    for tokens, ids, positions in zip(*parts, strict=True):
        count = ids.max()
        for number in range(1, count + 1):
            at = np.flatnonzero(ids == number)
            np.testing.assert_array_equal(at, np.arange(at[0], at[0] + len(at)))
            np.testing.assert_array_equal(positions[at], np.arange(len(at)))
            found.append(tokens[at].tolist())
        used = int((ids > 0).sum())
        assert (np.diff(ids[:used]) >= 0).all()
        assert not ids[used:].any()
        assert not tokens[used:].any()
        assert not positions[used:].any()
    return found


def whole(source: Any) -> Any:
    return source.take(tf.range(source.num_examples, dtype=tf.int64))


def test_every_sequence_is_in_one_example_whole() -> None:
    sequences = ragged(np.random.default_rng(1).integers(0, 17, 500))
    source = packed({"tokens": sequences, "other": np.zeros(500)}, length=16)
    expected = sorted(row for row in sequences.to_list() if row)
    assert sorted(segments(whole(source))) == expected
    assert isinstance(source, Packed)
    assert source.num_tokens == sum(map(len, expected))


def test_sequences_of_equal_length_need_no_ragged_tensor() -> None:
    rows = np.arange(1, 41).reshape(10, 4)
    source = packed(rows, length=9, tokens=None)
    assert source.num_examples == 5
    assert sorted(segments(whole(source))) == rows.tolist()


def test_long_sequences_are_split_without_losing_a_token() -> None:
    sequences = ragged([40, 3, 16, 17, 0, 1])
    source = packed(sequences, length=16, tokens=None, longer="split")
    pieces = sorted(segments(whole(source)))
    assert sorted(itertools.chain(*pieces)) == list(range(1, 78))
    assert sorted(map(len, pieces)) == [1, 1, 3, 8, 16, 16, 16, 16]


def test_long_sequences_are_truncated_to_their_first_tokens() -> None:
    sequences = ragged([40, 3, 17])
    source = packed(sequences, length=16, tokens=None, longer="truncate")
    expected = sorted(row[:16] for row in sequences.to_list())
    assert sorted(segments(whole(source))) == expected


def test_the_packing_depends_on_lengths_and_seed_only() -> None:
    lengths = np.random.default_rng(1).integers(1, 17, 500)
    first, again, other = (
        packed(ragged(lengths), length=16, tokens=None, seed=s) for s in (0, 0, 1)
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(whole(first)["tokens"], whole(again)["tokens"])
    assert (whole(first)["tokens"].numpy()[:50] != whole(other)["tokens"].numpy()[:50]).any()


def test_shapes_and_types_are_static() -> None:
    source = packed(ragged([3, 5]), length=8, tokens=None)
    spec = tf.data.Dataset.range(1).batch(2, drop_remainder=True).map(source.take).element_spec
    assert spec == {
        "tokens": tf.TensorSpec([2, 8], tf.int32),
        "segment_ids": tf.TensorSpec([2, 8], tf.int32),
        "positions": tf.TensorSpec([2, 8], tf.int32),
    }
    assert source.take(tf.zeros([0], tf.int64))["tokens"].shape == (0, 8)


def slow_best_fit(lengths: np.ndarray, size: int) -> int:
    """The number of bins of best-fit decreasing, piece by piece."""
    rooms: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda i: rooms[i])] -= length
        else:
            rooms.append(size - length)
    return len(rooms)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 400])
def test_bins_are_those_of_best_fit_decreasing(size: int) -> None:
    random = np.random.default_rng(size)
    for count in (1, 2, 30, 300):
        lengths = random.integers(1, size + 1, count)
        bins = best_fit(lengths, size, seed=3)
        assert len(bins.splits) - 1 == slow_best_fit(lengths, size)
        np.testing.assert_array_equal(np.sort(bins.pieces), np.arange(count))
        assert np.add.reduceat(lengths[bins.pieces], bins.splits[:-1]).max() <= size
        assert (np.diff(bins.splits) > 0).all()


@pytest.mark.parametrize("length", [512, 8192])
def test_a_million_documents_fill_their_examples_within_seconds(length: int) -> None:
    lengths = lognormal_lengths(10**6, length)
    start = time.process_time()
    bins = best_fit(lengths, length, seed=0)
    assert time.process_time() - start < 5  # measured: 0.25 seconds
    bound = -(-lengths.sum() // length)
    assert len(bins.splits) - 1 < 1.001 * bound  # measured: 1.0001


def test_cached_lengths_are_those_that_were_read(tmp_path: Path) -> None:
    sequences = ragged(np.arange(1, 17))
    first = packed(sequences, length=16, tokens=None, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    second = packed(sequences, length=16, tokens=None, cache_dir=tmp_path)
    assert file.stat().st_mtime_ns == before
    assert second.fingerprint == first.fingerprint


def test_packed_sources_are_filtered_and_mixed() -> None:
    many, few = (packed(ragged([4] * n), length=8, tokens=None) for n in (40, 10))
    full = filtered(many, lambda batch: batch["tokens"][:, 0] > 80)
    both = mixture([(full, 1), (few, 1)], until="all")
    batch = both.take(tf.range(both.num_indices, dtype=tf.int64))
    assert both.num_indices == full.num_examples + few.num_examples < 25
    assert set(np.unique(batch["segment_ids"])) == {1, 2}


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (ragged([3, 9]), {"length": 8}, "`length` must be at least 9, the tokens of example 1"),
        (ragged([3, 9]), {"length": 0}, "`length` must be an integer in"),
        (ragged([3, 9]), {"length": 9, "longer": "cut"}, "`longer` must be one of"),
        (ragged([3, 9]), {"length": 9, "seed": -1}, "`seed` must be"),
        (ragged([0, 0]), {"length": 9}, "must have a sequence that is not empty"),
        (ragged([3, 9]), {"length": 9, "tokens": "text"}, "must be a key of the examples"),
        ({"a": ragged([3])}, {"length": 9, "tokens": "b"}, r"the keys are: \['a'\]"),
        ({"a": np.zeros(3)}, {"length": 9, "tokens": "a"}, "one sequence of tokens for each"),
        (mixture([(ragged([3]), 1), (ragged([4]), 1)]), {"length": 9}, "mix the packed ones"),
    ],
)
def test_what_cannot_be_packed_is_refused(
    source: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        packed(source, **{"tokens": None, **arguments})


def test_a_bucketed_source_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be a mixture or bucketed"):
        packed(bucketed(ragged([3]), boundaries=[4]), length=9, tokens=None)
