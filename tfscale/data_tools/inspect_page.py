"""Files of examples as one HTML page: pictures of the first examples, and sizes by file."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from markupsafe import Markup

from tfscale.data_tools.inspection import Inspection
from tfscale.data_tools.previews import Value
from tfscale.report.bars import Bar, bar_chart
from tfscale.report.chart import line_chart
from tfscale.report.markup import fill
from tfscale.report.record import Curve

_LARGEST = 160  # pixels of a side of a drawn image
_MOST_BARS = 40
_MOST_PROBLEMS = 200
_GOOD_COLOUR, _DAMAGED_COLOUR = 0, 1


def render(found: Inspection) -> str:
    """Returns the page of an inspection.

    Args:
        found: What was found.

    Returns:
        HTML5, to be stored as UTF-8. The same inspection gives the same text.
    """
    facts = dict(found.facts)
    damaged = len(found.damaged)
    tiles: dict[str, Any] = {
        "examples": f"{facts.pop('examples'):,}",
        "files": f"{len(found.files):,}",
        "size": f"{sum(row.size or 0 for row in found.files) / 2**20:,.1f} MiB",
        "verified": f"{damaged:,} damaged" if damaged else "intact",
    }
    problems = [row.problem for row in found.damaged]
    return fill(
        "examples.html",
        title=found.name,
        name=found.name,
        tiles=tiles,
        problems=problems[:_MOST_PROBLEMS],
        more_problems=max(0, len(problems) - _MOST_PROBLEMS),
        examples=[[_drawn(value) for value in example] for example in found.examples],
        sizes=_sizes(found),
        facts=facts,
        features=found.features,
    )


def _drawn(value: Value) -> dict[str, str]:
    png = None if value.image is None else _png(value.image)
    image = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" if png else ""
    return {"name": value.name, "text": value.text, "image": image}


def _png(image: bytes | np.ndarray) -> bytes | None:
    """Returns a PNG of at most 160 pixels a side; None if an image file cannot be decoded."""
    import tensorflow as tf

    if isinstance(image, bytes):
        try:
            pixels = tf.io.decode_image(image, expand_animations=False).numpy()
        except tf.errors.InvalidArgumentError:
            return None
    else:
        pixels = image
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float64)
        low, high = values.min(), values.max()
        pixels = ((values - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = _LARGEST / max(height, width)
    if scale < 1:
        size = [max(1, round(height * scale)), max(1, round(width * scale))]
        pixels = tf.cast(tf.round(tf.image.resize(pixels, size, method="area")), tf.uint8)
    return bytes(tf.io.encode_png(pixels).numpy())


def _sizes(found: Inspection) -> Markup:
    sizes = [(row.size or 0) / 2**20 for row in found.files]
    if len(sizes) > _MOST_BARS:
        curve = Curve("Size by file", {"size": sizes}, x_name="file", first=0, unit="MiB")
        return line_chart(curve, identifier="sizes")
    bars = [
        Bar(
            row.file,
            size,
            colour=_DAMAGED_COLOUR if row.problem else _GOOD_COLOUR,
            remark=_remark(row.records, row.state),
        )
        for row, size in zip(found.files, sizes, strict=True)
    ]
    return bar_chart("Size by file", bars, unit="MiB")


def _remark(records: int | None, state: str) -> str:
    return state if records is None else f"{records:,} examples, {state}"
