"""Models that train as their integer file computes: where they round, and on many replicas."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies
from tests.unit.strategies.keras_support.beside_one_device import assert_like_one_device
from tests.unit.tfscale.shrink.quantization.aware_training import (
    IMAGES,
    LABELS,
    fitted,
    network,
    trained,
)
from tfscale.callbacks import LocalUpdates
from tfscale.shrink import FakeQuantize, RoundedWeights, quantization_aware, quantize

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]

DRAW = np.random.default_rng(8)
LAYERS = keras.layers


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.thorough)])
def strategy(request: pytest.FixtureRequest) -> tf.distribute.Strategy:
    strategies.mirrored_strategy(3)  # TensorFlow must have all three before it starts
    return strategies.mirrored_strategy(request.param)


@pytest.mark.parametrize(
    "batch_size",
    [
        pytest.param(8, id="uneven batches", marks=pytest.mark.thorough),
        pytest.param(7, id="at last one row, so that replicas have none"),
    ],
)
def test_replicas_train_the_weights_and_ranges_of_one_device(
    strategy: tf.distribute.Strategy, batch_size: int
) -> None:
    assert_like_one_device(lambda on: trained(on, batch_size), strategy)


@pytest.mark.thorough
def test_several_steps_in_one_execution_move_the_ranges_alike(
    strategy: tf.distribute.Strategy,
) -> None:
    assert_like_one_device(lambda on: trained(on, 8, steps_per_execution=2), strategy)


@pytest.mark.thorough
@pytest.mark.parametrize("overwrites", [None, 2])
def test_moving_averages_are_those_of_one_device(
    strategy: tf.distribute.Strategy, overwrites: int | None
) -> None:
    averaged = {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": overwrites}
    assert_like_one_device(lambda on: trained(on, 8, optimizer=averaged), strategy)


@pytest.mark.thorough
def test_replicas_that_step_locally_have_the_mean_of_weights_and_ranges() -> None:
    """Beside a stock model for each replica, which become their mean after an epoch."""
    strategy = strategies.mirrored_strategy(2)

    def aware(on: tf.distribute.Strategy) -> keras.Model:
        keras.utils.clear_session()
        keras.utils.set_random_seed(11)
        with on.scope():
            model = quantization_aware(
                network(synchronized=False), calibration=IMAGES, momentum=0.7
            )
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    local = aware(strategy)
    fitted(local, 8, LocalUpdates(3))
    # Batches of 8, 8 and 6 rows, half of each for a replica.
    parts = [[*range(4), *range(8, 12), *range(16, 19)], [*range(4, 8), *range(12, 16), 19, 20, 21]]
    alone = [aware(tf.distribute.get_strategy()) for _ in parts]
    for _ in range(2):
        for model, rows in zip(alone, parts, strict=True):
            model.fit(IMAGES[rows], LABELS[rows], batch_size=4, shuffle=False, verbose=0)
        pairs = zip(*(model.get_weights() for model in alone), strict=True)
        means = [np.mean(pair, axis=0) for pair in pairs]
        for model in alone:
            model.set_weights(means)
    for variable, mean in zip(local.weights, means, strict=True):
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_allclose(copy, mean, rtol=1e-9, atol=1e-12, err_msg=variable.path)


def test_ranges_move_in_training() -> None:
    model = quantization_aware(network(), calibration=IMAGES, momentum=0.5)
    before = [layer.reach.numpy() for layer in ranges(model)]
    model.compile("sgd", "mse")
    model.fit(2 * IMAGES, LABELS, epochs=4, verbose=0)
    after = [layer.reach.numpy() for layer in ranges(model)]
    np.testing.assert_allclose(after[0], before[0] * (2 - 0.5**3))  # the first step knows no batch
    assert all((a != b).any() for a, b in zip(after, before, strict=True))


def ranges(model: keras.Model) -> list[FakeQuantize]:
    return [layer for layer in model.layers if isinstance(layer, FakeQuantize)]


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def test_what_one_operation_of_a_file_computes_is_rounded_once() -> None:
    assert kinds(quantization_aware(network(), calibration=IMAGES)) == [
        *("InputLayer", "FakeQuantize", "RoundedWeights", "BatchNormalization", "ReLU"),
        *("FakeQuantize", "RoundedWeights", "Activation", "FakeQuantize"),
        *("Add", "FakeQuantize", "MaxPooling2D", "Flatten", "RoundedWeights", "FakeQuantize"),
    ]


def test_layers_with_floats_are_rounded_only_where_integers_are_read() -> None:
    layers = [LAYERS.LayerNormalization(), LAYERS.Activation("gelu"), LAYERS.Dense(2)]
    model = keras.Sequential([keras.Input([4]), *layers, LAYERS.Softmax()])
    aware = quantization_aware(model, calibration=IMAGES[:, 0, :2].reshape(-1, 4))
    assert kinds(aware) == [
        *("InputLayer", "LayerNormalization", "Activation", "FakeQuantize"),
        *("RoundedWeights", "FakeQuantize", "Softmax", "FakeQuantize"),
    ]
    assert ranges(aware)[-1].fixed == (0.0, 255 / 256)


def test_the_copy_leaves_the_model_and_keeps_frozen_layers_and_regularizers() -> None:
    frozen = LAYERS.Dense(3, activation="relu", trainable=False, name="frozen")
    last = LAYERS.Dense(1, activation="relu", activity_regularizer="l2", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input([4]), frozen, last])
    x = DRAW.normal(size=[8, 4])
    before = model.get_weights()
    aware = quantization_aware(model, calibration=x)
    aware.compile(keras.optimizers.SGD(0.1), "mse")
    aware.fit(x, np.ones([8, 1]), verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert len(aware.trainable_weights) == 2
    np.testing.assert_array_equal(aware.get_layer("frozen_rounded").layer.kernel, before[0])
    outputs = aware(x)
    kernel, activity = before[2], np.sum(np.square(model(x))) / len(x)
    assert np.array(outputs).shape == (8, 1)
    assert len(aware.losses) == len(model.losses) == 2
    assert float(sum(model.losses)) == pytest.approx(
        0.01 * (np.sum(kernel**2) + activity), rel=1e-6
    )


def test_a_layer_that_is_called_twice_has_its_weights_once_and_two_ranges() -> None:
    inputs = keras.Input([4])
    shared = LAYERS.Dense(4, activation="relu")
    model = keras.Model(inputs, shared(shared(inputs)))
    aware = quantization_aware(model, calibration=DRAW.normal(size=[8, 4]))
    assert len(ranges(aware)) == 3
    assert len(aware.trainable_weights) == 2


def test_weights_of_low_rank_are_trained_below_the_rounding() -> None:
    model = keras.Sequential([keras.Input([4]), LAYERS.Dense(4)])
    model.layers[0].enable_lora(2)
    x = DRAW.normal(size=[16, 4])
    aware = quantization_aware(model, calibration=x)
    aware.compile(keras.optimizers.Adam(0.1), "mse")
    frozen = aware.layers[2].layer
    assert isinstance(aware.layers[2], RoundedWeights)
    base = np.array(frozen.get_weights()[0])
    history = aware.fit(x, x[:, ::-1], epochs=30, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    assert np.any([np.array_equal(base, weight) for weight in frozen.get_weights()])


def chain(*layers: Any, size: int = 4) -> keras.Model:
    return keras.Sequential([keras.Input([size]), *layers])


@pytest.mark.parametrize(
    ("model", "calibration", "message"),
    [
        pytest.param(
            lambda: chain(chain(LAYERS.Dense(2))), np.ones([2, 4]), "no models", id="nested"
        ),
        pytest.param(
            lambda: keras.Sequential([LAYERS.Dense(2)]), np.ones([2, 4]), "known", id="not built"
        ),
        pytest.param(lambda: chain(LAYERS.PReLU()), np.ones([2, 4]), "Dense, Ein", id="PReLU"),
        pytest.param(lambda: chain(LAYERS.Dense(2)), np.ones([0, 4]), "a row", id="no data"),
        pytest.param(
            lambda: chain(LAYERS.Dense(2)), np.full([2, 4], np.nan), "finite", id="not finite"
        ),
    ],
)
def test_what_cannot_be_rounded_is_refused(model: Any, calibration: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantization_aware(model(), calibration=calibration)


def test_a_momentum_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="`momentum` must be from 0 to 1"):
        quantization_aware(network(), calibration=IMAGES, momentum=1.5)


CALLS: tuple[Any, ...] = (quantization_aware, functools.partial(quantize, mode="int8"))


@pytest.mark.parametrize(
    "calibration",
    [None, [], 1.0, "rows.npy", [[1.0, 2.0], [3.0, 4.0]], [np.ones([2, 4]), np.ones([3, 4])]],
    ids=["none", "empty", "number", "text", "lists", "lengths"],
)
def test_calibration_data_of_another_kind_are_refused(calibration: Any) -> None:
    model = keras.Sequential([keras.Input([4]), LAYERS.Dense(2)])
    for call in CALLS:
        with pytest.raises(ValueError, match="`calibration` must be arrays with the same number"):
            call(model, calibration=calibration)


def test_what_is_no_model_is_refused() -> None:
    for call in CALLS:
        with pytest.raises(ValueError, match=r"`model` must be a Keras model\. Received: None"):
            call(None, calibration=np.ones([2, 4]))


def test_activations_that_are_not_finite_name_their_tensor() -> None:
    model = keras.Sequential([keras.Input([4], name="flower"), LAYERS.Dense(2)])
    with pytest.raises(ValueError, match=r"for 'flower\w*'\. Check the calibration data"):
        quantization_aware(model, calibration=np.full([2, 4], np.nan))
