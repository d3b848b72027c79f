"""Served pipelines in one process: servers of data workers, and a trainer that reads from them."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale
from tests.unit.tfscale.data.pipeline_cases import cases
from tfscale.data import Pipeline, ReadSource, input_pipeline, served, shared
from tfscale.data.service import batch_stream
from tfscale.data.service.batch_server import BatchServer
from tfscale.data.service.description import description
from tfscale.data.sources import RandomAccessSource
from tfscale.launch.ports import reserve_port

X = np.random.default_rng(0).normal(size=(37, 4)).astype(np.float32)
Y = np.arange(37)
Serve = Callable[..., list[BatchServer]]


@functools.cache
def strategy() -> tf.distribute.Strategy:
    return strategies.one_device_strategy()


# Two workers with two replicas each, of which a pipeline counts the devices.
FOUR_REPLICAS = types.SimpleNamespace(
    num_replicas_in_sync=4,
    extended=types.SimpleNamespace(worker_devices=[f"/job:worker/task:0/CPU:{i}" for i in (0, 1)]),
)


def pipeline(**arguments: Any) -> Pipeline:
    return input_pipeline((X, Y), strategy(), **{"global_batch_size": 7, "seed": 3, **arguments})


def parts(batches: tf.data.Dataset, count: int) -> list[list[np.ndarray]]:
    taken = list(batches.take(count))
    assert len(taken) == count
    return [[part.numpy() for part in tf.nest.flatten(b, expand_composites=True)] for b in taken]


def refuse_differences(own: Pipeline, found: Pipeline, steps: int) -> None:
    """Compares what worker 1 of 2 gets for its two replicas."""
    expected, actual = (
        dataclasses.replace(one, strategy=FOUR_REPLICAS).replica_batches(1) for one in (own, found)
    )
    assert actual.element_spec == expected.element_spec
    assert type(actual.element_spec) is type(expected.element_spec)
    assert actual.cardinality() == tf.data.INFINITE_CARDINALITY
    for a, b in zip(parts(expected, 2 * steps), parts(actual, 2 * steps), strict=True):
        for own_part, part in zip(a, b, strict=True):
            np.testing.assert_array_equal(own_part, part)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server for each list of pipelines, and sets the variable for their addresses."""
    servers: list[BatchServer] = []

    def start(
        *pipelines: list[Pipeline], kinds: tuple[type[BatchServer], ...] = (BatchServer,) * 2
    ) -> list[BatchServer]:
        addresses = []
        for own, kind in zip(pipelines, kinds, strict=False):
            with reserve_port() as port:
                port.release()
                addresses.append(port.address)
                servers.append(kind(own, list(map(description, own)), port.address, job=""))
        monkeypatch.setenv("TFSCALE_DATA_WORKERS", ",".join(addresses))
        return servers

    monkeypatch.delenv("TFSCALE_JOB_ID", raising=False)
    monkeypatch.setenv("TFSCALE_START_SECONDS", "120")
    yield start
    Gated.gate.set()  # its threads would keep this process from ending
    for server in servers:
        server.stop()


def test_without_data_workers_pipelines_are_returned_unchanged() -> None:
    one, other = pipeline(), pipeline(seed=4)
    assert served(one) is one
    assert served(one, other) == (one, other)


def rich(batch: Any) -> Any:
    """Every kind of part that a batch may have."""
    x, y = batch
    counts = y % 3
    return {
        "text": tf.strings.as_string(y),
        "ragged": tf.RaggedTensor.from_row_lengths(tf.repeat(y, counts), counts),
        "sparse": tf.sparse.from_dense(x),
        "shared": shared(tf.eye(3)),
    }, tf.cast(x, tf.bfloat16)


def noisy(batch: Any, seeds: tf.Tensor) -> Any:
    x, y = batch
    noise = tf.map_fn(
        lambda seed: tf.random.stateless_normal([4], seed), seeds, fn_output_signature=tf.float32
    )
    return x + noise, y


def test_batches_are_those_of_the_pipeline_itself_from_any_position(serve: Serve) -> None:
    own = [
        pipeline(preprocess=rich),
        pipeline(augment=noisy, remainder="pad"),
        pipeline(remainder="drop", global_batch_size=6),
    ]
    serve(own, own)
    for expected, found in zip(own, served(*own), strict=True):
        refuse_differences(expected.at(2, 2), found.at(2, 2), 5)


@pytest.mark.thorough
def test_every_source_is_served(serve: Serve, tmp_path: Path) -> None:
    own = [
        made
        for arguments in cases(tmp_path).values()
        if isinstance(
            (made := input_pipeline(strategy=strategy(), **arguments)).source, RandomAccessSource
        )
    ]
    assert len(own) > 15
    serve(own, own)
    for expected, found in zip(own, served(*own), strict=True):
        refuse_differences(expected, found, 2 * expected.steps_per_epoch + 2)


def test_a_proxy_of_the_environment_is_not_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    serve([pipeline()])
    refuse_differences(pipeline(), served(pipeline()), 1)


def test_the_batch_size_is_the_trainers(serve: Serve) -> None:
    serve([pipeline(global_batch_size=12)])
    own = pipeline(global_batch_size=5)
    refuse_differences(own, served(own), 6)


def test_fit_and_its_checkpoints_see_the_same_input(serve: Serve) -> None:
    serve([pipeline()])
    weights, orders = [], []
    for train in (pipeline(), served(pipeline())):
        keras.utils.set_random_seed(0)
        with strategy().scope():
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse")
        model.fit(train, epochs=2, verbose=0)
        weights.append(np.concatenate([np.ravel(weight) for weight in model.get_weights()]))
        names = ("seed", "shuffle", "global_batch_size", "remainder", "source_fingerprint")
        orders.append([getattr(train, name) for name in names])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert orders[0] == orders[1]


class Failing:
    """Cannot read its example 20."""

    num_examples, fingerprint = 37, "failing"
    element_spec = tf.TensorSpec([], tf.int64)

    def read(self, indices: np.ndarray) -> np.ndarray:
        if 20 in indices:
            raise OSError("sector 20 is unreadable")
        return indices


def test_an_error_of_the_source_comes_at_its_step(serve: Serve) -> None:
    own = input_pipeline(ReadSource(Failing()), strategy(), 8, shuffle=False)
    serve([own])
    batches = served(own).replica_batches(0)
    parts(batches, 2)
    with pytest.raises(tf.errors.OpError, match=r"step 2 of epoch 0: (?s:.)*sector 20 is unread"):
        parts(batches, 3)


def halved(batch: Any) -> Any:
    return batch[0] / 2, batch[1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "`seed` of pipeline 0 is 4 here and 3 there"),
        ({"shuffle": False}, "`shuffle` of pipeline 0 is order of the source here"),
        ({"remainder": "drop"}, "`remainder` of pipeline 0 is drop here and keep there"),
        ({"preprocess": halved}, "`preprocess` of pipeline 0 is halved, code"),
        ({"augment": noisy}, "`augment` of pipeline 0 is noisy, code"),
    ],
)
def test_another_pipeline_is_refused(serve: Serve, changes: dict[str, Any], named: str) -> None:
    serve([pipeline()])
    with pytest.raises(ValueError, match=named):
        served(pipeline(**changes))


def test_other_rows_another_count_and_another_job_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve([pipeline()])
    with pytest.raises(ValueError, match="`rows of arrays` of pipeline 0"):
        served(input_pipeline((X + 1, Y), strategy(), 7, seed=3))
    with pytest.raises(ValueError, match="the number of pipelines is 2 here and 1 there"):
        served(pipeline(), pipeline())
    monkeypatch.setenv("TFSCALE_JOB_ID", "mine")
    with pytest.raises(ValueError, match="belongs to another job, ''"):
        served(pipeline())


def test_a_data_worker_that_returns_with_another_program_is_refused(serve: Serve) -> None:
    (server,) = serve([pipeline()])
    batches = served(pipeline())
    server._digest = "another"  # as one that was started again
    server._descriptions = [description(pipeline(seed=9))]
    with pytest.raises(tf.errors.OpError, match="`seed` of pipeline 0 is 3 here and 9 there"):
        parts(batches.replica_batches(0), 1)


def test_input_without_random_access_is_refused() -> None:
    stream = input_pipeline(tf.data.Dataset.range(9), strategy(), 3)
    inputs: list[tuple[Any, str]] = [(stream, "StreamSource"), (X, "ndarray")]
    for wrong, name in inputs:
        with pytest.raises(ValueError, match=f"random access. Received: {name}"):
            served(wrong)
    with pytest.raises(ValueError, match="`deadline_seconds` must be positive"):
        served(pipeline(), deadline_seconds=0)


def test_without_any_data_worker_the_error_says_what_was_waited_for(serve: Serve) -> None:
    servers = serve([pipeline()], [pipeline()])
    parts(served(pipeline()).replica_batches(0), 8)  # a first answer of a server takes long
    batches = iter(served(pipeline(), deadline_seconds=4.5).replica_batches(0))
    next(batches)
    for server in servers:
        server.stop()
    with pytest.raises(tf.errors.OpError, match=r"answered for 4\.5 s \(deadline_s") as found:
        list(batches)
    for index in (0, 1):
        assert f"data worker {index} (127.0.0.1:" in str(found.value)
    assert "is down: unavailable" in str(found.value)


class Gated(BatchServer):
    """Answers no question until its gate is opened."""

    gate = threading.Event()
    num_answers = 0

    def _get(self, request: bytes, context: Any) -> bytes:
        self.gate.wait(600)
        Gated.num_answers += 1
        return super()._get(request, context)


def test_a_late_data_worker_is_replaced_and_used_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_stream, "_PATIENCE_SECONDS", 0.3)
    serve([pipeline()], [pipeline()], kinds=(Gated, BatchServer))
    Gated.gate.clear()
    Gated.num_answers = 0
    own, other = pipeline(), served(pipeline(), deadline_seconds=120)
    expected, found = iter(own.replica_batches(0)), iter(other.replica_batches(0))
    for _ in range(60):
        a, b = next(expected), next(found)
        for own_part, part in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
            np.testing.assert_array_equal(own_part.numpy(), part.numpy())
    assert Gated.num_answers == 0
    Gated.gate.set()
    end = time.monotonic() + 120
    while Gated.num_answers < 20 and time.monotonic() < end:
        next(found)
    assert Gated.num_answers >= 20


def test_a_data_worker_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFSCALE_DATA_WORKERS", "127.0.0.1:20001")
    monkeypatch.setenv("TFSCALE_DATA_WORKER", "0")
    with strategy().scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=r"data worker 0.* Call tfscale.data.served\(pipeline\)"):
        model.fit(X, X[:, :1], verbose=0)
    assert tfscale.data.served is served
