"""How the bytes of an image file become pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""Endings of the files that are decoded."""
_NOT_BY_DECODE_JPEG = (".bmp", ".gif")


@dataclass(frozen=True)
class ImageDecoding:
    """Decodes JPEG, PNG, BMP and the first frame of GIF to images of one shape.

    Attributes:
        shape: `(height, width, channels)` of every image.
        image_size: `(height, width)` to which images are resized, or None if all have one size.
        endings: Endings of the files, in lower case.
    """

    shape: tuple[int, int, int]
    image_size: tuple[int, int] | None
    endings: frozenset[str]

    def decode(self, contents: tf.Tensor, ending: tf.Tensor) -> tf.Tensor:
        """Returns an image.

        Args:
            contents: Bytes of the file, a string scalar.
            ending: The last four characters of its name, such as ".jpg" or "jpeg".

        Returns:
            uint8 [height, width, channels].
        """
        image = self._pixels(contents, ending)
        image.set_shape([None, None, self.shape[2]])
        if self.image_size is not None:
            resized = tf.image.resize(image, self.image_size, antialias=True)
            image = tf.saturate_cast(tf.round(resized), tf.uint8)
        return tf.ensure_shape(image, self.shape)

    def check(self, contents: tf.Tensor, ending: tf.Tensor) -> tf.Tensor:
        """Fails if an image cannot be decoded. Returns its first byte."""
        image = self._pixels(contents, ending)
        if self.image_size is None:
            image = tf.ensure_shape(image, self.shape)
        return image[0, 0, 0]  # not its shape, which TensorFlow may know without decoding

    def _pixels(self, contents: tf.Tensor, ending: tf.Tensor) -> tf.Tensor:
        channels = self.shape[2]

        def exactly() -> tf.Tensor:  # PNG too
            return tf.io.decode_jpeg(contents, channels=channels, dct_method="INTEGER_ACCURATE")

        def otherwise() -> tf.Tensor:
            return tf.io.decode_image(contents, channels=channels, expand_animations=False)

        others = self.endings.intersection(_NOT_BY_DECODE_JPEG)
        if channels == 4 or others == self.endings:
            return otherwise()
        if not others:
            return exactly()
        is_other = tf.reduce_any(tf.strings.lower(ending) == tf.constant(_NOT_BY_DECODE_JPEG))
        return tf.cond(is_other, otherwise, exactly)


def endings_of(paths: Iterable[str]) -> frozenset[str]:
    """Returns the endings of files that are images, in lower case."""
    lowered = [path.lower() for path in paths]
    return frozenset(end for end in ENDINGS if any(path.endswith(end) for path in lowered))
