"""A cut model is smaller and computes what the masked one computes, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.unit.tfscale.shrink.structured.cut_models import (
    FAMILIES,
    batch_for,
    outputs_of,
    plain_cnn,
    residual,
    shared,
    with_drawn_weights,
)
from tfscale.shrink import channel_groups, cut, mask_channels

pytestmark = [pytest.mark.own_process, pytest.mark.usefixtures("in_double_precision")]
L = keras.layers
THOROUGH = pytest.mark.thorough


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_model_has_the_outputs_of_the_masked_one(family: str) -> None:
    model = with_drawn_weights(FAMILIES[family]())
    batch = batch_for(model)
    before = outputs_of(model, batch)
    mask_channels(model, 0.5)
    masked = outputs_of(model, batch)
    smaller = cut(model)
    assert smaller.count_params() < 0.7 * model.count_params()
    np.testing.assert_allclose(outputs_of(smaller, batch), masked, rtol=0, atol=1e-12)
    assert np.abs(masked - before).max() > 1e-3  # the mask did something


@pytest.fixture
def in_single_precision() -> Iterator[None]:
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")
    yield
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")


@pytest.mark.parametrize(
    "family",
    [name if name == "residual" else pytest.param(name, marks=THOROUGH) for name in FAMILIES],
)
@pytest.mark.usefixtures("in_single_precision")
def test_in_single_precision_the_outputs_agree_to_its_rounding(family: str) -> None:
    model = with_drawn_weights(FAMILIES[family]())
    batch = batch_for(model)
    mask_channels(model, 0.5)
    smaller = cut(model)
    assert {weight.dtype for weight in smaller.weights} == {"float32"}
    np.testing.assert_allclose(outputs_of(smaller, batch), outputs_of(model, batch), atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("ConvNeXtTiny", 32), ("DenseNet121", 32), ("EfficientNetB0", 32), ("InceptionV3", 75)),
        *(("MobileNet", 32), ("MobileNetV2", 32), ("MobileNetV3Small", 32), ("NASNetMobile", 32)),
        *(("ResNet50", 32), ("ResNet50V2", 32), ("VGG16", 32), ("Xception", 71)),
    ],
)
def test_published_models_are_cut(name: str, size: int) -> None:
    keras.utils.set_random_seed(0)
    arguments = {"weights": None, "input_shape": (size, size, 3), "classes": 10}
    model = getattr(keras.applications, name)(**arguments, classifier_activation=None)
    draw = np.random.default_rng(0)
    for weight in model.weights:
        if "kernel" in weight.name:
            weight.assign(1.5 * np.asarray(weight))  # or what images differ in fades on the way
        else:
            weight.assign(np.asarray(weight) + draw.normal(scale=0.2, size=weight.shape))
    mask_channels(model, 0.4)
    batch = draw.normal(size=(4, size, size, 3))
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
    model(batch, training=True)  # moving statistics become those of the batch
    masked = outputs_of(model, batch)
    smaller = cut(model)
    assert smaller.count_params() < 0.65 * model.count_params()
    assert np.ptp(masked, axis=0).min() > 1e-4  # different images have different outputs
    scale = max(1.0, np.abs(masked).max())
    difference = np.abs(outputs_of(smaller, batch) - masked).max() / scale
    # The last bits of an input grow over 50 to 240 drawn layers. They tell what rounding can do.
    nearly = batch * (1 + 2e-16 * draw.choice([-1, 1], batch.shape))
    rounding = np.abs(outputs_of(model, nearly) - masked).max() / scale
    assert difference < 1e-12 + 10 * rounding < 1e-8


def test_layers_keep_their_names_and_get_the_sizes_that_remain() -> None:
    model = with_drawn_weights(plain_cnn())
    mask_channels(model, {"first": 0.5, "hidden": 0.25})
    smaller = cut(model)
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    names = ("first", "second", "hidden", "classes")
    sizes = {name: tuple(smaller.get_layer(name).kernel.shape) for name in names}
    assert sizes["first"] == (3, 3, 2, 3)
    assert sizes["second"] == (3, 3, 3, 8)
    assert sizes["hidden"] == (2 * 2 * 8, 9)
    assert sizes["classes"] == (9, 3)


def test_the_weights_that_remain_are_those_of_the_channels_that_remain() -> None:
    model = keras.Sequential([keras.Input([2]), L.Dense(4, name="up"), L.Dense(1, name="down")])
    kernel = np.array([[1.0, 0.1, 3.0, 0.2], [5.0, 0.1, 7.0, 0.2]])
    model.set_weights(
        [kernel, np.arange(4.0), np.array([[9.0], [0.1], [8.0], [0.1]]), np.array([2.0])]
    )
    mask_channels(model, 0.5)
    values = [np.asarray(value) for value in cut(model).get_weights()]
    np.testing.assert_array_equal(values[0], [[1.0, 3.0], [5.0, 7.0]])
    np.testing.assert_array_equal(values[1], [0.0, 2.0])
    np.testing.assert_array_equal(values[2], [[9.0], [8.0]])
    np.testing.assert_array_equal(values[3], [2.0])


def test_the_original_is_not_changed() -> None:
    model = with_drawn_weights(residual())
    mask_channels(model, 0.5)
    before = model.get_weights()
    config = model.get_config()
    cut(model)
    assert model.get_config() == config
    for value, own in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, own)


def test_a_cut_model_is_saved_loaded_and_cut_again(tmp_path: Path) -> None:
    model = with_drawn_weights(shared())
    batch = batch_for(model)
    mask_channels(model, 0.3)
    cut(model).save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(outputs_of(loaded, batch), outputs_of(model, batch), atol=1e-12)
    mask_channels(loaded, 0.5)
    np.testing.assert_allclose(
        outputs_of(cut(loaded), batch), outputs_of(loaded, batch), rtol=0, atol=1e-12
    )


def test_one_channel_stays_of_a_group_that_is_masked_whole() -> None:
    model = with_drawn_weights(plain_cnn())
    mask_channels(model, {"second": 0.5})
    for part in channel_groups(model).groups["second"].slices:
        if part.role != "statistics":
            value = np.moveaxis(np.array(part.variable), part.axis, 0)
            value[part.channels >= 0] = 0
            part.variable.assign(np.moveaxis(value, 0, part.axis))
    batch = batch_for(model)
    smaller = cut(model)
    assert smaller.get_layer("second").filters == 1
    np.testing.assert_allclose(outputs_of(smaller, batch), outputs_of(model, batch), atol=1e-12)


def test_the_compilation_is_taken_along_with_a_fresh_optimizer() -> None:
    model = with_drawn_weights(plain_cnn())
    batch = batch_for(model)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    model.fit(batch, np.ones((5, 3)), verbose=0)
    mask_channels(model, 0.5)
    smaller = cut(model)
    assert smaller.optimizer is not model.optimizer
    assert float(smaller.optimizer.learning_rate) == pytest.approx(0.01)
    assert int(smaller.optimizer.iterations) == 0
    masked = model.evaluate(batch, np.ones((5, 3)), verbose=0, return_dict=True)
    own = smaller.evaluate(batch, np.ones((5, 3)), verbose=0, return_dict=True)
    assert own == pytest.approx(masked, rel=1e-12)
    smaller.fit(batch, np.ones((5, 3)), verbose=0)
    assert int(smaller.optimizer.iterations) == 1


def test_frozen_layers_stay_frozen() -> None:
    model = with_drawn_weights(residual())
    model.get_layer("stem").trainable = False
    mask_channels(model, 0.5)
    smaller = cut(model)
    assert [w.path for w in smaller.trainable_weights] == [w.path for w in model.trainable_weights]


def test_own_activations_and_layers_are_found_without_registration() -> None:
    def doubled(x: keras.KerasTensor) -> keras.KerasTensor:
        return 2 * x

    class Shifted(keras.layers.Layer):
        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return x + 1

    layers = [L.Dense(4, "relu", name="up"), L.Dense(6, doubled), Shifted(), L.Dense(2)]
    model = with_drawn_weights(keras.Sequential([keras.Input([3]), *layers]))
    batch = batch_for(model)
    mask_channels(model, 0.5)
    np.testing.assert_allclose(outputs_of(cut(model), batch), outputs_of(model, batch), atol=1e-12)


def test_a_model_without_masked_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`model` must have masked channels\. .*mask_channels"):
        cut(with_drawn_weights(plain_cnn()))


def test_rows_that_are_zero_by_chance_are_not_cut() -> None:
    model = keras.Sequential([keras.Input([2]), L.Dense(4), L.Dense(1, kernel_initializer="zeros")])
    with pytest.raises(ValueError, match="`model` must have masked channels"):
        cut(model)


def test_weights_outside_of_the_graph_are_refused() -> None:
    model = with_drawn_weights(residual())
    model.spare = L.Dense(2)
    model.spare.build((None, 3))
    mask_channels(model, 0.5)
    with pytest.raises(ValueError, match="only in the layers of its graph"):
        cut(model)
