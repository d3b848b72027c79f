"""Rotary position embedding: queries and keys are turned by angles that grow with the position.

Elements `i` and `i + width / 2` of a head are the real and the imaginary part of a complex number.
At position `m` it is multiplied by `exp(1j * m * base ** (-2 * i / width))`. So the inner product
of a query and a key depends on the distance of their positions only. The paper pairs elements
`2 * i` and `2 * i + 1`, which is the same model with the columns of two kernels in another order.

Source: Su et al. 2021, arXiv:2104.09864, section 3.2.2.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="recipes")
class RotaryAngles(keras.layers.Layer):
    """Turns positions into the cosines and sines of the angles.

    Once for all blocks. Input: positions, int32 [batch, length]. Output: [batch, length, width],
    the cosines, then the sines.

    Args:
        width: Elements of a head. Even.
        base: Base of the wavelengths: the slowest angle turns once in `2 * pi * base` positions.
        **kwargs: Arguments of every layer of Keras.
    """

    def __init__(self, width: int, base: float = 10_000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.base = base

    def call(self, positions: Any) -> Any:
        """Returns cosines and sines, [batch, length, width]."""
        # At least float32: in half precision, positions beyond 256 are no longer exact.
        wide = keras.config.floatx()
        half = self.width // 2
        wavelengths = ops.power(
            ops.cast(self.base, wide), ops.arange(half, dtype=wide) * (-2.0 / self.width)
        )
        angles = ops.cast(positions, wide)[..., None] * wavelengths
        turned = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        return ops.cast(turned, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {**super().get_config(), "width": self.width, "base": self.base}


def rotated(heads: Any, rotation: Any) -> Any:
    """Turns queries or keys.

    Args:
        heads: [batch, length, heads, width].
        rotation: What `RotaryAngles` returns, [batch, length, width].

    Returns:
        A tensor like `heads`.
    """
    cosine, sine = ops.split(rotation[:, :, None, :], 2, axis=-1)
    real, imaginary = ops.split(heads, 2, axis=-1)
    return ops.concatenate(
        [real * cosine - imaginary * sine, imaginary * cosine + real * sine], axis=-1
    )
