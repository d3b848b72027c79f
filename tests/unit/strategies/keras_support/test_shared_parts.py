"""Declared shared parts are not split; other parts that are not rows of examples are refused."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
import tfscale

pytestmark = pytest.mark.own_process

DRAW = np.random.default_rng(0)
NODES, TARGETS = DRAW.normal(size=(22, 6, 2)), DRAW.normal(size=(22, 1))
ADJACENCY = DRAW.random((6, 6))
SHARED = tfscale.data.shared


@pytest.fixture(scope="module")
def made() -> dict[str, tf.distribute.Strategy]:
    three = strategies.mirrored_strategy(3)
    two = strategies.mirrored_strategy(2)
    return {"3": three, "2": two, "one device": strategies.one_device_strategy()}


@pytest.fixture(autouse=True)
def _in_float64() -> None:
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


class OfGraph(keras.Model):
    """Takes the features of a graph's nodes, its adjacency (dense or sparse) and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.end = keras.layers.Dense(3), keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        adjacency = inputs["adjacency"]
        if isinstance(adjacency, tf.SparseTensor):
            adjacency = tf.sparse.to_dense(adjacency)
        spread = tf.einsum("uv,bvf->buf", adjacency, inputs["nodes"])
        return self.end(tf.reduce_sum(self.hidden(spread), axis=1)) * inputs["scale"]


def batches(adjacency: Any, size: int = 6, weighted: bool = False) -> tf.data.Dataset:
    """Six examples per batch, as many as the graph has nodes, so that only a declaration helps."""

    def with_graph(nodes: Any, targets: Any, weights: Any) -> Any:
        scale = tf.constant(0.5, tf.float64)
        inputs = {"nodes": nodes, "adjacency": SHARED(adjacency), "scale": scale}
        return (inputs, targets, weights) if weighted else (inputs, targets)

    weights = np.arange(22.0)
    data = tf.data.Dataset.from_tensor_slices((NODES, TARGETS, weights)).batch(size)
    return data.map(with_graph)


def trained(strategy: tf.distribute.Strategy, data: tf.data.Dataset) -> list[Any]:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = OfGraph()
        model.compile(keras.optimizers.SGD(0.001), "mse", metrics=["mae"])
    history = model.fit(data, epochs=2, validation_data=data, verbose=0).history
    scores, rows = model.evaluate(data, verbose=0), model.predict(data, verbose=0)
    return [np.asarray(part) for part in (*model.get_weights(), *history.values(), scores, rows)]


@pytest.mark.parametrize("on", [pytest.param("2", marks=pytest.mark.thorough), "3", "one device"])
@pytest.mark.parametrize(
    "kind",
    # "weighted" has a dense part too.
    [pytest.param("dense", marks=pytest.mark.thorough), "sparse", "weighted"],
)
def test_a_shared_part_is_whole_on_every_replica(
    made: dict[str, tf.distribute.Strategy], on: str, kind: str
) -> None:
    adjacency = tf.sparse.from_dense(ADJACENCY) if kind == "sparse" else tf.constant(ADJACENCY)
    data = batches(adjacency, weighted=kind == "weighted")
    expected = trained(tf.distribute.get_strategy(), data)
    for found, wanted in zip(trained(made[on], data), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_batch_in_memory_may_contain_a_shared_part(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    def stepped(strategy: tf.distribute.Strategy, adjacency: Any) -> Any:
        keras.utils.set_random_seed(3)
        with strategy.scope():
            model = OfGraph()
            model.compile(keras.optimizers.SGD(0.001), "mse")
        inputs = {"nodes": NODES[:5], "adjacency": adjacency, "scale": np.float64(0.5)}
        model.train_on_batch(inputs, TARGETS[:5])
        return model.predict_on_batch(inputs)

    found = stepped(made["3"], SHARED(ADJACENCY))
    np.testing.assert_allclose(found, stepped(tf.distribute.get_strategy(), ADJACENCY), rtol=1e-9)


def test_tensorflow_functions_accept_a_shared_part_as_its_value() -> None:
    (inputs, _), *_ = batches(ADJACENCY).take(1)
    np.testing.assert_array_equal(tf.matmul(inputs["adjacency"], np.eye(6)), ADJACENCY)
    np.testing.assert_array_equal(inputs["adjacency"].value, ADJACENCY)


def test_a_pipeline_may_contain_a_shared_part(made: dict[str, tf.distribute.Strategy]) -> None:
    def with_graph(batch: Any) -> Any:
        nodes, targets = batch
        scale = SHARED(np.float64(0.5))
        return {"nodes": nodes, "adjacency": SHARED(ADJACENCY), "scale": scale}, targets

    pipeline = tfscale.data.input_pipeline(
        (NODES, TARGETS), made["3"], 6, shuffle=False, preprocess=with_graph
    )
    keras.utils.set_random_seed(3)
    with made["3"].scope():
        model = OfGraph()
        model.compile(keras.optimizers.SGD(0.001), "mse", metrics=["mae"])
    model.fit(pipeline, epochs=2, verbose=0)
    expected = trained(tf.distribute.get_strategy(), batches(ADJACENCY))
    for found, wanted in zip(model.get_weights(), expected, strict=False):
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def fit_graph(strategy: tf.distribute.Strategy, data: tf.data.Dataset) -> None:
    with strategy.scope():
        model = OfGraph()
        model.compile("sgd", "mse")
    model.fit(data, verbose=0)


def with_adjacency(adjacency: Any, size: int, is_static: bool) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((NODES, TARGETS)).batch(size, is_static)
    return data.map(lambda x, y: ({"nodes": x, "adjacency": adjacency, "scale": 1.0}, y))


def test_static_sizes_that_differ_are_refused_by_name(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    said = r"4 rows in x\['nodes'\], 6 rows in x\['adjacency'\], 4 rows in y.*shared\(part\)"
    with pytest.raises(ValueError, match=said):
        fit_graph(made["2"], with_adjacency(ADJACENCY, 4, is_static=True))


def test_sizes_that_only_a_batch_knows_are_refused_by_name(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    said = r"^`x.*4 rows in x\['nodes'\], 6 rows in x\['adjacency'\], 4 rows in y.*shared\(part\)"
    with pytest.raises(ValueError, match=said):
        fit_graph(made["2"], with_adjacency(ADJACENCY, 4, is_static=False))


def test_a_batch_in_memory_of_unequal_parts_is_refused_by_name(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    with made["2"].scope():
        model = OfGraph()
        model.compile("sgd", "mse")
    inputs = {"nodes": NODES[:4], "adjacency": ADJACENCY, "scale": np.float64(1.0)}
    with pytest.raises(ValueError, match=r"4 rows in x\['nodes'\], 6 rows in x\['adjacency'\]"):
        model.train_on_batch(inputs, TARGETS[:4])


def test_a_batch_size_written_as_a_number_is_explained(
    made: dict[str, tf.distribute.Strategy],
) -> None:
    class Literal(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.reshape(x, [4, 3])

    with made["2"].scope():
        model = keras.Sequential([keras.Input((3,)), Literal(), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model.fit(np.ones([9, 3]), np.ones([9, 1]), batch_size=4, verbose=0)
    assert any("replace it by tf.shape(x)[0]" in note for note in caught.value.__notes__)
