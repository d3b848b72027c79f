"""A chain of stages: what each stage leaves, on one device and on two replicas."""

from __future__ import annotations

import gzip
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfscale
from tfscale.shrink import Chain, Compressed, compress

pytestmark = [
    pytest.mark.own_process,
    pytest.mark.usefixtures("two"),
]

X = np.random.default_rng(1).normal(size=(60, 6)).astype("float32")
Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1).astype("float32")


def trained(strategy: tf.distribute.Strategy, **compiling: Any) -> keras.Model:
    """A small network, the same on each strategy."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    with strategy.scope():
        layers = [
            keras.Input((6,)),
            keras.layers.Dense(96, name="wide"),
            keras.layers.BatchNormalization(synchronized=True, name="norm"),
            keras.layers.ReLU(),
            keras.layers.Dense(64, "relu", name="middle"),
            keras.layers.Dense(2, name="last"),
        ]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **compiling)
    model.fit(X, Y, batch_size=10, epochs=5, shuffle=False, verbose=0)
    return model


def compressed(model: keras.Model, **arguments: Any) -> Compressed:
    chain = Chain(**{"epochs": 2, **arguments})
    return compress(model, chain, (X, Y), validation=(X, Y), batch_size=10)


def kernels(model: keras.Model) -> list[Any]:
    layers = (getattr(layer, "layer", layer) for layer in model.layers)
    return [layer.kernel.numpy() for layer in layers if hasattr(layer, "kernel")]


@pytest.mark.thorough
def test_each_stage_keeps_what_came_before(two: tf.distribute.Strategy) -> None:
    model = trained(two)
    before = [np.array(weight) for weight in model.get_weights()]
    result = compressed(model, channels=0.5, sparsity=0.75, clusters=4, quantize="aware")
    for weight, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, wanted)  # a copy is compressed
    shapes = [(6, 48), (48, 32), (32, 2)]
    found = kernels(result.model)
    assert [kernel.shape for kernel in found] == shapes
    assert np.mean(np.concatenate([kernel.ravel() for kernel in found]) == 0) == 0.75
    for kernel in found:
        assert len(np.unique(kernel[kernel != 0])) <= 4
    names = [stage.name for stage in result.stages]
    assert names == ["float", "channels", "prune", "cluster", "quantize"]
    sizes = [stage.gzip_bytes for stage in result.stages]
    assert sizes[0] > 2 * sizes[1] > 2 * sizes[2] > 2 * sizes[3]  # of so small a file
    assert result.times_smaller == sizes[0] / sizes[-1]
    assert [stage.zeros > 0.7 for stage in result.stages] == [False, False, True, True, True]
    assert [stage.values <= 4 for stage in result.stages] == [False, False, False, True, True]
    assert set(result.stages[0].metrics) == {"loss", "mae"}
    x, y = tf.constant(X), Y
    last = np.mean(np.square(np.asarray(result.model(x, training=False)) - y))
    assert result.stages[-1].metrics["loss"] == pytest.approx(last, rel=1e-4)
    assert str(result).splitlines()[1].startswith("before")


def test_the_file_is_that_of_the_last_stage(one: tf.distribute.Strategy, tmp_path: Any) -> None:
    result = compressed(trained(one), sparsity=0.5, quantize="aware", epochs=0)
    result.write(tmp_path / "model.tflite")
    content = (tmp_path / "model.tflite").read_bytes()
    assert content == tfscale.shrink.integer_litert(result.model)
    assert result.stages[-1].size_bytes == len(content)
    assert result.stages[-1].gzip_bytes == len(gzip.compress(content, mtime=0))
    with pytest.raises(OSError, match="missing"):
        result.write(tmp_path / "missing" / "model.tflite")


def test_without_training_only_the_stages_change_the_model(one: tf.distribute.Strategy) -> None:
    model = trained(one)
    result = compressed(model, sparsity=0.5, scope="layer", epochs=0)
    for kernel, weight in zip(kernels(result.model), kernels(model), strict=True):
        is_kept = np.abs(weight) >= np.median(np.abs(weight))
        np.testing.assert_array_equal(kernel, np.where(is_kept, weight, 0))


@pytest.mark.parametrize(
    ("way", "sparsity"), [("int8", 0.5), pytest.param("int4", 0.0, marks=pytest.mark.thorough)]
)
def test_keras_quantizes_what_was_pruned(
    one: tf.distribute.Strategy, tmp_path: Any, way: str, sparsity: float
) -> None:
    result = compressed(trained(one), sparsity=sparsity, quantize=way, epochs=1)
    assert result.file_format == "keras"
    assert result.stages[-1].size_bytes < result.stages[0].size_bytes
    assert result.stages[-1].zeros >= sparsity
    assert result.stages[-1].values <= {"int8": 254, "int4": 15}[way]
    result.write(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), result.model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "A chain must have a stage at least"),
        ({"sparsity": 1.0}, "`sparsity` must be"),
        ({"channels": 1}, "`channels` must be"),
        ({"pattern": "4x1"}, "`sparsity` must be given with a pattern of blocks"),
        ({"pattern": "2:4", "sparsity": 0.8}, r"`sparsity` must be 0\.5 with pattern='2:4'"),
        ({"pattern": "channels", "sparsity": 0.5}, "`pattern` must not be 'channels'"),
        ({"clusters": -1}, "`clusters` must be"),
        ({"quantize": "int2"}, "`quantize` must be"),
        ({"quantize": "int4", "sparsity": 0.5}, "`quantize` must not be 'int4' after pruning"),
        ({"scope": "model", "sparsity": 0.5}, "`scope` must be"),
        ({"sparsity": 0.5, "epochs": -1}, "`epochs` must be"),
        ({"sparsity": 0.5, "epochs": {"pruning": 1}}, "`epochs` must be"),
        ({"sparsity": 0.5, "keep": ["("]}, "`keep` must contain regular expressions"),
    ],
)
def test_a_wrong_chain_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(**arguments)


def test_a_chain_tells_its_stages() -> None:
    chain = Chain(pattern="2:4", quantize="int8", epochs={"prune": 0})
    assert chain.stages == ("prune", "quantize")
    assert (chain.sparsity, chain.epochs_of("prune"), chain.epochs_of("quantize")) == (0.5, 0, 5)
    assert str(chain) == "50 % zeros, 2:4, quantized (int8)"
    assert chain.without_training().epochs == 0


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: iter([(X, Y)]), {}, "`train` must be .*generator"),
        (lambda: (X[:0], Y[:0]), {}, "`train` must have a row at least"),
        (
            lambda: tf.data.Dataset.from_tensors((X, Y)),
            {"batch_size": 8},
            "`batch_size` must be left out",
        ),
        (
            lambda: tf.data.Dataset.from_tensors((X, Y)).repeat(),
            {},
            "`steps_per_epoch` must be given",
        ),
        (lambda: (X, Y), {"learning_rate": 0.0}, "`learning_rate` must be positive"),
        (lambda: (X, Y), {"file_format": "onnx"}, "`file_format` must be"),
        (
            lambda: (X, Y),
            {"file_format": "keras"},
            "`file_format` must be 'litert' with quantize='aware'",
        ),
    ],
    ids=["generator", "empty", "batches", "endless", "rate", "format", "floats"],
)
def test_wrong_arguments_are_refused(
    one: tf.distribute.Strategy, make: Any, arguments: Any, message: str
) -> None:
    model = trained(one)
    with pytest.raises(ValueError, match=message):
        compress(model, Chain(quantize="aware"), make(), validation=(X, Y), **arguments)


@pytest.mark.thorough
def test_what_is_kept_is_found_in_all_stages(one: tf.distribute.Strategy) -> None:
    model = trained(one)
    names = (model.layers[0].kernel.path, "last")
    result = compressed(model, pattern="2:4", clusters=4, quantize="aware", epochs=0, keep=names)
    first, middle, last = kernels(result.model)
    assert [len(np.unique(each)) > 5 for each in (first, middle, last)] == [True, False, True]
    assert [np.mean(kernel == 0) for kernel in (first, middle, last)] == [0, 0.5, 0]
    with pytest.raises(ValueError, match=r"`keep` must match layers .*'first'.*wide, norm, middle"):
        compressed(model, sparsity=0.5, epochs=0, keep=["first"])


def test_wrong_validation_and_divergence_are_named(one: tf.distribute.Strategy) -> None:
    model, chain = trained(one), Chain(sparsity=0.5, epochs=1)
    with pytest.raises(ValueError, match="`validation` must have a row at least"):
        compress(model, chain, (X, Y), validation=(X[:0], Y[:0]))
    with pytest.raises(ValueError, match=r"`validation` must be .*generator"):
        compress(model, chain, (X, Y), validation=(pair for pair in [(X, Y)]))
    with pytest.raises(ValueError, match=r"`learning_rate` must be small .*after '50 % zeros'"):
        compress(model, chain, (X, Y), validation=(X, Y), learning_rate=1e30)


def test_models_that_cannot_be_compressed_are_refused_before_training(
    one: tf.distribute.Strategy,
) -> None:
    with one.scope():
        plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must be built and compiled"):
        compressed(plain, sparsity=0.5)
    with one.scope():
        plain.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1, 9)), "mse")
    with pytest.raises(ValueError, match="`learning_rate` must be given for a model whose"):
        compressed(plain, sparsity=0.5)
    with one.scope():
        recurrent = keras.Sequential([keras.Input((6, 1)), keras.layers.LSTM(4)])
        recurrent.compile("adam", "mse")
    rows = (X[:, :, None], X[:, :4])
    with pytest.raises(ValueError, match=r"LiteRT's operations .*TensorListReserve.*unroll"):
        compress(recurrent, Chain(sparsity=0.5, quantize="aware"), rows, validation=rows)
    result = compress(
        recurrent, Chain(sparsity=0.5, epochs=0), rows, validation=rows, file_format="keras"
    )
    assert result.stages[-1].zeros == 0.5
