"""Quantization-aware training: the float weights learn to be good after rounding to 8 bits.

aware = tfscale.shrink.quantization_aware(model, calibration=images[:500])
aware.compile("adam", "mse")
aware.fit(images, labels)
pathlib.Path("model.tflite").write_bytes(tfscale.shrink.integer_litert(aware))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from strategies.extension import (
    all_layers,
    copy_trainable,
    graph_of,
    nodes_in_order,
    number,
    through_graph,
)
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import value_of
from tfscale.shrink.quantization.calibration import calibration_batches, refuse_other_than_model
from tfscale.shrink.quantization.fake_quantize import FakeQuantize, reach_of
from tfscale.shrink.quantization.grids import in_wide_float
from tfscale.shrink.quantization.replaced_call import replaced_call
from tfscale.shrink.quantization.rounded_layer import RoundedWeights
from tfscale.shrink.quantization.rounding_plan import RoundingPlan
from tfscale.shrink.quantization.weighted_layers import is_unknown_product, kind_of


def quantization_aware(
    model: keras.Model, *, calibration: Any, momentum: float = 0.99
) -> keras.Model:
    """Returns a copy of a model that computes as its 8-bit integer file will, and can be trained.

    Train the copy for a few epochs with a small learning rate, a tenth of the model's or less. Then
    `integer_litert` writes the file. Without training the file is that of post-training
    quantization.

    Weights of Dense, EinsumDense, Conv1D, Conv2D, DepthwiseConv2D and Embedding are rounded to 8
    bits, with a scale for each output channel, and the tensors between layers to 256 numbers. A
    BatchNormalization after such a layer becomes part of its weights in the file. A layer of
    another kind, such as LayerNormalization or MultiHeadAttention, computes with floats, also in
    the file; one that is a convolution or product of another kind is refused.

    The copy is made in the current scope: call this under `strategy.scope()`. It is not compiled.
    N replicas train what one device trains, with the same ranges.

    Args:
        model: A Functional or built Sequential model without models in it. It is not changed.
        calibration: Inputs of the model that are typical, to find the range of each tensor: arrays
            as `predict` takes them, or a `tf.data.Dataset` of batches of inputs, or of `(inputs,
            labels)`. A few hundred examples are enough.
        momentum: How much of the old range each training step keeps, from 0 to 1.

    Returns:
        A Functional model with `FakeQuantize` layers between its layers.

    Raises:
        ValueError: If the model's graph is not known, or a layer is quantized already, or a tensor
            is not finite on the calibration data.

    Example:
        >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2, activation="relu")])
        >>> aware = quantization_aware(model, calibration=np.ones([8, 4], "float32"))
        >>> [type(layer).__name__ for layer in aware.layers]
        ['InputLayer', 'FakeQuantize', 'RoundedWeights', 'Activation', 'FakeQuantize']

    Source: Jacob et al. 2018, arXiv:1712.05877.
    """
    refuse_other_than_model(model)
    number("momentum", momentum, "from 0 to 1", lambda value: 0 <= value <= 1)
    _check(model)
    apart = _with_activations_apart(model)
    aware = _with_rounding(apart, momentum)
    _calibrate(aware, calibration)
    return aware


def _check(model: keras.Model) -> None:
    graph = graph_of(model)
    for node in nodes_in_order(graph):
        layer = node.operation
        if isinstance(layer, keras.Model):
            raise ValueError(
                "`model` must have no models among its layers. Received: "
                f"{layer.name!r} in {model.name!r}. Call the inner model's layers one by one."
            )
        if is_unknown_product(layer):
            raise ValueError(
                "`model` must multiply by weights in Dense, EinsumDense (one matrix), Conv1D, "
                "Conv2D or DepthwiseConv2D (with channels last and equal strides) only. Received: "
                f"{layer.name!r} of class {type(layer).__name__}, which the file would round "
                "though training does not. Use layers of these classes, or LiteRT's post-training "
                "quantization."
            )
        if getattr(layer, "quantization_mode", None) is not None:
            raise ValueError(
                "`model` must have float weights, which are rounded in training. Received: "
                f"{layer.name!r}, quantized as {layer.quantization_mode!r}. Pass the model from "
                "before `quantize`."
            )


def _with_activations_apart(model: keras.Model) -> keras.Model:
    """Returns a copy of a model in which activations are layers of their own."""
    twins: dict[int, tuple[Any, Any, Any]] = {}

    def call(node: Any, *args: Any, **kwargs: Any) -> Any:
        layer = node.operation
        if not isinstance(layer, keras.layers.Layer):
            return layer(*args, **kwargs)  # an operation, which keeps nothing
        if id(layer) not in twins:
            config = layer.get_config()
            activation = _activation_apart(layer, config) if kind_of(layer) is not None else None
            twins[id(layer)] = (layer, type(layer).from_config(config), activation)
        _, twin, activation = twins[id(layer)]
        outputs = twin(*args, **kwargs)
        return outputs if activation is None else activation(outputs)

    graph = graph_of(model)
    with keras.saving.custom_object_scope(custom_objects_in(all_layers(model))):
        copy = _rebuilt(model, _new_inputs(graph), call)
    for layer, twin, _ in twins.values():
        for variable, its_twin in zip(layer.variables, twin.variables, strict=True):
            its_twin.assign(value_of(variable))
        for inner, its_inner in zip(all_layers(layer), all_layers(twin), strict=True):
            copy_trainable(inner, its_inner)
    return copy


def _activation_apart(layer: Any, config: dict[str, Any]) -> Any:
    """Takes the activation out of a layer's config; returns it as a layer, or None for none."""
    activation = getattr(layer, "activation", None)
    regularizer = config.pop("activity_regularizer", None)
    is_linear = activation is None or activation is keras.activations.linear
    if "activation" in config:
        config["activation"] = "linear"
    if is_linear and regularizer is None:
        return None
    return keras.layers.Activation(
        activation or "linear",
        activity_regularizer=keras.regularizers.get(regularizer),
        dtype=layer.dtype_policy,
        name=f"{layer.name}_activation",
    )


def _with_rounding(model: keras.Model, momentum: float) -> keras.Model:
    """Returns a model of the same layers, with rounded weights and `FakeQuantize` in between."""
    graph = graph_of(model)
    plan = RoundingPlan(graph, momentum)
    wrapped: dict[int, Any] = {}

    def call(node: Any, *args: Any, **kwargs: Any) -> Any:
        layer = node.operation
        if isinstance(layer, keras.layers.Layer) and kind_of(layer) is not None:
            if id(layer) not in wrapped:
                name = f"{layer.name}_rounded"
                wrapped[id(layer)] = RoundedWeights(layer, dtype=layer.dtype_policy, name=name)
            layer = wrapped[id(layer)]
        outputs, after = layer(*args, **kwargs), plan.range_after(node)
        return outputs if after is None else after(outputs)

    inputs = _new_inputs(graph)
    ranges = [plan.range_of_input(tensor) for tensor in graph.inputs]
    rounded = [x if each is None else each(x) for x, each in zip(inputs, ranges, strict=True)]
    return _rebuilt(model, inputs, call, rounded)


def _new_inputs(graph: Any) -> list[Any]:
    return [
        keras.Input(batch_shape=each.shape, dtype=each.dtype, name=each.name)
        for each in graph.inputs
    ]


def _rebuilt(
    model: keras.Model, inputs: list[Any], call: Callable[..., Any], entering: Any = None
) -> keras.Model:
    """Returns a model like `model` whose calls of layers are replaced; see `through_graph`.

    Args:
        model: Functional or Sequential.
        inputs: The new model's, in the order of its graph's.
        call: The replacement.
        entering: What goes into the graph instead of the inputs.
    """
    graph, pack = graph_of(model), keras.tree.pack_sequence_as
    outputs = through_graph(graph, inputs if entering is None else entering, call)
    return keras.Model(pack(graph.input, inputs), pack(graph.output, outputs), name=model.name)


def _calibrate(model: keras.Model, calibration: Any) -> None:
    """Sets the ranges to the extremes of each tensor on the calibration data."""
    ranges = [each for each in model.layers if isinstance(each, FakeQuantize) and not each.fixed]
    reaches = [np.zeros(2) for _ in ranges]
    with contextlib.ExitStack() as stack:
        for layer, reach in zip(ranges, reaches, strict=True):
            stack.enter_context(replaced_call(layer, _noting(reach)))
        for batch in calibration_batches(model, calibration):
            model(batch, training=False)
    for layer, reach in zip(ranges, reaches, strict=True):
        layer.set_range(-float(reach[0]), float(reach[1]))


def _noting(reach: Any) -> Callable[..., Any]:
    """Returns a call that notes the extremes of what a layer gets, and returns it as it is."""

    def noted(inputs: Any, training: bool | None = None) -> Any:
        np.maximum(reach, reach_of(in_wide_float(inputs)).numpy(), out=reach)
        return inputs

    return noted
