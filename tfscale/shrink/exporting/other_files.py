"""Writing `.keras` files, SavedModels, and OpenVINO's `.xml` with `.bin`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras

from tfscale.shrink.exporting.labels import LABELS, add_labels
from tfscale.shrink.exporting.signature import write_saved_model

SAVED_MODEL_LABELS = f"assets.extra/{LABELS}"
"""Where a SavedModel keeps files that TensorFlow does not load."""
OPENVINO_LABELS = ["model_info", "labels"]
"""Where OpenVINO's model zoo keeps labels: words with spaces between them."""


def write_keras(
    model: keras.Model, path: Path, *, quantize: str | None, labels: Sequence[str]
) -> None:
    """Writes a `.keras` file, with labels.txt inside if there are labels.

    Raises:
        ValueError: If Keras does not load it again: Keras 3.15 leaves the weights of a quantized
            `MultiHeadAttention` out of the file.
    """
    model.save(path)
    if quantize is not None:
        try:
            keras.models.load_model(path, compile=False)
        except ValueError as error:
            raise ValueError(
                f"Keras cannot load its own file of this model in {quantize}. Export it as "
                "savedmodel, or leave the model in float"
            ) from error
    add_labels(path, labels)


def write_folder(model: keras.Model, path: Path, *, labels: Sequence[str]) -> None:
    """Writes a SavedModel, with assets.extra/labels.txt if there are labels."""
    write_saved_model(model, str(path))
    if labels:
        target = path / SAVED_MODEL_LABELS
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n".join(labels), "utf-8")


def write_openvino(
    model: keras.Model, path: Path, *, quantize: str | None, labels: Sequence[str]
) -> None:
    """Writes an `.xml` file and the `.bin` of its weights, in float32 or float16.

    Args:
        model: A float model.
        path: The new `.xml`.
        quantize: None or "float16".
        labels: Names of the classes, without spaces; may be empty.
    """
    import openvino

    with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
        write_saved_model(model, folder)
        converted = openvino.convert_model(folder)
        if labels:
            converted.set_rt_info(" ".join(labels), OPENVINO_LABELS)
        openvino.save_model(converted, path, compress_to_fp16=quantize == "float16")
