"""Program: tfscale and tf.data read the images.

python -m tests.benchmarks.input.tensorflow_inputs ADDRESS VARIANT NUM_WORKERS THREADS READING
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tests.benchmarks.input.images import LABEL_BYTES, PAD, SIZE
from tests.benchmarks.input.reading import Input, Inputs, Reading, program

IMAGE = tf.TensorSpec([SIZE, SIZE, 3], tf.uint8)
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}


def decoded(jpeg: tf.Tensor) -> tf.Tensor:
    """Decodes an image exactly as the peers do, which is not TensorFlow's default."""
    image = tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(image, IMAGE.shape)


def augment(batch: Any, seeds: tf.Tensor) -> Any:
    """Flips and crops the images of a batch, as `input_pipeline` calls it."""
    images, labels = batch
    images = tfscale.data.random_flip(images, seeds)
    return tfscale.data.random_shift(images, seeds, max_shift=PAD), labels


def of_array_record(record: tf.Tensor) -> Any:
    """Decodes a record of the ArrayRecord file."""
    label = tf.io.decode_raw(tf.strings.substr(record, 0, LABEL_BYTES), tf.int64)[0]
    return decoded(tf.strings.substr(record, LABEL_BYTES, -1)), label


def of_pipeline(source: Any, reading: Reading, *, shuffle: bool = True, decode: Any) -> Input:
    """Returns the input of `tfscale.data.input_pipeline`.

    Args:
        source: What it reads.
        reading: Size of a batch.
        shuffle: Whether in random order.
        decode: As in `Input`. If None, nothing is augmented either.
    """
    pipeline = tfscale.data.input_pipeline(
        source,
        strategies.one_device_strategy("CPU:0"),
        reading.batch_size,
        shuffle=shuffle,
        drop_remainder=True,
        augment=augment if decode else None,
    )
    return Input(iter(pipeline.local(0)), decode)


def tfscale_folder(reading: Reading) -> Input:
    """tfscale reads image files."""
    source = tfscale.data.image_folder(reading.images.folder)
    return of_pipeline(source, reading, decode=_decode_in_folder)


def tfscale_cache(reading: Reading, *, in_memory: bool) -> Input:
    """tfscale reads the decoded images of the files from its cache."""
    source = tfscale.data.image_folder(reading.images.folder)
    where = "memory" if in_memory else Path(reading.root) / "cache"
    return of_pipeline(tfscale.data.cached(source, where), reading, decode=_decode_in_folder)


def tfscale_array_record(reading: Reading) -> Input:
    """tfscale reads and decodes records of an ArrayRecord file."""
    source = tfscale.data.array_record(reading.images.array_record, decode=of_array_record)
    return of_pipeline(source, reading, decode=_decode)


def tfscale_record(reading: Reading) -> Input:
    """tfscale reads TFRecord files with an index, in random order."""

    def example(record: tf.Tensor) -> Any:
        features = tf.io.parse_single_example(record, FEATURES)
        return decoded(features["image"]), features["label"]

    source = tfscale.data.record_files(reading.images.record_files, decode=example)
    return of_pipeline(source, reading, decode=_decode)


def array_records(reading: Reading, *, shuffle: bool) -> Input:
    """tfscale reads records of an ArrayRecord file, and does not decode them."""
    source = tfscale.data.array_record(reading.images.array_record)
    return of_pipeline(source, reading, shuffle=shuffle, decode=None)


def tf_data_folder(reading: Reading, *, calls: int | None) -> Input:
    """tf.data reads image files as a user writes it.

    Args:
        reading: What to read.
        calls: Parallel calls; None for a plain `map` and no `prefetch`.
    """

    def example(path: tf.Tensor) -> Any:
        folder = tf.strings.split(path, "/")[-2]
        label = tf.strings.to_number(tf.strings.substr(folder, len("class"), -1), tf.int64)
        return _randomly(decoded(tf.io.read_file(path))), label

    files = tf.data.Dataset.list_files(f"{reading.images.folder}/*/*.jpg").repeat()
    return _batched(files.map(example, num_parallel_calls=calls), reading, calls)


def tf_data_record(reading: Reading, *, calls: int | None) -> Input:
    """tf.data reads TFRecord files with a shuffle buffer, as a user writes it."""

    def example(record: tf.Tensor) -> Any:
        features = tf.io.parse_single_example(record, FEATURES)
        return _randomly(decoded(features["image"])), features["label"]

    paths = [str(path) for path in reading.images.record_files]
    records = tf.data.TFRecordDataset(paths).shuffle(2048).repeat()
    return _batched(records.map(example, num_parallel_calls=calls), reading, calls)


def _batched(examples: tf.data.Dataset, reading: Reading, calls: int | None) -> Input:
    batches = examples.batch(reading.batch_size)
    return Input(iter(batches.prefetch(calls) if calls else batches), _decode)


def _randomly(image: tf.Tensor) -> tf.Tensor:
    image = tf.image.random_flip_left_right(image)
    image = tf.pad(image, [[PAD, PAD], [PAD, PAD], [0, 0]])
    return tf.image.random_crop(image, IMAGE.shape)


def _decode(jpeg: bytes) -> np.ndarray:
    pixels: np.ndarray = decoded(tf.constant(jpeg)).numpy()
    return pixels


def _decode_in_folder(jpeg: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "class").mkdir()
        Path(folder, "class", "image.jpg").write_bytes(jpeg)
        images, _ = tfscale.data.image_folder(folder).take(tf.constant([0], tf.int64))
    pixels: np.ndarray = images[0].numpy()
    return pixels


INPUTS: Inputs = {
    "tf_data_naive": functools.partial(tf_data_folder, calls=None),
    "tf_data_tuned": functools.partial(tf_data_folder, calls=tf.data.AUTOTUNE),
    "tfscale": tfscale_folder,
    "tfscale_cache": functools.partial(tfscale_cache, in_memory=False),
    "tfscale_cache_memory": functools.partial(tfscale_cache, in_memory=True),
    "tf_data_record_naive": functools.partial(tf_data_record, calls=None),
    "tf_data_record_tuned": functools.partial(tf_data_record, calls=tf.data.AUTOTUNE),
    "tfscale_record": tfscale_record,
    "tfscale_array_record": tfscale_array_record,
    "in_order": functools.partial(array_records, shuffle=False),
    "at_random": functools.partial(array_records, shuffle=True),
}

if __name__ == "__main__":
    program(INPUTS)
