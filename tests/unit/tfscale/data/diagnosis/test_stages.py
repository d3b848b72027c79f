"""The stages of pipelines and datasets: what they are, and that each yields what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import strategies
from tfscale import data
from tfscale.data.diagnosis.dataset_stages import dataset_stages
from tfscale.data.diagnosis.memory_batches import PipelineInMemory, size_in_bytes
from tfscale.data.diagnosis.pipeline_stages import pipeline_stages
from tfscale.data.diagnosis.turns import steps_for, take_in_turns


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.one_device_strategy()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for image in range(3):
            pixels = tf.fill([8, 8, 3], tf.cast(10 * number + image, tf.uint8))
            (tmp_path / name / f"{image}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return tmp_path


def doubled(batch: Any) -> Any:
    return tf.cast(batch[0], tf.float32) * 2.0, batch[1]


def one_by_one(batch: Any, seeds: tf.Tensor) -> Any:
    return tf.map_fn(lambda image: image + 1.0, batch[0]), batch[1]


def first(stage: Any) -> Any:
    return next(iter(stage.dataset(0))).data


def test_stages_of_a_pipeline_are_those_of_its_source_and_functions(
    photos: Path, strategy: tf.distribute.Strategy
) -> None:
    pipeline = data.input_pipeline(
        data.image_folder(photos), strategy, 2, preprocess=doubled, augment=one_by_one, seed=3
    )
    stages = {stage.name: stage for stage in pipeline_stages(pipeline)}
    assert list(stages) == ["order", "read", "decode", "preprocess", "augment"]
    indices = first(stages["order"]).numpy()
    files = pipeline.source.files  # type: ignore[union-attr]
    contents, _ = first(stages["read"])
    assert list(contents.numpy()) == [Path(files[i]).read_bytes() for i in indices]
    decoded = first(stages["decode"])[0].numpy()
    np.testing.assert_array_equal(first(stages["preprocess"])[0], 2.0 * decoded)
    np.testing.assert_array_equal(first(stages["augment"])[0], 2.0 * decoded + 1.0)
    expected = next(iter(pipeline.local(0)))
    np.testing.assert_array_equal(first(stages["augment"])[0], expected[0])
    assert stages["augment"].traits.by_row
    assert not stages["preprocess"].traits.by_row


def test_filtered_source_is_read_without_decoding(
    photos: Path, strategy: tf.distribute.Strategy
) -> None:
    source = data.filtered(data.image_folder(photos), lambda batch: batch[1] == 1)
    stages = pipeline_stages(data.input_pipeline(source, strategy, 3, shuffle=False))
    assert [stage.name for stage in stages] == ["order", "read", "decode"]
    contents, labels = first(stages[1])
    assert labels.numpy().tolist() == [1, 1, 1]
    assert contents.dtype == tf.string


def test_python_of_a_dataset_and_its_processes_are_seen(strategy: tf.distribute.Strategy) -> None:
    class Rows:
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return np.float32(index), np.float32(0)

    def in_numpy(batch: Any) -> Any:
        return tf.numpy_function(lambda rows: rows, [batch[0]], tf.float32), batch[1]

    read, preprocess = pipeline_stages(
        data.input_pipeline(Rows(), strategy, 4, preprocess=in_numpy)
    )[1:]
    assert (read.traits.python, read.traits.read_workers) == (True, 0)
    assert preprocess.traits.python


def test_cache_hides_the_dataset_that_filled_it(strategy: tf.distribute.Strategy) -> None:
    class Rows(list[np.float32]):
        pass

    rows = data.indexed(Rows([np.float32(0)] * 8))
    cached = data.cached(rows, "memory")
    (_, read) = pipeline_stages(data.input_pipeline(cached, strategy, 4))
    assert (read.traits.is_cached, read.traits.python) == (True, False)


def test_stages_of_a_dataset_are_its_transformations(strategy: tf.distribute.Strategy) -> None:
    def scaled(number: tf.Tensor) -> tf.Tensor:
        return tf.cast(number, tf.float32) / 2.0

    dataset = tf.data.Dataset.range(100).shuffle(50).map(scaled).batch(8)
    dataset = dataset.map(lambda rows: rows + 1.0, num_parallel_calls=2).prefetch(2)
    stages = dataset_stages(dataset)
    assert [stage.name for stage in stages] == [
        "read",
        "map scaled",
        "batch of 8",
        "map lambda",
    ]
    assert [stage.elements for stage in stages] == [8, 8, 1, 1]
    assert [stage.traits.is_sequential for stage in stages] == [False, True, False, False]
    (rows,) = next(iter(stages[-1].dataset(0)))
    np.testing.assert_array_equal(rows, np.arange(8) / 2.0 + 1.0)  # shuffles are left out
    (half,) = next(iter(stages[1].dataset(0)))
    assert half.numpy() == 0.0


def test_walk_ends_where_the_number_of_elements_is_not_known() -> None:
    dataset = tf.data.Dataset.range(100).map(lambda n: n * 2).filter(lambda n: n > 4).batch(4)
    assert [stage.name for stage in dataset_stages(dataset)] == ["read", "batch of 4"]


def test_decoding_and_generators_are_seen_in_the_graph() -> None:
    encoded = tf.io.encode_png(tf.zeros([2, 2, 3], tf.uint8))
    images = tf.data.Dataset.from_tensors(encoded).map(tf.io.decode_png)
    assert dataset_stages(images)[-1].kind == "decode"
    spec = tf.TensorSpec([], tf.int64)
    rows = tf.data.Dataset.from_generator(lambda: iter(range(9)), output_signature=spec)
    assert dataset_stages(rows.batch(3))[0].traits.python


def test_tables_and_python_of_a_dataset_work_in_its_stages() -> None:
    names = tf.lookup.KeyValueTensorInitializer(["a"], [1])
    table = tf.lookup.StaticHashTable(names, 0)

    def looked_up(name: tf.Tensor) -> tf.Tensor:
        return tf.numpy_function(lambda number: number + 1, [table.lookup(name)], tf.int32)

    dataset = tf.data.Dataset.from_tensors("a").map(looked_up).batch(2)
    _, mapped, batch = dataset_stages(dataset)
    assert mapped.traits.python
    assert next(iter(batch.dataset(0)))[0].numpy().tolist() == [2]


def test_dataset_with_large_arrays_is_one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfscale.data.diagnosis.dataset_stages._LARGEST_GRAPH", 2**12)
    dataset = tf.data.Dataset.from_tensor_slices(np.arange(1000)).batch(2)
    (stage,) = dataset_stages(dataset)
    assert next(iter(stage.dataset(0))).numpy().tolist() == [0, 1]


def test_batches_in_memory_have_the_specs_of_the_pipeline(
    strategy: tf.distribute.Strategy,
) -> None:
    rows = np.arange(10, dtype="float32"), np.arange(10)
    pipeline = data.input_pipeline(rows, strategy, 4, shuffle=False)
    stored = PipelineInMemory(pipeline)
    assert stored.element_spec == pipeline.element_spec
    assert stored.replica_batches(0).element_spec == pipeline.replica_batches(0).element_spec
    taken = [batch[1].numpy().tolist() for batch in stored.local(0).take(3)]
    assert taken == [[0, 1, 2, 3]] * 3


def test_turns_alternate_and_the_first_round_is_not_counted(
    strategy: tf.distribute.Strategy,
) -> None:
    rows = np.zeros(64, "float32"), np.zeros(64)
    stages = pipeline_stages(data.input_pipeline(rows, strategy, 8))
    said: list[str] = []
    turns = take_in_turns(stages, lambda: 0.0, rounds=2, seconds=0.001, say=said.append)
    assert {name: len(each) for name, each in turns.items()} == {"order": 2, "read": 2}
    assert all(turn.seconds > 0 for each in turns.values() for turn in each)
    assert said[-1] == "input: round 2 of 2"


def test_steps_of_a_turn_grow_until_they_take_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("tfscale.data.diagnosis.turns.time.perf_counter", lambda: now[0])

    def take(steps: int) -> None:
        now[0] += 0.01 * steps

    assert steps_for(take, 1.0) == 100


def test_bytes_of_a_batch_are_those_of_its_tensors() -> None:
    batch = {"x": tf.zeros([2, 3], tf.float32), "names": tf.constant(["ab", "cde"])}
    assert size_in_bytes(batch) == 24 + 5
