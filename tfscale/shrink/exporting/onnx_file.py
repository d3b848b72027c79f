"""Writing `.onnx` files with tf2onnx, quantized by ONNX Runtime."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.shrink.exporting.lookups import number_in, with_marked_lookups
from tfscale.shrink.exporting.signature import input_names, input_specs, serving_function

OPSET = 18
"""Of the standard operators. ONNX Runtime 1.14 of 2023 and all later ones have it."""
BATCH = "batch"
"""The name of the dimension whose size is free."""


def write(
    model: keras.Model,
    path: Path,
    *,
    quantize: str | None,
    rows: Mapping[str, np.ndarray],
    labels: Sequence[str],
) -> None:
    """Writes a model.

    Args:
        model: A model.
        path: The new file.
        quantize: None, "dynamic" (int8 weights; activations are quantized as they come) or "int8".
        rows: Inputs by name, for the ranges of "int8".
        labels: Names of the classes, stored as JSON under "labels" of the file's metadata; may be
            empty.
    """
    import onnx

    marked, lookups = with_marked_lookups(model)
    proto = _converted(marked, lookups)
    with tempfile.TemporaryDirectory(prefix="tfscale-export-") as folder:
        if quantize is not None:
            proto = _quantized(proto, Path(folder), quantize, rows)
        if labels:
            onnx.helper.set_model_props(proto, {"labels": json.dumps(list(labels))})
        onnx.checker.check_model(proto)
        onnx.save(proto, path)


def _converted(model: keras.Model, lookups: Sequence[Any]) -> Any:
    import tf2onnx

    handlers: dict[str, Any] = {
        "Erfc": (_erfc, []),
        "LookupTableFindV2": (functools.partial(_lookup, list(map(_table, lookups))), []),
    }
    # It warns that shapes are missing which are in the file, and of symbols it does not need.
    with _errors_only("tf2onnx"):
        proto, _ = tf2onnx.convert.from_function(
            serving_function(model),
            input_signature=input_specs(model),
            opset=OPSET,
            custom_op_handlers=handlers,
            extra_opset=[_ml_opset()],
        )
    # What lookups gave their tables is an input of the graph, which no node reads any more.
    kept = [each for each in proto.graph.input if each.name in input_names(model)]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    return proto


def _ml_opset() -> Any:
    import onnx

    return onnx.helper.make_opsetid("ai.onnx.ml", 2)


def _erfc(context: Any, node: Any, name: str, args: Any) -> None:
    """Writes erfc(x), of Keras's exact gelu, as 1 - erf(x): tf2onnx has no Erfc."""
    erf = context.make_node("Erf", node.input)
    one = context.make_const(f"{name}_one", np.ones((), np.float32))
    shape, kind = context.get_shape(node.output[0]), context.get_dtype(node.output[0])
    context.remove_node(name)
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=node.output,
        name=name,
        shapes=[shape],
        dtypes=[kind],
    )


def _table(layer: Any) -> dict[str, Any]:
    """Returns a lookup layer as the attributes of ONNX's LabelEncoder."""
    is_text = isinstance(layer, keras.layers.StringLookup)
    keys: list[Any] = [str(key) if is_text else int(key) for key in layer.get_vocabulary()]
    unknown = "".join(keys) + "?" if is_text else max(map(abs, keys)) + 1
    *indices, default = np.asarray(layer(tf.constant([*keys, unknown]))).tolist()
    return {
        "keys_strings" if is_text else "keys_int64s": keys,
        "values_int64s": indices,
        "default_int64": default,
    }


def _lookup(tables: Sequence[Any], context: Any, node: Any, name: str, args: Any) -> None:
    """Writes the table of the lookup layer that a node is marked with."""
    number = number_in(name)
    if number is None:
        raise ValueError(f"the table of {name} belongs to no layer of the model")
    source, shape = node.input[1], context.get_shape(node.output[0])
    kind, outputs = context.get_dtype(node.output[0]), node.output
    context.remove_node(name)
    context.make_node(
        "LabelEncoder",
        [source],
        outputs=outputs,
        name=name,
        attr=tables[number],
        domain="ai.onnx.ml",
        shapes=[shape],
        dtypes=[kind],
    )


def _quantized(proto: Any, folder: Path, quantize: str, rows: Mapping[str, np.ndarray]) -> Any:
    import onnx
    from onnxruntime import quantization

    source, prepared, target = (folder / f"{name}.onnx" for name in ("float", "prepared", "int8"))
    onnx.save(proto, source)
    quantization.shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    # It recommends the preparation that the line above has done.
    with _errors_only(None):
        if quantize == "dynamic":
            weight_type = quantization.QuantType.QInt8
            quantization.quantize_dynamic(prepared, target, weight_type=weight_type)
        else:
            quantization.quantize_static(
                prepared,
                target,
                _CalibrationRows(_batches(rows)),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
            )
    return onnx.load(target)


@contextlib.contextmanager
def _errors_only(name: str | None) -> Iterator[None]:
    """Keeps a logger, None for that of the program, from printing warnings within the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _CalibrationRows:
    """What ONNX Runtime asks for its calibration batches."""

    def __init__(self, batches: Iterator[dict[str, np.ndarray]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _batches(rows: Mapping[str, np.ndarray], size: int = 32) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(next(iter(rows.values()))), size):
        yield {name: values[start : start + size] for name, values in rows.items()}
