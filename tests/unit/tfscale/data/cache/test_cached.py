"""What a cached source yields, and when its cache is made again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.tfscale.data.taking import taken
from tfscale.data import (
    ReadSource,
    bucketed,
    cached,
    filtered,
    image_folder,
    input_pipeline,
    mapped,
    mixture,
    packed,
    text_lines,
)
from tfscale.data.cache import cached_source
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.requirements import batch_spec
from tfscale.data.sources import as_source
from tfscale.data.sources.reading import feature_parser

# TensorFlow's own strategy: for what does not depend on the replicas, in this process.
STRATEGY = tf.distribute.OneDeviceStrategy("CPU:0")


class Counting:
    """Squares, whose reader counts what it reads."""

    num_examples, fingerprint = 1000, "squares"
    element_spec = (tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int32))

    def __init__(self, change: int = 0) -> None:
        self.read_rows = 0
        self.change = change

    def read(self, indices: np.ndarray) -> Any:
        self.read_rows += len(indices)
        return indices**2 + self.change, [np.arange(i % 7, dtype=np.int32) for i in indices]


def equal(found: Any, wanted: Any) -> bool:
    """Whether two batches have the same types and the same bits."""
    tf.nest.assert_same_structure(found, wanted, expand_composites=True)
    parts = zip(
        tf.nest.flatten(found, expand_composites=True),
        tf.nest.flatten(wanted, expand_composites=True),
        strict=True,
    )
    return all(
        a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        if a.dtype != tf.string
        else a.numpy().tolist() == b.numpy().tolist()
        for a, b in parts
    )


PARTS: dict[str, Any] = {
    "numbers": np.arange(4, dtype=np.int16) - 2,
    "bool": np.array([True, False, True, True]),
    "nan": np.array([[np.nan, -0.0], [1, np.inf], [2, 3], [4, 5]], np.float32),
    "bfloat16": tf.cast([[1.5], [2], [3], [4]], tf.bfloat16),
    "complex": np.array([1j, 2, 3 + 1j, 0]),
    "nothing": np.zeros([4, 0], np.float64),
    "texts": np.array([["a", ""], ["é", "bcd"], ["", ""], ["x\0y", "z"]]),
    "ragged": tf.ragged.constant([[1.0, 2.0], [], [3.0], [4.0, 5.0, 6.0]]),
    "rows of rows": tf.ragged.constant([[[1, 2], [3]], [], [[]], [[], [4, 5, 6]]]),
    "ragged vectors": tf.RaggedTensor.from_row_lengths(np.eye(5), [1, 0, 3, 1]),
    "ragged texts": tf.ragged.constant([["a", "bcd"], [], [""], ["é"]]),
    "int32 splits": tf.ragged.constant([[1], [2, 3], [], [4]], row_splits_dtype=tf.int32),
}


@pytest.mark.parametrize("part", [*PARTS, "all"])
def test_examples_of_a_cache_have_the_bits_of_the_source(part: str, tmp_path: Path) -> None:
    source: Any = as_source(PARTS if part == "all" else {part: PARTS[part]})
    kept = cached(source, tmp_path)
    assert batch_spec(kept) == batch_spec(source)
    for rows in ([3, 1, 1, 0], [2], [], [0, 1, 2, 3]):
        assert equal(taken(kept, rows), taken(source, rows))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_batches_of_a_pipeline_are_equal_with_and_without_a_cache(
    where: str, tmp_path: Path
) -> None:
    def batches(cache: str | None) -> list[Any]:
        pipeline = input_pipeline(
            ReadSource(Counting()),
            STRATEGY,
            64,
            seed=3,
            cache=cache,
            keep=lambda batch: batch[0] % 3 != 1,
            preprocess=lambda batch: {"x": tf.cast(batch[0], tf.float32) / 7, "y": batch[1]},
            augment=lambda batch, seeds: {**batch, "seeds": seeds},
        )
        return [*pipeline.at(1, 2).local(0).take(20), pipeline.source_fingerprint]

    *plain, fingerprint = batches(None)
    *found, same = batches("memory" if where == "memory" else str(tmp_path / "cache"))
    assert same == fingerprint
    assert len(plain) == 20
    assert all(map(equal, found, plain))


def test_the_source_is_read_once_and_compared_at_later_starts(tmp_path: Path) -> None:
    reader = Counting()
    kept = cached(ReadSource(reader), tmp_path)
    taken(kept, list(range(1000)))
    assert reader.read_rows == 1000 + 64  # 64: to estimate the size
    reader = Counting()
    again = cached(ReadSource(reader), tmp_path)
    assert equal(taken(again, [5, 999]), taken(kept, [5, 999]))
    assert reader.read_rows == 32
    with pytest.raises(ValueError, match=r"Received: a source whose example \d+ differs. If a"):
        cached(ReadSource(Counting(change=1)), tmp_path)


def test_values_of_floats_may_differ_by_rounding(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 100, dtype=np.float32)
    kept = cached(mapped(x, lambda rows: rows * 3, version="1"), tmp_path)
    cached(mapped(x, lambda rows: rows * 3.000001, version="1"), tmp_path)
    with pytest.raises(ValueError, match="differs"):
        cached(mapped(x, lambda rows: rows * 4, version="1"), tmp_path)
    assert kept.num_examples == 100


def folders(where: Path) -> list[Path]:
    return sorted(path for path in where.iterdir() if path.is_dir())


def test_a_changed_array_or_function_makes_another_cache(tmp_path: Path) -> None:
    def keep(array: Any, fn: Callable[[Any], Any], version: str | None = None) -> Any:
        return cached(mapped(array, fn), tmp_path, version=version)

    x = np.arange(50)
    keep(x, lambda rows: rows + 1)
    keep(np.arange(50), lambda rows: rows + 1)
    assert len(folders(tmp_path)) == 1
    assert taken(keep(x, lambda rows: rows + 2), [0]).numpy().tolist() == [2]
    assert taken(keep(x + 1, lambda rows: rows + 1), [0]).numpy().tolist() == [2]
    assert len(folders(tmp_path)) == 3
    own = Counting()
    with pytest.raises(ValueError, match=r"`version` must be a text .*Received: version=None"):
        keep(x, lambda rows: rows + own.change)
    keep(x, lambda rows: rows + own.change, version="a")
    assert len(folders(tmp_path)) == 4


def test_features_of_records_have_a_stable_hash() -> None:
    def key(shape: list[int], default: int) -> str | None:
        ragged = tf.io.RaggedFeature(tf.int64)
        fixed = tf.io.FixedLenFeature(shape, tf.int64, default)
        return function_key(feature_parser({"fixed": fixed, "ragged": ragged}))

    assert key([], 0) is not None
    assert key([], 0) == key([], 0)
    assert len({key([], 0), key([], 1), key([2], 0)}) == 3


def test_an_image_changed_under_its_cache_is_noticed_and_the_old_cache_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, where = tmp_path / "images", tmp_path / "cache"
    (images / "a").mkdir(parents=True)
    for i in range(3):
        content = tf.io.encode_png(tf.fill([4, 4, 3], tf.cast(i, tf.uint8))).numpy()
        (images / "a" / f"{i}.png").write_bytes(content)
    cached(image_folder(images), where)
    (old,) = folders(where)
    capsys.readouterr()
    changed = images / "a" / "1.png"
    size = changed.stat().st_size
    changed.write_bytes(tf.io.encode_png(tf.fill([4, 4, 3], tf.cast(9, tf.uint8))).numpy())
    assert changed.stat().st_size == size
    os.utime(changed, ns=(10**18, 10**18))
    kept = cached(image_folder(images), where)
    assert taken(kept, [1])[0].numpy().max() == 9
    assert re.search(
        rf"other caches, perhaps .*: {old} \([\d,]+ bytes, last used .*, images",
        capsys.readouterr().err,
    )
    assert old in folders(where)


def test_a_mixture_keeps_its_sources_and_packed_sequences_are_kept(tmp_path: Path) -> None:
    mixed = mixture([(np.arange(10), 1), (np.arange(100, 120), 3)])
    kept = cached(mixed, tmp_path)
    assert len(folders(tmp_path)) == 2
    assert kept.num_examples == mixed.num_examples
    rows = list(range(mixed.num_indices))
    assert equal(taken(kept, rows), taken(mixed, rows))
    sequences = packed(tf.ragged.constant([[1, 2], [3], [4, 5, 6], [7]]), length=4, tokens=None)
    rows = list(range(sequences.num_examples))
    assert equal(taken(cached(sequences, tmp_path), rows), taken(sequences, rows))


def test_a_cache_of_a_filtered_source_has_its_examples_only(tmp_path: Path) -> None:
    kept: Any = cached(filtered(np.arange(100), lambda x: x % 10 == 7), tmp_path)
    assert taken(kept, list(range(10))).numpy().tolist() == list(range(7, 100, 10))
    assert kept.size == 10 * (8 + 4)


def test_impossible_arguments_are_refused(tmp_path: Path) -> None:
    ragged = tf.ragged.constant([[1], [2, 3]])
    with pytest.raises(ValueError, match="Cache the source before it is bucketed"):
        cached(bucketed(ragged, boundaries=[2]), tmp_path)
    with pytest.raises(ValueError, match="`budget_bytes` must be"):
        cached(ragged, tmp_path, budget_bytes=0)
    with pytest.raises(ValueError, match="`deadline_seconds` must be finite and not neg"):
        cached(ragged, tmp_path, deadline_seconds=-1)
    wrong: Any
    for wrong in (3, True, "", "gs://bucket/cache", "Memory"):
        with pytest.raises(ValueError, match='`where` must be "memory" or a local folder'):
            cached(ragged, wrong)
        with pytest.raises(ValueError, match=r"^`cache` of input_pipeline, see `cached`: `where`"):
            input_pipeline(ragged, STRATEGY, 1, cache=wrong)
    padded = mapped(ragged, lambda rows: rows.to_tensor())
    with pytest.raises(ValueError, match="Make it ragged, or cache the source without this part"):
        cached(padded, tmp_path)
    with pytest.raises(ValueError, match=r"`cache` must be None for a tf.data.Dataset"):
        input_pipeline(tf.data.Dataset.range(4), STRATEGY, 2, cache="memory")


@pytest.mark.parametrize("where", ["memory", "cache"])
def test_an_example_that_cannot_be_read_is_one_line(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "words.txt"
    path.write_text("one\ntwo\n")
    words = text_lines(str(path))
    path.write_text("three\n")
    rule = "^The source could not be read: ValueError: `files` must not change while they are read"
    with pytest.raises(ValueError, match=rule) as caught:
        cached(words, where)
    assert str(caught.value).endswith("which changed. Build the source again.")


def test_a_budget_that_does_not_suffice_is_refused_before_an_example_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fixed(Counting):
        element_spec = tf.TensorSpec([], tf.int64)

        def read(self, indices: np.ndarray) -> Any:
            return super().read(indices)[0]

    reader = Fixed()
    source = ReadSource(reader)
    message = r"must be at least 12,000 \(12,000 bytes\) for 1,000 examples of 8 bytes. Received"
    with pytest.raises(ValueError, match=message):
        cached(source, tmp_path, budget_bytes=11_999)
    for where, kind in ((tmp_path, "disk space"), ("memory", "memory")):
        monkeypatch.setattr(cached_source, "free_disk", lambda folder: 5000)
        monkeypatch.setattr(cached_source, "free_memory", lambda: 5000)
        message = rf"of free {kind} for 1,000 examples .* with 5,000 bytes free. Free some, pass"
        with pytest.raises(ValueError, match=message):
            cached(source, where)
    assert reader.read_rows == 0
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert cached(source, tmp_path, budget_bytes=12_000).num_examples == 1000


def test_examples_that_are_larger_than_the_estimate_end_the_filling_within_the_budget(
    tmp_path: Path,
) -> None:
    class Growing(Counting):
        element_spec = tf.TensorSpec([None], tf.int32)

        def read(self, indices: np.ndarray) -> Any:
            # A sample for the estimate is one example.
            return [np.zeros(100 if len(indices) > 1 else 0, np.int32) for _ in indices]

    message = r"`budget_bytes` must be at least about .* which the first examples exceed already"
    with pytest.raises(ValueError, match=message):
        cached(ReadSource(Growing()), tmp_path, budget_bytes=200_000)
    assert list(tmp_path.iterdir()) == []
