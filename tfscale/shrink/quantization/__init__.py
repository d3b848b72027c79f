"""Quantization: weights and activations of eight bits or fewer."""

from tfscale.shrink.quantization.awareness import quantization_aware
from tfscale.shrink.quantization.cost_by_layer import LayerCost, QuantizationReport
from tfscale.shrink.quantization.fake_quantize import FakeQuantize
from tfscale.shrink.quantization.integer_file import integer_litert
from tfscale.shrink.quantization.post_training import Quantized, quantize
from tfscale.shrink.quantization.rounded_layer import RoundedWeights

__all__ = [
    "FakeQuantize",
    "LayerCost",
    "QuantizationReport",
    "Quantized",
    "RoundedWeights",
    "integer_litert",
    "quantization_aware",
    "quantize",
]
