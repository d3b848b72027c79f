"""What quantization costs, layer by layer: each alone in the model of floats, and all together.

The ratio of signal to quantization noise is 10 log10(sum y^2 / sum (y - q)^2) in decibels: 20 dB is
an error of a tenth, 40 dB of a hundredth. A layer's own ratio compares its outputs for the inputs
that it has in the float model. What it costs the model is seen at the model's outputs with this
layer quantized and all others not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfscale.shrink.quantization.calibration import calibration_batches
from tfscale.shrink.quantization.replaced_call import replaced_call


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs.

    Attributes:
        path: The layer's path.
        bytes_before: Of its weights.
        bytes_after: Of its weights and scales.
        own_decibels: Signal to noise of the layer's outputs. Infinite if nothing changed.
        model_decibels: Signal to noise of the model's outputs if only this layer is quantized.
        measure_change: How much `measure` changes if only this layer is quantized, or None.
    """

    path: str
    bytes_before: int
    bytes_after: int
    own_decibels: float
    model_decibels: float
    measure_change: float | None


@dataclass(frozen=True)
class QuantizationReport:
    """What the layers of a model cost, and all together.

    Attributes:
        layers: By quantized layer, in the order of the model's.
        model_decibels: Signal to noise of the quantized model's outputs.
        measure_before: `measure` of the float model, or None.
        measure_after: `measure` of the quantized model, or None.
    """

    layers: tuple[LayerCost, ...]
    model_decibels: float
    measure_before: float | None
    measure_after: float | None

    def __str__(self) -> str:
        rows = [["layer", "bytes", "quantized", "own dB", "model dB", "measure"]]
        rows += [_row(layer) for layer in self.layers]
        before, after = self.measure_before, self.measure_after
        change = None if before is None or after is None else after - before
        sizes = [sum(layer.bytes_before for layer in self.layers)]
        sizes.append(sum(layer.bytes_after for layer in self.layers))
        rows.append(["all", *map(str, sizes), "", f"{self.model_decibels:.1f}", _signed(change)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


def costs_of(
    model: keras.Model,
    quantized: keras.Model,
    pairs: Sequence[tuple[Any, Any]],
    calibration: Any,
    measure: Callable[[Any], float] | None,
) -> QuantizationReport:
    """Measures what quantized layers cost.

    Args:
        model: The float model.
        quantized: Its quantized copy.
        pairs: Layers of the first, and the quantized ones of the copy.
        calibration: See `calibration_batches`.
        measure: Of the outputs for all rows, or None.
    """
    batches = list(calibration_batches(model, calibration))
    noise = [_Noise() for _ in pairs]
    with contextlib.ExitStack() as stack:
        for (layer, twin), each in zip(pairs, noise, strict=True):
            stack.enter_context(replaced_call(layer, _compared(layer.call, twin, each)))
        expected = _outputs(model, batches)

    def change(outputs: Any) -> float | None:
        return None if measure is None else float(measure(outputs)) - float(measure(expected))

    costs = []
    for (layer, twin), own in zip(pairs, noise, strict=True):
        with replaced_call(layer, twin):
            outputs = _outputs(model, batches)
        alone = _Noise()
        alone.add(expected, outputs)
        before, after = (sum(map(_bytes, each.variables)) for each in (layer, twin))
        ratios = own.decibels, alone.decibels
        costs.append(LayerCost(layer.path, before, after, *ratios, change(outputs)))
    outputs = _outputs(quantized, batches)
    together = _Noise()
    together.add(expected, outputs)
    measured = [None if measure is None else float(measure(each)) for each in (expected, outputs)]
    return QuantizationReport(tuple(costs), together.decibels, *measured)


class _Noise:
    """Sums of squares of numbers, and of their errors."""

    def __init__(self) -> None:
        self._signal = self._error = 0.0

    def add(self, expected: Any, found: Any) -> None:
        both = zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True)
        for one, other in both:
            one, other = (
                np.asarray(keras.ops.convert_to_numpy(t), "float64") for t in (one, other)
            )
            self._signal += float(np.sum(one**2))
            self._error += float(np.sum((one - other) ** 2))

    @property
    def decibels(self) -> float:
        if self._error == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._error) if self._signal else -math.inf


def _compared(call: Callable[..., Any], twin: Any, noise: _Noise) -> Callable[..., Any]:
    def compared(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        noise.add(outputs, twin(*args, **kwargs))
        return outputs

    return compared


def _outputs(model: keras.Model, batches: Sequence[Any]) -> Any:
    """Returns the outputs for all rows, computed layer by layer."""
    outputs = [model(batch, training=False) for batch in batches]
    return keras.tree.map_structure(
        lambda *parts: np.concatenate([keras.ops.convert_to_numpy(part) for part in parts]),
        *outputs,
    )


def _bytes(variable: Any) -> int:
    # Keras has no numbers of 4 bits: it keeps two in a byte, in a variable of half the size.
    itemsize = 1 if variable.dtype.startswith("float8") else np.dtype(variable.dtype).itemsize
    return int(np.prod(variable.shape)) * itemsize


def _row(cost: LayerCost) -> list[str]:
    sizes = [str(cost.bytes_before), str(cost.bytes_after)]
    ratios = [f"{cost.own_decibels:.1f}", f"{cost.model_decibels:.1f}"]
    return [cost.path, *sizes, *ratios, _signed(cost.measure_change)]


def _signed(change: float | None) -> str:
    return "" if change is None else f"{change:+.4g}"
