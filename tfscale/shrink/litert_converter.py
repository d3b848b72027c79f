"""TensorFlow's converter to LiteRT, with an error that says what to do."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 160


def converted(converter: Any, name: str) -> bytes:
    """Returns the file that a `tf.lite.TFLiteConverter` makes.

    Args:
        converter: Ready to convert.
        name: Of the model, for the error.

    Raises:
        ValueError: If LiteRT has no operation for one of the model's.
    """
    try:
        return bytes(converter.convert())
    except Exception as error:  # the class of the converter's errors is not public
        text = re.sub(r"\s+", " ", re.sub(r"loc\(.*?\): ", "", str(error)))
        found = re.search(r"'?tf\.\w+'? op[^.;<]*", text)
        raise ValueError(
            "`model` must have layers that LiteRT's operations can compute. Received: model "
            f"{name!r}, of which TensorFlow's converter says: "
            f"{(found[0] if found else text)[:_LONGEST]}. Recurrent layers need a fixed batch size "
            "or unroll=True; or write a .keras file, a SavedModel or an ONNX file instead."
        ) from error
