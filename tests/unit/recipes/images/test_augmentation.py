from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from recipes.images.augmentation import augmentation, random_flip, random_shift


def all_moves(
    image: np.ndarray[Any, Any], most: int
) -> dict[tuple[int, int], np.ndarray[Any, Any]]:
    """Every move of one image, by NumPy slicing: (down, right) to the image."""
    height, width = image.shape[:2]
    moves = {}
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            moved = np.zeros_like(image)
            moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = (
                image[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
            )
            moves[down, right] = moved
    return moves


def seeds(count: int) -> tf.Tensor:
    return tf.stack([tf.fill([count], np.int64(77)), tf.range(count, dtype=tf.int64)], axis=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_every_image_is_moved_by_whole_pixels_and_every_move_occurs(most: int, dtype: Any) -> None:
    image = np.arange(1, 1 + 6 * 5 * 2).reshape(6, 5, 2).astype(dtype)
    count = 400
    batch = np.broadcast_to(image, (count, 6, 5, 2))
    images, labels = random_shift(most)((tf.constant(batch), tf.range(count)), seeds(count))
    assert images.dtype == dtype
    assert labels.numpy().tolist() == list(range(count))
    by_bytes = {moved.tobytes(): move for move, moved in all_moves(image, most).items()}
    found = [by_bytes[moved.tobytes()] for moved in images.numpy()]  # KeyError: no such move
    assert set(found) == set(by_bytes.values())
    assert len(set(found)) == (2 * most + 1) ** 2


def test_a_move_depends_only_on_the_seed() -> None:
    shift = random_shift(2)
    image = np.arange(1, 1 + 64).reshape(8, 8, 1).astype(np.float32)
    batch, labels = tf.constant(np.broadcast_to(image, (50, 8, 8, 1))), tf.zeros([50])
    together, _ = shift((batch, labels), seeds(50))
    backward, _ = shift((batch, labels), seeds(50)[::-1])
    single, _ = tf.function(shift)((batch[:1], labels[:1]), seeds(50)[17:18])
    np.testing.assert_array_equal(together, backward[::-1])
    np.testing.assert_array_equal(together[17], single[0])
    assert len({moved.tobytes() for moved in together.numpy()}) > 10


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


def test_half_of_the_images_are_mirrored_depending_on_their_seeds() -> None:
    image = np.arange(30, dtype=np.float32).reshape(5, 3, 2)
    batch, labels = tf.constant(np.broadcast_to(image, (1000, 5, 3, 2))), tf.range(1000)
    flipped, same = random_flip((batch, labels), seeds(1000))
    is_mirrored = (flipped.numpy() == image[:, ::-1]).all(axis=(1, 2, 3))
    is_as_it_was = (flipped.numpy() == image).all(axis=(1, 2, 3))
    assert (is_mirrored ^ is_as_it_was).all()
    # Five standard deviations of a fair coin.
    assert abs(is_mirrored.sum() - 500) < 80
    np.testing.assert_array_equal(same, labels)
    backward, _ = random_flip((batch, labels), seeds(1000)[::-1])
    np.testing.assert_array_equal(backward[::-1], flipped)


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
