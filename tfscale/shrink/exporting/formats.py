"""The file formats, what each can be quantized to, and what each needs. No TensorFlow here.

| format | file | quantized while it is written |
|---|---|---|
| keras | `.keras`, for Keras | int8, int4, float8: Keras's `quantize`, weights |
| savedmodel | a folder, for TensorFlow and TensorFlow Serving | as keras |
| litert | `.tflite`, for LiteRT (formerly TensorFlow Lite) | float16 weights; dynamic: int8 weights; int4 weights; int8: weights and activations |
| onnx | `.onnx`, for ONNX Runtime and others | dynamic: int8 weights; int8: weights and activations |
| openvino | `.xml` and `.bin`, for OpenVINO | float16 weights |
"""  # noqa: E501

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

CALIBRATED = "int8"
"""The quantization that needs rows to measure the ranges of activations with."""
_KERAS_MODES = ("int8", "int4", "float8")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: As in `--format`.
        suffix: Of the file's name.
        quantizations: What can be asked for with `quantize`.
        reads: Quantizations by Keras's `quantize` that a model may already have. Others are
            refused, because the converter fails on them or, worse, the file gives other outputs.
        packages: Modules that must be importable, and the names under which pip installs them.
        needs_calibration: Whether "int8" includes activations, whose ranges are measured.
    """

    name: str
    suffix: str
    quantizations: tuple[str, ...]
    reads: tuple[str, ...]
    packages: Mapping[str, str]
    needs_calibration: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format("keras", ".keras", _KERAS_MODES, _KERAS_MODES, {}),
        Format("savedmodel", "_savedmodel", _KERAS_MODES, _KERAS_MODES, {}),
        Format(
            "litert",
            ".tflite",
            ("float16", "dynamic", "int4", "int8"),
            (),
            {"ai_edge_litert": "ai-edge-litert", "ai_edge_quantizer": "ai-edge-quantizer"},
            needs_calibration=True,
        ),
        Format(
            "onnx",
            ".onnx",
            ("dynamic", "int8"),
            ("int8", "int4"),
            {"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"},
            needs_calibration=True,
        ),
        # Keras's int8 matrices become other numbers in OpenVINO 2026.4, without an error.
        Format("openvino", ".xml", ("float16",), (), {"openvino": "openvino"}),
    )
}


def format_named(name: str) -> Format:
    """Returns a format.

    Args:
        name: "keras", "savedmodel", "litert", "onnx" or "openvino".

    Raises:
        ValueError: If there is no such format.

    Example:
        >>> format_named("litert").suffix
        '.tflite'
    """
    if name not in FORMATS:
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}. Received: format={name!r}. Choose one "
            "of them."
        )
    return FORMATS[name]


def check_quantization(chosen: Format, quantize: str | None, *, has_rows: bool) -> None:
    """Checks that a format can be quantized in a way.

    Args:
        chosen: The format.
        quantize: The way, or None.
        has_rows: Whether the user gave rows.

    Raises:
        ValueError: If the format cannot be quantized so, or rows are missing.
    """
    if quantize is None:
        return
    if quantize not in chosen.quantizations:
        others = [each.name for each in FORMATS.values() if quantize in each.quantizations]
        cure = f", or export to {' or '.join(others)}" if others else ""
        raise ValueError(
            f"`quantize` must be one of {', '.join(chosen.quantizations)} with format="
            f"{chosen.name!r}. Received: quantize={quantize!r}. Choose one of them{cure}."
        )
    if chosen.needs_calibration and quantize == CALIBRATED and not has_rows:
        raise ValueError(
            f"`data` is required with quantize={CALIBRATED!r} and format={chosen.name!r}: ranges "
            "of activations are measured on it. Received: no data. Pass some hundred rows of your "
            "training data, or quantize='dynamic'."
        )


def check_source(chosen: Format, quantized: str | None) -> None:
    """Checks that a format can hold a model that Keras has quantized already.

    Args:
        chosen: The format.
        quantized: Keras's mode, such as "int8"; None for a float model.

    Raises:
        ValueError: If it cannot.
    """
    if quantized is None or quantized in chosen.reads:
        return
    ways = " or ".join(f"quantize={way!r}" for way in chosen.quantizations)
    raise ValueError(
        f"`model` must not be quantized by Keras with format={chosen.name!r}. Received: a model "
        f"in {quantized}. Export the float model with {ways}, which quantizes at the conversion."
    )


def require_packages(
    chosen: Sequence[Format],
    is_missing: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is None,
) -> None:
    """Checks that the converters and runtimes of formats are installed, before any work.

    Args:
        chosen: The formats.
        is_missing: Says of a module whether it is not installed.

    Raises:
        ImportError: If one is missing. The text has the command that installs it.
    """
    for each in chosen:
        missing = [pip for module, pip in each.packages.items() if is_missing(module)]
        if missing:
            raise ImportError(
                f"format={each.name!r} needs {' and '.join(missing)}, which this Python does not "
                f'have. Install: pip install "tfscale[export]", or only: pip install '
                f"{' '.join(missing)}."
            )
