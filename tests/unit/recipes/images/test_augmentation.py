from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from recipes.images.augmentation import augmentation


def seeds(count: int) -> tf.Tensor:
    return tf.stack([tf.fill([count], np.int64(77)), tf.range(count, dtype=tf.int64)], axis=1)


@pytest.mark.parametrize(
    ("size", "strength", "most"),
    [
        (8, 1.0, 1),
        (8, 2.5, 2),  # 2.5 pixels, rounded down
        (8, 0.25, 1),  # at least one pixel
        (10, 1.0, 1),
        (32, 1.0, 4),
        (32, 0.5, 2),
    ],
)
def test_strength_is_the_largest_shift_in_eighths(size: int, strength: float, most: int) -> None:
    image = np.zeros((size, size + 3, 1), np.float32)
    image[size // 2, size // 2] = 1
    augment = augmentation(image.shape, strength=strength, flips=False)
    assert augment is not None
    batch = np.broadcast_to(image, (300, *image.shape))
    moved, _ = augment((tf.constant(batch), tf.range(300)), seeds(300))
    _, rows, columns, _ = np.nonzero(moved.numpy())
    assert len(rows) == 300
    found = {int(shift) for shift in [*(rows - size // 2), *(columns - size // 2)]}
    assert found == set(range(-most, most + 1))


def test_mirrored_and_shifted_images_are_not_the_same_ones() -> None:
    image = np.arange(1, 1 + 64, dtype=np.float32).reshape(8, 8, 1)
    augment = augmentation(image.shape, strength=1.0, flips=True)
    assert augment is not None
    batch = tf.constant(np.broadcast_to(image, (400, 8, 8, 1)))
    images, _ = augment((batch, tf.range(400)), seeds(400))
    # Nine moves, each mirrored or not.
    assert len({changed.tobytes() for changed in images.numpy()}) == 18


def test_without_strength_and_flips_there_is_no_augmentation() -> None:
    assert augmentation((8, 8, 1), strength=0, flips=False) is None


@pytest.mark.parametrize("strength", [-0.1, 4.1, float("nan")])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"`strength` must be in \[0, 4\]. Received: strength="):
        augmentation((8, 8, 1), strength=strength, flips=False)
