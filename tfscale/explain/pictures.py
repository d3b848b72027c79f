"""Attributions as pictures: heat maps over images, bars of features, tokens in colour.

Blue raised the output, orange lowered it. This file computes what is drawn; the templates of
`tfscale/report` write the markup.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfscale.report import numbers

_RAISED, _LOWERED = (11, 98, 196), (214, 77, 20)
_LARGEST_SIDE = 320
_HALF = 500  # Half the width of the bars' own coordinates.
_MOST_BARS = 20


def is_image(rows: np.ndarray) -> bool:
    """Tells whether rows are images: [rows, height, width] or with 1, 3 or 4 channels."""
    if rows.dtype.kind != "f" or rows.ndim not in (3, 4):
        return False
    return min(rows.shape[1:3]) > 1 and (rows.ndim == 3 or rows.shape[3] in (1, 3, 4))


def image_picture(image: np.ndarray, attributions: np.ndarray) -> dict[str, Any]:
    """Returns an image and its heat map as PNGs inside of a page.

    Args:
        image: Shape [height, width] or [height, width, channels].
        attributions: The same shape; they are added up over the channels.
    """
    heat = attributions.reshape(*attributions.shape[:2], -1).sum(axis=2)
    pixels = image.reshape(*image.shape[:2], -1).astype(np.float64)[:, :, :3]
    low, high = pixels.min(), pixels.max()
    shown = np.broadcast_to((pixels - low) / ((high - low) or 1.0) * 255, (*heat.shape, 3))
    grey = 128 + shown.mean(axis=2, keepdims=True) / 2  # Light, so that colours are seen.
    share = np.abs(heat)[:, :, None] / (np.abs(heat).max() or 1.0)
    colour = np.where(heat[:, :, None] > 0, _RAISED, _LOWERED)
    return {
        "kind": "image",
        "image": _png(shown),
        "heat": _png(grey * (1 - share) + colour * share),
        "largest": numbers.number(float(np.abs(heat).max())),
    }


def bars_picture(
    values: np.ndarray, attributions: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Returns bars of the features with the largest attributions, to both sides of 0.

    Args:
        values: The features of a row. Shape [features].
        attributions: The same shape.
        names: A name for each feature.
    """
    order = np.argsort(-np.abs(attributions), kind="stable")[:_MOST_BARS]
    largest = float(np.abs(attributions).max()) or 1.0
    return {
        "kind": "bars",
        "left_out": len(values) - len(order),
        "bars": [
            {
                "name": names[i],
                "value": numbers.number(values[i].item()),
                "attribution": f"{'+' if attributions[i] > 0 else ''}"
                f"{numbers.number(float(attributions[i]))}",
                "x": f"{_HALF - max(0.0, -attributions[i]) / largest * _HALF:.1f}",
                "width": f"{abs(attributions[i]) / largest * _HALF:.1f}",
                "colour": "c0" if attributions[i] > 0 else "c1",
            }
            for i in order
        ],
    }


def tokens_picture(
    tokens: np.ndarray,
    attributions: np.ndarray,
    texts: Callable[[int], str] | Sequence[str] | None,
) -> dict[str, Any]:
    """Returns the tokens of a text, each with its shade.

    Args:
        tokens: Shape [length].
        attributions: The same shape.
        texts: A list by token, or a function of the token; None shows numbers.
    """
    largest = float(np.abs(attributions).max()) or 1.0
    return {
        "kind": "tokens",
        "tokens": [
            {
                "text": _text(int(token), texts),
                "side": "raised" if value > 0 else "lowered",
                "share": f"{abs(value) / largest:.3f}",
                "attribution": numbers.number(float(value)),
            }
            for token, value in zip(tokens, attributions, strict=True)
        ],
    }


def _text(token: int, texts: Callable[[int], str] | Sequence[str] | None) -> str:
    if texts is None:
        return str(token)
    if callable(texts):
        return str(texts(token))
    return str(texts[token]) if 0 <= token < len(texts) else str(token)


def _png(pixels: np.ndarray) -> str:
    import tensorflow as tf

    height, width = pixels.shape[:2]
    scale = _LARGEST_SIDE / max(height, width)
    if scale < 1:
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        pixels = tf.image.resize(pixels, size, method="area").numpy()
    encoded = tf.io.encode_png(np.round(np.clip(pixels, 0, 255)).astype(np.uint8)).numpy()
    return f"data:image/png;base64,{base64.b64encode(encoded).decode('ascii')}"
