"""Divides the weights of a layer, and gives it the call that computes with the parts.

Known are `Dense`, `EinsumDense`, and `Embedding` with its subclasses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.placement.replica_devices import devices_by_replica
from strategies.keras_support.tensor.layer_calls import (
    block_call,
    column_call,
    row_call,
    vocabulary_call,
)
from strategies.keras_support.tensor.parts import divide, whole_weights
from strategies.keras_support.tensor.weight_cut import WeightCut

_LAYERS = keras.layers


def devices_per_replica(strategy: tf.distribute.Strategy) -> int:
    """Returns how many devices each replica of a strategy has.

    Args:
        strategy: Of one process.
    """
    return len(devices_by_replica(strategy)[0])


def kernel_of(layer: Any) -> Any:
    """Returns the matrix of a layer by which it can be divided, or None if it is of no such kind.

    Args:
        layer: A built layer.
    """
    if type(layer) in (_LAYERS.Dense, _LAYERS.EinsumDense):
        return layer._kernel
    return layer._embeddings if isinstance(layer, _LAYERS.Embedding) else None


def axis_of(layer: Any, kind: str) -> int:
    """Returns the axis of the layer's matrix that a kind of division cuts.

    Args:
        layer: One that has a `kernel_of`.
        kind: "column", "row" or "vocabulary".

    Raises:
        ValueError: If the layer cannot be divided so.
    """
    is_table = isinstance(layer, _LAYERS.Embedding)
    if is_table != (kind == "vocabulary"):
        fitting = '"vocabulary"' if is_table else '"column" or "row"'
        raise ValueError(
            f"`rules` must divide a {type(layer).__name__} by {fitting}. Received: {kind!r} for "
            f"{layer.path!r}. Pass TensorRule({layer.path!r}, {fitting.partition(' ')[0]})."
        )
    if is_table:
        return 0
    if isinstance(layer, _LAYERS.EinsumDense):
        return _kernel_labels(layer).index(_label(layer, kind))
    return 1 if kind == "column" else 0


def divide_layer(layer: Any, kind: str, groups: int, strategy: tf.distribute.Strategy) -> None:
    """Divides a layer over the devices of each replica.

    Args:
        layer: One that has a `kernel_of`, in the scope of `strategy`.
        kind: One that `axis_of` accepts.
        groups: See `WeightCut`.
        strategy: Of one process, with several devices in each replica.
    """
    require(Need.TENSOR_PARALLEL)
    kernel, axis = kernel_of(layer), axis_of(layer, kind)
    cut = WeightCut(axis, kernel.shape[axis], devices_per_replica(strategy), groups)
    call = layer.call
    divide(layer, kernel, cut, strategy)
    if kind == "vocabulary":
        untied = getattr(layer, "reverse_embeddings", None)
        if untied is not None:
            divide(layer, untied, cut.along(1), strategy)
        _set_call(layer, vocabulary_call(layer, call, cut))
    elif kind == "column":
        place = _place_of_output(layer)
        if layer.bias is not None and _bias_is_along(layer):
            divide(layer, layer.bias, cut.along(place), strategy)
        _set_call(layer, column_call(call, cut.along(place)))
    else:
        _set_call(layer, row_call(layer, _product_of(layer), cut.along(_place_of_input(layer))))
        layer.input_spec = None  # of all inputs; a device has some
    _load_whole(layer)


def divide_block(layer: Any, strategy: tf.distribute.Strategy) -> None:
    """Lets a layer with divided layers in it run as a whole on each device; see `block_call`.

    Args:
        layer: The layer.
        strategy: Of its layers.
    """
    _set_call(layer, block_call(layer.call, devices_per_replica(strategy)))


def _set_call(layer: Any, call: Callable[..., Any]) -> None:
    vars(layer)["call"] = call  # of this layer, not of its class: files name the class


def _load_whole(layer: Any) -> None:
    """Lets a layer load files, which have whole matrices, though it lists parts."""
    load = layer.load_own_variables

    @functools.wraps(load)
    def load_whole(store: Any) -> None:
        with whole_weights([layer]):
            load(store)

    vars(layer)["load_own_variables"] = load_whole


def _product_of(layer: Any) -> Callable[[Any], Any]:
    if isinstance(layer, _LAYERS.EinsumDense):
        return lambda inputs: ops.einsum(layer.equation, inputs, layer.kernel)
    return lambda inputs: ops.matmul(inputs, layer.kernel)


def _labels(layer: Any) -> tuple[str, str, str]:
    """Returns the labels of the input, the kernel and the output of an EinsumDense."""
    given, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = given.split(",")
    return inputs, kernel, output


def _kernel_labels(layer: Any) -> str:
    return _labels(layer)[1]


def _label(layer: Any, kind: str) -> str:
    inputs, kernel, output = _labels(layer)
    of_output, other = (output, inputs) if kind == "column" else (inputs, output)
    found = [label for label in kernel if label in of_output and label not in other]
    if not found:
        where = "outputs" if kind == "column" else "inputs"
        raise ValueError(
            f"`rules` must divide an EinsumDense along its {where}. Received: {kind!r} for "
            f"{layer.path!r} with {layer.equation!r}, whose kernel has no such axis."
        )
    return found[0]


def _place_of_output(layer: Any) -> int:
    if not isinstance(layer, _LAYERS.EinsumDense):
        return -1
    return _place(_labels(layer)[2], _label(layer, "column"))


def _place_of_input(layer: Any) -> int:
    if not isinstance(layer, _LAYERS.EinsumDense):
        return -1
    return _place(_labels(layer)[0], _label(layer, "row"))


def _place(labels: str, label: str) -> int:
    """Returns the axis of a label, counted from the end."""
    if labels.endswith("..."):
        raise ValueError(
            "`rules` must divide an EinsumDense whose equation does not end a tensor with dots. "
            f"Received: {labels!r}. Write the dots in front."
        )
    plain = labels.replace("...", "")
    return plain.index(label) - len(plain)


def _bias_is_along(layer: Any) -> bool:
    """Tells whether the bias has the axis that a column layer divides."""
    is_dense = not isinstance(layer, _LAYERS.EinsumDense)
    return is_dense or _label(layer, "column") in (layer.bias_axes or "")
