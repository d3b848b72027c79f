from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.images.model import compiled_model, image_model, smooth_labels, to_float
from recipes.results import predictor


@pytest.mark.parametrize(
    ("image_shape", "num_classes", "num_parameters"),
    [
        # Two blocks of two 3x3 convolutions; 2x2x64 features to 128 to 10.
        (
            (8, 8, 1),
            10,
            (9 + 1) * 32
            + (288 + 1) * 32
            + (288 + 1) * 64
            + (576 + 1) * 64
            + (256 + 1) * 128
            + (128 + 1) * 10,
        ),
        # One block: 4 is halved once.
        ((4, 9, 3), 2, (27 + 1) * 32 + (288 + 1) * 32 + (2 * 4 * 32 + 1) * 128 + (128 + 1) * 2),
    ],
)
def test_the_network_has_a_block_for_each_halving_down_to_2(
    image_shape: tuple[int, ...], num_classes: int, num_parameters: int
) -> None:
    model = image_model(image_shape, num_classes, pixel_range=255, dropout=0.1)
    assert model.count_params() == num_parameters
    assert model.output_shape == (None, num_classes)


@pytest.mark.parametrize(("size", "convolutions"), [(2, 2), (7, 2), (8, 4), (28, 6), (224, 6)])
def test_there_are_one_to_three_blocks(size: int, convolutions: int) -> None:
    model = image_model((size, size + 3, 1), 10, pixel_range=255, dropout=0.1)
    found = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(found) == convolutions


def test_logits_are_not_rounded_to_half_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = image_model((8, 8, 1), 10, pixel_range=16, dropout=0.1)
        assert model.layers[0].compute_dtype == "bfloat16"
        assert model.layers[-1].compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("floatx", ["float32", "float64"])
def test_images_become_the_default_float_and_keep_their_values(floatx: str) -> None:
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
        images, labels = to_float((tf.constant(pixels), tf.range(4)))
    finally:
        keras.config.set_floatx(before)
    assert images.dtype == floatx
    assert labels.dtype == tf.int32
    np.testing.assert_array_equal(images, pixels)


def test_smoothed_labels_give_each_wrong_class_its_fraction() -> None:
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    images, labels = smooth_labels(4, 0.2)((tf.constant(pixels), tf.constant([2, 0, 3])))
    assert images.dtype == keras.config.floatx()
    # 1 - 0.2 + 0.2 / 4 and 0.2 / 4.
    expected = [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85]]
    np.testing.assert_allclose(labels, expected, rtol=1e-6)


# The attributes of an image set that the recipe uses to build a model.
SET: Any = SimpleNamespace(image_shape=(4, 4, 1), num_classes=3, largest_pixel=16)


def test_loss_and_accuracy_on_soft_labels_equal_those_of_class_numbers() -> None:
    keras.utils.set_random_seed(1)
    sparse = compiled_model(SET, keras.optimizers.SGD(0.1), dropout=0.0)
    soft = compiled_model(SET, keras.optimizers.SGD(0.1), dropout=0.0, has_soft_labels=True)
    soft.set_weights(sparse.get_weights())
    images = np.random.default_rng(0).uniform(0, 16, (20, 4, 4, 1)).astype(np.float32)
    labels = np.arange(20) % 3
    logits = sparse.predict(images, verbose=0)
    likelihood = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (
        -np.log(likelihood[np.arange(20), labels]).mean(),
        (logits.argmax(1) == labels).mean(),
    )
    _, rows = smooth_labels(3, 0.0)((tf.constant(images), tf.constant(labels)))
    assert sparse.evaluate(images, labels, verbose=0) == pytest.approx(expected, rel=1e-5)
    assert soft.evaluate(images, np.asarray(rows), verbose=0) == pytest.approx(expected, rel=1e-5)


def test_the_saved_model_predicts_the_same_and_has_no_optimizer(
    tmp_path: Path,
) -> None:
    model = compiled_model(SET, keras.optimizers.Adam(0.1), dropout=0.5)
    images = np.random.default_rng(0).uniform(0, 16, (20, 4, 4, 1)).astype(np.float32)
    model.fit(images, np.arange(20) % 3, verbose=0)
    model.save(tmp_path / "trained.keras")
    predictor(model).save(tmp_path / "predictor.keras")
    loaded = keras.saving.load_model(tmp_path / "predictor.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    assert not loaded.compiled
    trained, saved = ((tmp_path / f"{n}.keras").stat().st_size for n in ("trained", "predictor"))
    assert saved < trained / 2  # Adam keeps two numbers for each weight.
