"""A layer that computes with weights rounded to 8 bits, and trains the floats behind them."""

from __future__ import annotations

from typing import Any

import keras

from tfscale.shrink.quantization.grids import in_wide_float, rounded_weights
from tfscale.shrink.quantization.weighted_layers import WeightedKind, kind_of, with_bias


@keras.saving.register_keras_serializable(package="tfscale")
class RoundedWeights(keras.layers.Wrapper):
    """Computes what a layer computes, with its weights rounded to 8 bits.

    Each output channel has its own scale; a table of embeddings has one. The gradient goes through
    the rounding to the float weights, which the optimizer trains.

    Args:
        layer: A Dense, EinsumDense, Conv1D, Conv2D, DepthwiseConv2D or Embedding without
            activation.
        kwargs: Arguments of `keras.layers.Wrapper`.

    Example:
        >>> layer = RoundedWeights(keras.layers.Dense(1, use_bias=False))
        >>> _ = layer(np.ones([1, 2], "float32"))
        >>> _ = layer.layer.kernel.assign([[1.27], [0.004]])
        >>> float(layer(np.ones([1, 2], "float32"))[0, 0])  # 0.004 is less than half a step
        1.2699999809265137
    """

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    @property
    def kind(self) -> WeightedKind:
        """How the layer uses its weights."""
        kind = kind_of(self.layer)
        if kind is None:
            raise ValueError(
                "`layer` must be a Dense, EinsumDense, Conv1D, Conv2D, DepthwiseConv2D or "
                f"Embedding that an integer file can compute. Received: {self.layer!r}. Leave it "
                "as it is."
            )
        return kind

    def call(self, inputs: Any) -> Any:
        """Returns the layer's output, from rounded weights."""
        kind = self.kind
        weights = keras.ops.convert_to_tensor(kind.weights(self.layer))
        rounded = rounded_weights(in_wide_float(weights), kind.axes(self.layer))
        product = kind.product(self.layer, inputs, keras.ops.cast(rounded, self.compute_dtype))
        return with_bias(self.layer, product)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the layer's output."""
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns the layer's mask."""
        return self.layer.compute_mask(inputs, previous_mask)
