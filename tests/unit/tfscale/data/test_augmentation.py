"""Random changes of images by their seeds, compared with NumPy's slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfscale.data import random_flip, random_shift


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
    images = random_shift(tf.constant(batch), seeds(count), max_shift=most)
    assert images.dtype == dtype
    by_bytes = {moved.tobytes(): move for move, moved in all_moves(image, most).items()}
    found = [by_bytes[moved.tobytes()] for moved in images.numpy()]  # KeyError: no such move
    assert set(found) == set(by_bytes.values())
    assert len(set(found)) == (2 * most + 1) ** 2


def test_a_move_is_a_random_crop_after_padding() -> None:
    image = np.arange(1, 1 + 5 * 5).reshape(5, 5, 1)
    moved = random_shift(np.broadcast_to(image, (300, 5, 5, 1)), seeds(300), max_shift=5)
    padded = np.pad(image[:, :, 0], 5)
    crops = {padded[i : i + 5, j : j + 5].tobytes() for i in range(11) for j in range(11)}
    assert {crop.tobytes() for crop in moved.numpy()} <= crops


def test_a_change_depends_only_on_the_seed() -> None:
    image = np.arange(1, 1 + 64).reshape(8, 8, 1).astype(np.float32)
    batch = tf.constant(np.broadcast_to(image, (50, 8, 8, 1)))

    def changed(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return random_flip(random_shift(images, seeds, max_shift=2), seeds)

    together = changed(batch, seeds(50))
    np.testing.assert_array_equal(together, changed(batch, seeds(50)[::-1])[::-1])
    single = tf.function(changed)(batch[:1], seeds(50)[17:18])
    np.testing.assert_array_equal(together[17], single[0])
    assert len({moved.tobytes() for moved in together.numpy()}) > 20
    assert changed(batch[:0], seeds(0)).shape == (0, 8, 8, 1)


def test_half_of_the_images_are_mirrored() -> None:
    image = np.arange(30, dtype=np.float32).reshape(5, 3, 2)
    batch = tf.constant(np.broadcast_to(image, (1000, 5, 3, 2)))
    flipped = random_flip(batch, seeds(1000)).numpy()
    is_mirrored = (flipped == image[:, ::-1]).all(axis=(1, 2, 3))
    is_as_it_was = (flipped == image).all(axis=(1, 2, 3))
    assert (is_mirrored ^ is_as_it_was).all()
    # Five standard deviations of a fair coin.
    assert abs(is_mirrored.sum() - 500) < 80


@pytest.mark.parametrize("first", ["same", "counted", "random"])
def test_flips_and_moves_are_uniform_and_tell_nothing_of_each_other(first: str) -> None:
    count, most = 50_000, 2
    draw = np.random.default_rng(1)
    words = {"same": np.full(count, 77), "counted": np.arange(count) * 0x9E3779B1}
    words["random"] = draw.integers(0, 2**62, count)
    second = draw.integers(0, 2**62, count) if first == "random" else np.arange(count)
    if first == "counted":
        second = np.zeros(count, int)
    chosen = tf.constant(np.stack([words[first], second], 1))
    image = np.zeros((7, 7, 1), np.uint8)
    image[3, 2] = 1
    batch = tf.constant(np.broadcast_to(image, (count, 7, 7, 1)))
    moved = random_shift(batch, chosen, max_shift=most).numpy()
    _, rows, columns, _ = np.nonzero(moved)
    flips = np.nonzero(random_flip(batch, chosen).numpy())[2] == 4
    cells = (rows - 1) * 10 + columns * 2 + flips
    counts = np.bincount(cells, minlength=50)
    expected = count / 50
    # Chi-squared with 49 degrees of freedom: 99.99 % are below 95.
    assert ((counts - expected) ** 2 / expected).sum() < 95
    # Neighbouring examples: the cell of the next one is independent too.
    pairs = np.histogram2d(cells[:-1], cells[1:], [50, 50], [[0, 50], [0, 50]])[0]
    expected = (count - 1) / 2500
    # 2,499 degrees of freedom: mean 2,499, standard deviation 71.
    assert ((pairs - expected) ** 2 / expected).sum() < 2499 + 5 * 71


@pytest.mark.parametrize(
    ("shape", "seed_shape", "max_shift", "message"),
    [
        ((8, 8, 3), (8, 2), 1, r"`images` must be of shape \[n, height, width, channels\]"),
        ((2, 8, 8, 3), (2,), 1, r"`seeds` must be int64 of shape \[n, 2\]"),
        ((2, 8, 4, 3), (2, 2), 5, r"`max_shift` must be .* Received: max_shift=5"),
        ((2, 8, 4, 3), (2, 2), -1, r"`max_shift` must be .* Received: max_shift=-1"),
    ],
)
def test_wrong_arguments_are_refused(
    shape: tuple[int, ...], seed_shape: tuple[int, ...], max_shift: int, message: str
) -> None:
    images, wrong = tf.zeros(shape), tf.zeros(seed_shape, tf.int64)
    with pytest.raises(ValueError, match=message):
        random_shift(images, wrong, max_shift=max_shift)
    if max_shift == 1:
        with pytest.raises(ValueError, match=message):
            random_flip(images, wrong)


def test_images_of_unknown_size_are_refused_with_the_cure() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def flipped(images: tf.Tensor) -> tf.Tensor:
        return random_flip(images, tf.zeros([2, 2], tf.int64))

    with pytest.raises(ValueError, match=r"set the shape of an image with tf\.ensure_shape"):
        flipped(tf.zeros([2, 4, 4, 3]))
