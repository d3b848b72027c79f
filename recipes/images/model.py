"""The network of the image recipe, its input conversion, and how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from recipes.images.sets import AnyImageSet


def image_model(
    image_shape: Sequence[int], num_classes: int, *, pixel_range: float, dropout: float
) -> keras.Model:
    """Builds the network: blocks of two 3x3 convolutions and a pooling, then two dense layers.

    Args:
        image_shape: `(height, width, channels)`. One block for each halving down to 2, at most 3.
        num_classes: Classes. The output has one logit for each.
        pixel_range: The largest value of a pixel.
        dropout: Fraction of the features dropped before each dense layer, in [0, 1).

    Returns:
        A `keras.Model`: images [batch, height, width, channels] to logits [batch, num_classes].

    Example:
        >>> image_model((8, 8, 1), 10, pixel_range=16, dropout=0.4).count_params()
        99178
    """
    num_blocks = min(3, max(1, min(image_shape[:2]).bit_length() - 2))
    layers: list[Any] = [keras.Input(tuple(image_shape)), keras.layers.Rescaling(1 / pixel_range)]
    for block in range(num_blocks):
        for _ in range(2):
            filters = 32 * 2**block
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", activation="relu"))
        layers.append(keras.layers.MaxPooling2D())
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(dropout),
        # Logits in float32 at least: half precision would round the loss (Keras's own advice).
        keras.layers.Dense(num_classes, dtype=keras.config.floatx()),
    ]
    return keras.Sequential(layers)


def compiled_model(
    image_set: AnyImageSet,
    optimizer: keras.optimizers.Optimizer,
    *,
    dropout: float,
    has_soft_labels: bool = False,
) -> keras.Model:
    """Builds the network for a set and compiles it. Call it in the strategy's scope.

    Args:
        image_set: The set to classify.
        optimizer: The optimizer.
        dropout: See `image_model`.
        has_soft_labels: Whether labels are rows of probabilities, as `smooth_labels` makes them,
            and not class numbers.
    """
    model = image_model(
        image_set.image_shape,
        image_set.num_classes,
        pixel_range=image_set.largest_pixel,
        dropout=dropout,
    )
    losses = keras.losses
    loss = (
        losses.CategoricalCrossentropy if has_soft_labels else losses.SparseCategoricalCrossentropy
    )
    model.compile(optimizer, loss(from_logits=True), metrics=["accuracy"])
    return model


def to_float(batch: Any) -> Any:
    """Converts images to the default float type, which the model expects."""
    images, labels = batch
    return tf.cast(images, keras.config.floatx()), labels


def smooth_labels(num_classes: int, smoothing: float) -> Callable[[Any], Any]:
    """Returns a function that turns class numbers into probabilities, and images into floats.

    The right class gets `1 - smoothing + smoothing / num_classes`, each other `smoothing /
    num_classes`. Labels are smoothed here and not in the loss, so that the loss of test images with
    smoothing 0 is plain cross-entropy, which is comparable between runs.

    Args:
        num_classes: Classes. Positive.
        smoothing: Fraction of the probability spread over all classes, in [0, 1).

    Returns:
        Maps `(images, labels)` with integer labels [batch] to one with labels [batch, num_classes].

    Source: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """

    def preprocess(batch: Any) -> Any:
        images, labels = to_float(batch)
        right = tf.one_hot(labels, num_classes, dtype=keras.config.floatx())
        return images, right * (1 - smoothing) + smoothing / num_classes

    return preprocess
