"""Everyday data and models: folders of images, `keras.applications`, frozen and unfrozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import strategies

pytestmark = pytest.mark.own_process

SIDE = 32


@pytest.fixture(scope="module", autouse=True)
def _in_float64() -> None:
    keras.config.set_floatx("float64")


@pytest.fixture(scope="module")
def strategy() -> tf.distribute.Strategy:
    return strategies.mirrored_strategy(2)


def near(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for own, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen images of two classes, one of them in the last batch."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(13):
        place = root / ("cats" if number % 3 else "dogs")
        place.mkdir(exist_ok=True)
        pixels = draw.integers(0, 256, size=(10, 8, 3), dtype=np.uint8)
        (place / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return root


def trained_on_folder(strategy: tf.distribute.Strategy, folder: Path) -> list[np.ndarray]:
    keras.utils.set_random_seed(0)
    train, validation = keras.utils.image_dataset_from_directory(
        str(folder), image_size=(8, 8), batch_size=4, seed=5, validation_split=0.3, subset="both"
    )
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(2),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    history = model.fit(train, validation_data=validation, epochs=3, verbose=0).history
    rows = model.predict(validation, verbose=0)
    return [*model.get_weights(), rows, *(np.array(history[name]) for name in sorted(history))]


def test_a_shuffled_folder_of_images_matches_one_device(
    strategy: tf.distribute.Strategy, folder: Path
) -> None:
    expected = trained_on_folder(tf.distribute.get_strategy(), folder)
    near(trained_on_folder(strategy, folder), expected)


def fine_tuned(strategy: tf.distribute.Strategy) -> tuple[keras.Model, keras.Model]:
    """A head on a frozen base, whose normalization uses its moving statistics."""
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(11, SIDE, SIDE, 3)), draw.integers(0, 3, size=11)
    with strategy.scope():
        base = keras.applications.MobileNet(
            (SIDE, SIDE, 3), alpha=0.25, include_top=False, weights=None, pooling="avg"
        )
        base.trainable = False
        model = keras.Sequential([base, keras.layers.Dense(3, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model, base


@pytest.mark.thorough
def test_a_frozen_application_with_a_new_head_matches_one_device(
    strategy: tf.distribute.Strategy,
) -> None:
    model, base = fine_tuned(strategy)
    expected, _ = fine_tuned(tf.distribute.get_strategy())
    near(model.get_weights(), expected.get_weights())

    base.trainable = True
    before = [np.array(weight) for weight in base.get_weights()]
    with strategy.scope():
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(5, SIDE, SIDE, 3)), draw.integers(0, 3, size=5)
    model.fit(x, y, batch_size=4, verbose=0)
    moved = zip(before, base.get_weights(), strict=True)
    assert all((old != new).any() for old, new in moved if old.size > 1)
    for weight in model.weights:
        first, second = strategy.experimental_local_results(weight._value)
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=weight.path)
        assert np.isfinite(first.numpy()).all()
