"""Writing `.tflite` files for LiteRT (formerly TensorFlow Lite).

TensorFlow's converter makes the float, float16 and int8 files, and ai-edge-quantizer the weights of
int8 and int4: the converter leaves matrices of less than 1024 elements in float.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.shrink.exporting.labels import add_labels
from tfscale.shrink.exporting.lookups import with_marked_lookups
from tfscale.shrink.exporting.signature import write_saved_model
from tfscale.shrink.litert_converter import converted


def write(
    model: keras.Model,
    path: Path,
    *,
    quantize: str | None,
    rows: Mapping[str, np.ndarray],
    labels: Sequence[str],
) -> None:
    """Writes a model.

    Labels are added as TensorFlow Lite Metadata does it: the end of the file is a zip archive with
    labels.txt, which a runtime ignores and `unzip` reads.

    Args:
        model: A float model.
        path: The new file.
        quantize: None, "float16", "dynamic", "int4" or "int8".
        rows: Inputs by name, for the ranges of "int8".
        labels: Names of the classes; may be empty.
    """
    with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
        marked, _ = with_marked_lookups(model)
        write_saved_model(marked, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize in ("float16", "int8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = lambda: _single_rows(rows)
        with warnings.catch_warnings():
            # Of its own interpreter, which measures the ranges.
            warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
            content = converted(converter, model.name)
    if quantize in ("dynamic", "int4"):
        content = _with_small_weights(content, quantize)
    path.write_bytes(content)
    add_labels(path, labels)


def _single_rows(rows: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for index in range(len(next(iter(rows.values())))):
        yield {name: values[index : index + 1] for name, values in rows.items()}


def _with_small_weights(content: bytes, quantize: str) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    recipes: dict[str, Any] = {
        "dynamic": recipe.dynamic_wi8_afp32,
        "int4": recipe.weight_only_wi4_afp32,
    }
    with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
        source = Path(folder) / "float.tflite"
        source.write_bytes(content)
        # It prints sizes, which the table of `tfscale export` has too.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            maker = quantizer.Quantizer(str(source))
            maker.load_quantization_recipe(recipes[quantize]())
            made = bytes(maker.quantize().quantized_model)
    if not _has_scales(made):
        raise ValueError(
            f"no layer of the model has weights that {quantize} quantizes: LiteRT's tables of "
            "embeddings stay in float. Use quantize='int8' with data, which quantizes them, or "
            "'float16'"
        )
    return made


def _has_scales(content: bytes) -> bool:
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_content=content).get_tensor_details()
    return any(len(each["quantization_parameters"]["scales"]) for each in details)
