"""Random changes to a batch of images, drawn from the seed of each image.

def augment(batch, seeds):
    images, labels = batch
    return tfscale.data.random_flip(images, seeds), labels

train = tfscale.data.input_pipeline(source, strategy, augment=augment)

An image's change depends only on its seed, so that it is the same for any number of replicas. All
images of a batch change at once: images with the same change are moved together, which takes a
fifth of the time of one image after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.extension import whole_number

# Of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
# Each function has draws of its own: a flip must tell nothing about a shift.
_FLIP, _DOWN, _RIGHT = 1, 2, 3


def random_flip(images: Any, seeds: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images left to right.

    Args:
        images: [n, height, width, channels] of any type, with a static shape but for n.
        seeds: int64 [n, 2], as `input_pipeline` passes them to `augment`.

    Returns:
        The images, of the same shape and type.

    Raises:
        ValueError: If `images` or `seeds` have other shapes.

    Example:
        >>> images = tf.reshape(tf.range(16), [4, 1, 4, 1])
        >>> seeds = tf.constant([[7, 0], [7, 1], [7, 2], [7, 3]], tf.int64)
        >>> random_flip(images, seeds).numpy().reshape(4, 4).tolist()
        [[0, 1, 2, 3], [7, 6, 5, 4], [11, 10, 9, 8], [15, 14, 13, 12]]
    """
    images = _checked(images, seeds)
    return _by_change(images, _drawn(seeds, _FLIP, 2), 2, _mirrored)


def random_shift(images: Any, seeds: tf.Tensor, *, max_shift: int) -> tf.Tensor:
    """Moves each image by whole pixels down or up and right or left, and fills with zeros.

    It is what padding by `max_shift` pixels and a random crop to the same size does.

    Args:
        images: [n, height, width, channels] of any type, with a static shape but for n.
        seeds: int64 [n, 2], as `input_pipeline` passes them to `augment`.
        max_shift: Largest move in each direction, in pixels. Not negative, and at most the height
            and the width.

    Returns:
        The images, of the same shape and type.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> images = tf.reshape(tf.range(1, 10), [3, 1, 3, 1])
        >>> seeds = tf.constant([[7, 0], [7, 1], [7, 2]], tf.int64)
        >>> random_shift(images, seeds, max_shift=1).numpy().reshape(3, 3).tolist()
        [[0, 0, 0], [4, 5, 6], [0, 0, 0]]
    """
    images = _checked(images, seeds)
    limit = min(images.shape[1:3]) + 1
    cure = "Count pixels, at most the shorter side."
    max_shift = whole_number("max_shift", max_shift, at_least=0, below=limit, cure=cure)
    for axis, draw in ((1, _DOWN), (2, _RIGHT)):
        count = 2 * max_shift + 1
        move = functools.partial(_moved, axis=axis, most=max_shift)
        images = _by_change(images, _drawn(seeds, draw, count), count, move)
    return images


def _checked(images: Any, seeds: Any) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise ValueError(
            "`images` must be of shape [n, height, width, channels]. Received: images of shape "
            f"{images.shape}. Batch them, and set the shape of an image with tf.ensure_shape."
        )
    if seeds.shape.rank != 2 or seeds.shape[1] != 2 or not seeds.dtype.is_integer:
        raise ValueError(
            "`seeds` must be int64 of shape [n, 2]. Received: seeds of "
            f"{seeds.dtype.name}, shape {seeds.shape}. Pass what `augment` receives."
        )
    return images


def _drawn(seeds: tf.Tensor, draw: int, count: int) -> tf.Tensor:
    """int32 [n] in [0, count), each from its own seed: uniform but for count / 2**32."""
    words = tf.cast(seeds, tf.uint64)
    start = tf.constant(draw * _GOLDEN % 2**64, tf.uint64)
    bits = _mixed(_mixed(words[:, 0] + start) + words[:, 1] * tf.constant(_GOLDEN, tf.uint64))
    half = tf.bitwise.right_shift(bits, tf.constant(32, tf.uint64))
    scaled = half * tf.constant(count, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(scaled, tf.constant(32, tf.uint64)), tf.int32)


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """The finalizer of SplitMix64: every bit of the result depends on every bit of `bits`."""
    for shift, multiplier in _MULTIPLIERS:
        bits = _folded(bits, shift) * tf.constant(multiplier, tf.uint64)
    return _folded(bits, _LAST_SHIFT)


def _folded(bits: tf.Tensor, shift: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))


def _by_change(
    images: tf.Tensor,
    changes: tf.Tensor,
    count: int,
    change: Callable[[int, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Applies `change(c, images)` to the images of each change c in [0, count)."""
    rows = tf.dynamic_partition(tf.range(tf.shape(images)[0]), changes, count)
    parts = tf.dynamic_partition(images, changes, count)
    changed = tf.dynamic_stitch(rows, [change(c, part) for c, part in enumerate(parts)])
    return tf.ensure_shape(changed, images.shape)


def _mirrored(flips: int, images: tf.Tensor) -> tf.Tensor:
    if not flips:
        return images
    _, height, width, channels = images.shape
    # TensorFlow reverses the middle one of three dimensions fastest.
    rows = tf.reverse(tf.reshape(images, [-1, width, channels]), [1])
    return tf.reshape(rows, [-1, height, width, channels])


def _moved(drawn: int, images: tf.Tensor, *, axis: int, most: int) -> tf.Tensor:
    """Moves images by `drawn - most` pixels along an axis, towards its end if positive."""
    forward, back = max(0, drawn - most), max(0, most - drawn)
    kept = [slice(None)] * 4
    kept[axis] = slice(back, images.shape[axis] - forward)
    margins = [[0, 0]] * 4
    margins[axis] = [forward, back]
    return tf.pad(images[tuple(kept)], margins)
