"""Random changes to training images, drawn from the seed of each image.

augment = augmentation((32, 32, 3), strength=1.0, flips=True)
train = tfscale.data.input_pipeline("cifar10", strategy, augment=augment)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Augment = Callable[[Any, tf.Tensor], Any]


def augmentation(image_shape: Sequence[int], *, strength: float, flips: bool) -> Augment | None:
    """Returns the augmentation of a set of images, or None if nothing changes.

    Args:
        image_shape: `(height, width, channels)`.
        strength: Largest shift in eighths of the shorter side, rounded down to whole pixels, at
            least one pixel; in [0, 4]. 0 shifts nothing.
        flips: Whether half of the images are mirrored left to right.

    Returns:
        Maps `(images, labels)` and int64 [batch, 2] seeds to `(images, labels)`.

    Raises:
        ValueError: If `strength` is not in [0, 4].
    """
    if not 0 <= strength <= 4:
        raise ValueError(
            f"`strength` must be in [0, 4]. Received: strength={strength!r}. 1 is usual."
        )
    steps: list[Augment] = []
    if strength > 0:
        steps.append(random_shift(max(1, int(strength * min(image_shape[:2]) / 8))))
    if flips:
        steps.append(random_flip)
    if not steps:
        return None

    def augment(batch: Any, seeds: tf.Tensor) -> Any:
        for step in steps:
            batch = step(batch, seeds)
        return batch

    return augment


def random_shift(max_shift: int) -> Augment:
    """Returns an augmentation that moves each image by whole pixels and fills with zeros.

    Args:
        max_shift: Largest move in each direction, in pixels. Not negative.

    Returns:
        Maps `(images, labels)` and int64 [batch, 2] seeds to `(images, labels)`: an image's move
        depends only on its seed.
    """

    def shift(batch: Any, seeds: tf.Tensor) -> Any:
        images, labels = batch
        height, width = images.shape[1:3]
        draw = _draw_offsets(seeds, 2 * max_shift + 1)
        margin = [max_shift, max_shift]
        padded = tf.pad(images, [[0, 0], margin, margin, [0, 0]])
        rows, columns = draw[:, :1] + tf.range(height), draw[:, 1:] + tf.range(width)
        moved = tf.gather(
            tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
        )
        return moved, labels

    return shift


def _draw_offsets(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """int32 [batch, 2] in [0, count), each row from its own seed."""
    return tf.map_fn(
        lambda seed: tf.random.stateless_uniform([2], seed, 0, count, tf.int32),
        seeds,
        fn_output_signature=tf.TensorSpec([2], tf.int32),
    )


def random_flip(batch: Any, seeds: tf.Tensor) -> Any:
    """Mirrors half of the images left to right; which ones depends only on their seeds.

    Args:
        batch: `(images, labels)`.
        seeds: int64 [batch, 2].
    """
    images, labels = batch
    # Folded in, because the shift draws from the seed itself; the two draws would be correlated.
    coins = tf.map_fn(
        lambda seed: tf.random.stateless_uniform([], tf.random.fold_in(seed, 1), 0, 2, tf.int32),
        seeds,
        fn_output_signature=tf.TensorSpec([], tf.int32),
    )
    return tf.where(coins[:, None, None, None] == 1, images[:, :, ::-1], images), labels
