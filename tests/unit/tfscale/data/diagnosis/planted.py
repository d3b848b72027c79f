"""Inputs with a planted bottleneck, and healthy ones; each is built in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies import one_device_strategy
from tfscale import data
from tfscale.data import Pipeline, ReadSource, input_pipeline

SIDE = 48
SHAPE = (SIDE, SIDE, 3)


def model(units: int = 16, shape: tuple[int, ...] = SHAPE, layers: int = 1) -> keras.Model:
    with one_device_strategy().scope():
        inner = [keras.layers.Dense(units, "relu") for _ in range(layers)]
        built = keras.Sequential(
            [keras.Input(shape), keras.layers.Flatten(), *inner, keras.layers.Dense(1)]
        )
        built.compile("sgd", "mse")
    return built


def images(count: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).random((count, *SHAPE), "float32")
    return pixels, np.arange(count, dtype="float32")


def pipeline(built: keras.Model, source: Any, size: int = 64, **arguments: Any) -> Pipeline:
    return input_pipeline(source, built.distribute_strategy, size, **arguments)


class SlowStorage:
    """A reader that waits for each batch, as for a disk in another place."""

    num_examples, fingerprint = 4096, "slow"
    element_spec = (tf.TensorSpec(SHAPE, tf.float32), tf.TensorSpec([], tf.float32))

    def read(self, indices: np.ndarray) -> Any:
        time.sleep(0.03)
        return np.zeros((len(indices), *SHAPE), "float32"), indices.astype("float32")


class SlowPython:
    """A dataset with half a millisecond of Python for each example."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.float32]:
        total = sum(value * value for value in range(6_000))
        return np.zeros(SHAPE, "float32"), np.float32(total % 7)


def in_numpy(batch: Any) -> Any:
    def changed(pixels: np.ndarray) -> np.ndarray:
        return np.stack([np.cbrt(np.sin(image)) for image in pixels])

    pixels = tf.numpy_function(changed, [batch[0]], tf.float32)
    return tf.ensure_shape(pixels, batch[0].shape), batch[1]


def one_by_one(batch: Any, seeds: tf.Tensor) -> Any:
    def changed(given: Any) -> tf.Tensor:
        return tf.image.stateless_random_contrast(given[0], 0.5, 1.5, given[1])

    return tf.map_fn(changed, (batch[0], seeds), fn_output_signature=tf.float32), batch[1]


def resized(batch: Any) -> Any:
    large = tf.image.resize(batch[0], (6 * SIDE, 6 * SIDE), antialias=True)
    return tf.image.resize(large, (SIDE, SIDE), antialias=True), batch[1]


def photos(side: int) -> Path:
    folder = Path(tempfile.mkdtemp())
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    content = tf.io.encode_jpeg(noise).numpy()
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(96):
            (folder / name / f"{number}.jpg").write_bytes(content)
    return folder


def to_floats(batch: Any) -> Any:
    return tf.cast(batch[0], tf.float32) / 255.0, tf.cast(batch[1], tf.float32)


Built = tuple[Any, keras.Model]


def slow_storage() -> Built:
    built = model()
    return pipeline(built, ReadSource(SlowStorage())), built


def slow_python_source() -> Built:
    built = model()
    return pipeline(built, SlowPython(), 64), built


def decoding() -> Built:
    built = model()
    source = data.image_folder(photos(256), image_size=SIDE)
    return pipeline(built, source, preprocess=to_floats), built


def python_preprocess() -> Built:
    built = model()
    return pipeline(built, images(), preprocess=in_numpy), built


def resizing() -> Built:
    built = model()
    return pipeline(built, images(), preprocess=resized), built


def augmenting_one_by_one() -> Built:
    built = model()
    return pipeline(built, images(), augment=one_by_one), built


def joining_large_examples() -> Built:
    with one_device_strategy().scope():
        inner = [keras.layers.Cropping2D(90), keras.layers.Flatten(), keras.layers.Dense(1)]
        built = keras.Sequential([keras.Input((192, 192, 3)), *inner])
        built.compile("sgd", "mse")
    arrays = np.zeros((256, 192, 192, 3), "float32"), np.zeros(256, "float32")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(256).prefetch(2), built


def generator() -> Built:
    built = model(shape=(16,))

    def rows() -> Any:
        while True:
            yield np.zeros(16, "float32"), 0.0

    spec = (tf.TensorSpec([16], tf.float32), tf.TensorSpec([], tf.float32))
    return tf.data.Dataset.from_generator(rows, output_signature=spec).batch(128), built


def sequential_map() -> Built:
    built = model()
    batches = tf.data.Dataset.from_tensor_slices(images(256)).batch(16)

    def enlarged(pixels: tf.Tensor, target: tf.Tensor) -> Any:
        return resized((pixels, target))

    return batches.map(enlarged).prefetch(2), built


def tiny_batches() -> Built:
    built = model(4, (2,), layers=12)
    rows = np.zeros((4096, 2), "float32"), np.zeros(4096, "float32")
    return pipeline(built, rows, 2), built


def slow_model() -> Built:
    built = model(1024, layers=3)
    return pipeline(built, images(), augment=flipped), built


def flipped(batch: Any, seeds: tf.Tensor) -> Any:
    return data.random_flip(batch[0], seeds), batch[1]


def photos_for_a_network() -> Built:
    built = model(1024, layers=4)
    source = data.image_folder(photos(SIDE))
    return pipeline(built, source, 48, preprocess=to_floats), built


def dataset_with_read_ahead() -> Built:
    built = model(1024, layers=3)
    examples = tf.data.Dataset.from_tensor_slices(images(512)).shuffle(512, seed=1)
    batches = examples.map(lambda x, y: (x * 2.0, y), num_parallel_calls=tf.data.AUTOTUNE)
    return batches.batch(128).prefetch(tf.data.AUTOTUNE), built


PLANTED: dict[str, tuple[Callable[[], Built], str, str, str]] = {
    # Name: what builds it; the limit, the kind of the stage, and a part of the first advice.
    "slow storage": (slow_storage, "input", "read", "read it once"),
    "slow Python source": (slow_python_source, "input", "read", "read_workers=N"),
    "decoding": (decoding, "input", "decode", "read it once"),
    "Python preprocess": (python_preprocess, "input", "preprocess", "calls Python"),
    "resizing": (resizing, "input", "preprocess", "do it once"),
    "augmentation by map_fn": (augmenting_one_by_one, "input", "augment", "tf.map_fn"),
    "generator": (generator, "input", "read", "generator"),
    "sequential map": (sequential_map, "input", "preprocess", "num_parallel_calls"),
    "joining large examples": (joining_large_examples, "input", "batch", "take whole batches"),
    "tiny batches": (tiny_batches, "overhead", "", "larger global_batch_size"),
}
HEALTHY = {
    "arrays, slow model": slow_model,
    "photos": photos_for_a_network,
    "dataset with read-ahead": dataset_with_read_ahead,
}
