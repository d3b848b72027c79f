"""Digests distinguish other variables from variables whose last digits differ."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from strategies.keras_support.workers.state_digest import Digest, _function, pack, unpack


def digest(values: np.ndarray) -> Digest:
    prints, sums = _function([tf.Variable(values)])()
    total, energy = map(float, sums[0].numpy())
    return Digest(bytes(prints[0].numpy()), total, energy, values.size)


DRAW = np.random.default_rng(0)
KERNEL = DRAW.normal(size=[64, 8]).astype(np.float32)


def test_equal_variables_have_the_same_fingerprint_and_a_changed_bit_another() -> None:
    moved = np.nextafter(
        KERNEL, np.inf, where=np.arange(512).reshape(64, 8) == 9, out=KERNEL.copy()
    )
    assert digest(KERNEL).fingerprint == digest(KERNEL.copy()).fingerprint
    assert digest(KERNEL).fingerprint != digest(moved).fingerprint


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_last_digits_count_as_rounding(dtype: str) -> None:
    values = KERNEL.astype(dtype)
    digits = DRAW.choice([-1, 1], size=values.shape) * np.finfo(dtype).eps
    other = (values * (1 + digits)).astype(dtype)
    assert digest(values).fingerprint != digest(other).fingerprint
    assert digest(values).differs_by_rounding(digest(other))


@pytest.mark.parametrize(
    "other",
    [DRAW.normal(size=[64, 8]).astype(np.float32), KERNEL * 1.01, KERNEL + 0.01, KERNEL * 0],
    ids=["another draw", "one percent", "a shift", "zeros"],
)
def test_other_weights_do_not_count_as_rounding(other: np.ndarray) -> None:
    assert not digest(KERNEL).differs_by_rounding(digest(other))


def test_integers_never_differ_by_rounding() -> None:
    assert not digest(np.array([7])).differs_by_rounding(digest(np.array([8])))


def test_digests_are_sent_as_sixteen_bytes_each() -> None:
    digests = [digest(KERNEL), digest(np.array(3))]
    text = pack(digests)
    assert len(text) == 44  # 32 bytes in base 64
    assert unpack(text, [512, 1]) == digests
