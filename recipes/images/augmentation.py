"""Random changes to training images, drawn from the seed of each image.

augment = augmentation((32, 32, 3), strength=1.0, flips=True)
train = tfscale.data.input_pipeline("cifar10", strategy, augment=augment)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfscale.data import random_flip, random_shift

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
    if strength == 0 and not flips:
        return None
    max_shift = max(1, int(strength * min(image_shape[:2]) / 8)) if strength else 0

    def augment(batch: Any, seeds: tf.Tensor) -> Any:
        images, labels = batch
        if max_shift:
            images = random_shift(images, seeds, max_shift=max_shift)
        if flips:
            images = random_flip(images, seeds)
        return images, labels

    return augment
