from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import recipes.digits.digits_dataset_builder  # noqa: F401  (registers "digits")
from tests.programs import forked
from tfscale.data import Pipeline, input_pipeline

ROOT = Path(__file__).resolve().parents[4]
HERE = Path(__file__).parent
DEADLINE = 300.0

LAYOUTS = ("1", "3", "workers")
# Three replicas have unequal shares more often; two are for `make thorough`.
AND_TWO = (*LAYOUTS, pytest.param("2", marks=pytest.mark.thorough))
NAMES = (
    "arrays",
    "whole batches",
    "dropped remainder",
    "one batch",
    "one example",
    "in order",
    "nested",
    "memmap",
    "preprocessed",
    "augmented",
    "stream",
    "stream in order",
    "augmented stream",
    "short stream",
    "sparse stream",
    "uneven replicas",
    "uneven replicas, dropped",
    "cached",
    "kept",
    "mixture",
    "indexed",
    "parquet",
    "buckets",
    "packed",
    "blocks",
)

# TensorFlow's own strategy: for what does not depend on the replicas, in this process.
ONE = tf.distribute.OneDeviceStrategy("CPU:0")


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Layout -> case -> what each process read there, workers put together.

    Two replicas only if a test that needs them is selected.
    """
    of_module = [item for item in request.session.items if item.path == request.path]
    is_at_length = any(item.get_closest_marker("thorough") for item in of_module)
    mirrored = ("3", "2", "1") if is_at_length else ("3", "1")  # the CPU is cut once
    folder = tmp_path_factory.mktemp("pipelines")
    script = str(HERE / "pipeline_cases.py")
    read = {}
    launch = ("-m", "tfscale", "launch", "--num_workers=2", "--", sys.executable)
    children = [
        start(*forked(script, "mirrored", str(folder / "mirrored"), *mirrored)),
        start(*launch, *forked(script, "workers", str(folder / "workers"))),
    ]
    try:
        for child in children:
            finish(child)
    finally:
        for child in children:
            child.kill()
    for layout in mirrored:
        read[layout] = json.loads((folder / f"mirrored.{layout}").read_text())
    each = [json.loads((folder / f"workers.{worker}").read_text()) for worker in range(2)]
    read["workers"] = {name: joined(each[0][name], each[1][name]) for name in each[0]}
    return read


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What two workers hold together."""
    whole = dict(first)
    for key in ("batches", "later"):
        whole[key] = [
            {
                "parts": [p + q for p, q in zip(a["parts"], b["parts"], strict=True)],
                "sizes": a["sizes"] + b["sizes"],
            }
            for a, b in zip(first[key], second[key], strict=True)
        ]
    return whole


def parts(case: dict[str, Any], key: str = "batches") -> list[Any]:
    return [batch["parts"] for batch in case[key]]


def test_every_case_is_looked_at(found: dict[str, dict[str, Any]]) -> None:
    assert set(NAMES) == set(found["1"])


@pytest.mark.parametrize("layout", AND_TWO[1:])
@pytest.mark.parametrize("name", NAMES)
def test_global_batches_are_the_same_for_any_replicas_and_workers(
    found: dict[str, dict[str, Any]], layout: str, name: str
) -> None:
    assert parts(found[layout][name]) == parts(found["1"][name])


@pytest.mark.parametrize("layout", AND_TWO)
@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_continues_from_any_place_as_if_it_had_not_stopped(
    found: dict[str, dict[str, Any]], layout: str, name: str
) -> None:
    case = found[layout][name]
    begins = 2 * case["steps_per_epoch"] - 1  # The last, perhaps partial, step of epoch 1.
    assert case["later"] == case["batches"][begins:]


@pytest.mark.parametrize("layout", AND_TWO)
@pytest.mark.parametrize("name", NAMES)
def test_replicas_take_shares_at_most_one_row_apart(
    found: dict[str, dict[str, Any]], layout: str, name: str
) -> None:
    case = found[layout][name]
    for batch in case["batches"]:
        sizes = batch["sizes"]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == len(batch["parts"][0])
    assert case["is_endless"]


@pytest.mark.parametrize(
    ("name", "rows", "steps"),
    [
        ("arrays", 37, 7),
        ("whole batches", 36, 6),
        ("one batch", 6, 1),
        ("one example", 7, 2),  # The second batch is one row: two of three replicas get none.
        ("memmap", 37, 7),
        ("blocks", 37, 7),
        ("uneven replicas", 37, 6),
        ("stream", 37, 7),
    ],
)
def test_an_epoch_holds_each_example_once_in_an_order_of_its_own(
    found: dict[str, dict[str, Any]], name: str, rows: int, steps: int
) -> None:
    case = found["1"][name]
    assert case["steps_per_epoch"] == steps
    ids = [batch[0] for batch in parts(case)]
    epochs = [list(itertools.chain(*ids[e * steps : (e + 1) * steps])) for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(rows))] * 3
    assert len({tuple(epoch) for epoch in [*epochs, tuple(range(rows))]}) == 4


@pytest.mark.parametrize("name", ["dropped remainder", "short stream"])
def test_only_whole_batches_remain_where_the_remainder_is_dropped(
    found: dict[str, dict[str, Any]], name: str
) -> None:
    case = found["1"][name]
    size = {"dropped remainder": 6, "short stream": 12}[name]
    assert case["steps_per_epoch"] == 37 // size
    first = parts(case)[: 37 // size]
    assert [len(batch[0]) for batch in first] == [size] * (37 // size)
    assert len({row for batch in first for row in batch[0]}) == 37 // size * size


def test_without_shuffling_examples_come_in_the_sources_order(
    found: dict[str, dict[str, Any]],
) -> None:
    for name, size in (("in order", 12), ("stream in order", 6)):
        steps = found["3"][name]["steps_per_epoch"]
        batches = [batch[0] for batch in parts(found["3"][name])]
        expected = [list(range(i, min(i + size, 37))) for i in range(0, 37, size)]
        assert batches[: 2 * steps] == expected * 2


def test_parts_of_a_structure_stay_together(found: dict[str, dict[str, Any]]) -> None:
    for ids, ragged, letters in parts(found["3"]["nested"]):
        assert ragged == [[i] * (i % 3 + 1) for i in ids]
        assert letters == [str(i) for i in ids]
    for from_file, ids in parts(found["3"]["memmap"]):
        assert from_file == ids
    arrays = [batch[0] for batch in parts(found["3"]["arrays"])]
    assert [batch[0] for batch in parts(found["3"]["preprocessed"])] == [
        [2 * i for i in ids] for ids in arrays
    ]


def test_every_example_of_every_epoch_is_augmented_with_a_seed_of_its_own(
    found: dict[str, dict[str, Any]],
) -> None:
    for name in ("augmented", "augmented stream"):
        steps = found["3"][name]["steps_per_epoch"]
        seeds = [seed for _, _, s in parts(found["3"][name])[: 3 * steps] for seed in s]
        assert len(seeds) == 3 * 37
        assert len({tuple(seed) for seed in seeds}) == 3 * 37


@pytest.mark.parametrize("layout", AND_TWO)
def test_shapes_are_static_where_no_share_differs(
    found: dict[str, dict[str, Any]], layout: str
) -> None:
    replicas = {"workers": 2}.get(layout) or int(layout)
    for name in ("whole batches", "dropped remainder", "one batch"):
        assert found[layout][name]["rows"] == [6 // replicas]
    assert found[layout]["arrays"]["rows"] == [None]


def test_fit_evaluate_and_predict_take_a_pipeline_as_keras_takes_arrays() -> None:
    output = finish(start(*forked(str(HERE / "pipeline_fit.py"))))
    for name, (ours, keras_alone) in json.loads(output).items():
        np.testing.assert_allclose(ours, keras_alone, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("num_examples", "size", "drop_remainder", "steps"),
    [
        (10, 5, False, 2),
        (11, 5, False, 3),
        (11, 5, True, 2),
        (5, 5, True, 1),
        (1, 1, False, 1),
    ],
)
def test_steps_of_an_epoch(num_examples: int, size: int, drop_remainder: bool, steps: int) -> None:
    for source in (np.arange(num_examples), tf.data.Dataset.range(num_examples)):
        pipeline = input_pipeline(source, ONE, size, drop_remainder=drop_remainder)
        assert pipeline.steps_per_epoch == steps


def test_a_pipeline_is_frozen() -> None:
    pipeline = input_pipeline(np.arange(4), ONE, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        pipeline.seed = 1  # type: ignore[misc]
    assert pipeline.at(1, 1) is not pipeline
    assert (pipeline.first_epoch, pipeline.first_step) == (0, 0)


def ids(pipeline: Pipeline, steps: int) -> list[list[int]]:
    return [batch.numpy().tolist() for batch in pipeline.local(0).take(steps)]


@pytest.mark.parametrize("steps", [40, 16, 17])  # An epoch of several look-ups, of one, and over.
def test_a_long_epoch_continues_from_each_of_its_steps(steps: int) -> None:
    pipeline = input_pipeline(np.arange(2 * steps - 1), ONE, 2)
    uninterrupted = ids(pipeline, 2 * steps + 3)
    for epoch, step in ((0, 1), (0, 15), (0, steps - 1), (1, 0), (1, 7), (1, steps - 1)):
        begins = epoch * steps + step
        assert ids(pipeline.at(epoch, step), 2 * steps + 3 - begins) == uninterrupted[begins:]
    assert ids(pipeline.at(1).at(0, 2), 1) == uninterrupted[2:3]  # Places are not relative.


def test_numbers_of_numpy_are_numbers() -> None:
    two: Any = np.int64(2)
    three: Any = np.int32(3)
    pipeline = input_pipeline(np.arange(9), ONE, two, seed=three, shuffle_window=two)
    assert pipeline.at(two, three).first_step == 3
    assert ids(pipeline, 5) == ids(input_pipeline(np.arange(9), ONE, 2, seed=3), 5)


def test_seeds_give_different_orders() -> None:
    for source in (np.arange(50), tf.data.Dataset.range(50)):
        orders = [ids(input_pipeline(source, ONE, 50, seed=seed), 1) for seed in (0, 1, 2**31 - 1)]
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_global_seed_is_left_alone_and_changes_nothing() -> None:
    source = tf.data.Dataset.range(30)
    without = ids(input_pipeline(source, ONE, 10), 6)
    tf.random.set_seed(5)
    drawn = tf.random.uniform([]).numpy()
    tf.random.set_seed(5)
    assert ids(input_pipeline(source, ONE, 10), 6) == without
    assert tf.random.uniform([]).numpy() == drawn


def test_a_name_is_read_through_tfds(tmp_path: Path) -> None:
    pipeline = input_pipeline("digits:test", ONE, 100, data_dir=tmp_path, shuffle=False)
    image, label = next(iter(pipeline.local(0)))
    assert (image.shape, label.shape) == ((100, 8, 8, 1), (100,))
    assert pipeline.source.num_examples == 360


BAD = [
    ({"global_batch_size": 0}, "`global_batch_size` must be a positive integer"),
    ({"global_batch_size": 2.0}, "`global_batch_size` must be a positive integer"),
    ({"global_batch_size": True}, "`global_batch_size` must be a positive integer"),
    ({"global_batch_size": 11}, "`global_batch_size` must be at most 10, .*=11. Use a smaller"),
    ({"shuffle_window": 0}, "`shuffle_window` must be a positive integer"),
    ({"seed": -1}, r"`seed` must be an integer in \[0, 2\*\*31\). Received: seed=-1"),
    ({"seed": 2**31}, r"`seed` must be an integer in"),
    ({"seed": 0.5}, r"`seed` must be an integer in"),
    ({"seed": True}, r"`seed` must be an integer in"),
    ({"seed": None}, r"`seed` must be an integer in"),
    ({"remainder": "fill"}, "`remainder` must be one of .*Received: remainder='fill'"),
    ({"remainder": "pad", "drop_remainder": True}, "`remainder` must not be 'pad' with drop"),
    ({"shuffle": "blocks"}, "`shuffle` must be"),
    ({"data_dir": "data"}, "`data_dir` must be None unless `source` is a TFDS name"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=str)
def test_an_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {"global_batch_size": 5, **arguments}
    with pytest.raises(ValueError, match=message):
        input_pipeline(np.arange(10), ONE, **whole)


@pytest.mark.parametrize(
    "place", [(-1, 0), (0, -1), (0, 5), (0.0, 0), (0, None), (True, 0)], ids=str
)
def test_an_impossible_position_is_refused(place: tuple[Any, Any]) -> None:
    pipeline = input_pipeline(np.arange(10), ONE, 2)
    rule = r"`epoch` must be an integer, at least 0\.|`step` must be an integer in \[0, 5\)\."
    with pytest.raises(ValueError, match=rule):
        pipeline.at(*place)


@pytest.mark.parametrize("worker", [-1, 1])
def test_a_worker_that_is_not_there_is_refused(worker: int) -> None:
    pipeline = input_pipeline(np.arange(10), ONE, 2)
    with pytest.raises(ValueError, match=r"`worker` must be in \[0, 1\)\. Received: worker="):
        pipeline.local(worker)


@pytest.mark.parametrize("name", ["preprocess", "augment"])
@pytest.mark.parametrize("size", [5, 4], ids=["known when built", "known in a step"])
def test_a_function_that_changes_the_number_of_rows_is_refused(name: str, size: int) -> None:
    functions: dict[str, Any] = {
        "preprocess": lambda batch: tf.repeat(batch, 2),
        "augment": lambda batch, seeds: tf.boolean_mask(batch, batch > 0),
    }
    pipeline = input_pipeline(np.zeros(10), ONE, size, **{name: functions[name]})
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match=rf"`{name}` must return as many rows"
    ):
        next(iter(pipeline.local(0)))


def test_a_function_that_gives_a_scalar_is_refused() -> None:
    pipeline = input_pipeline(np.zeros(10), ONE, 5, preprocess=tf.reduce_sum)
    with pytest.raises(
        ValueError, match=r"`preprocess` must return .* Received: a part of shape \(\)"
    ):
        next(iter(pipeline.local(0)))
