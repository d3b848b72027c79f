"""A model as one TensorFlow function of named inputs, which all converters start from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def input_specs(model: keras.Model) -> list[tf.TensorSpec]:
    """Returns shape, type and name of each input, in Keras's order. The batch has any size."""
    return [
        tf.TensorSpec(each.shape, each.dtype, name=name)
        for each, name in zip(model.inputs, input_names(model), strict=True)
    ]


def input_names(model: keras.Model) -> list[str]:
    """Returns the names of the inputs, in Keras's order."""
    return [str(each.name) for each in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """Returns a name for each output: the key of its dictionary, or its layer's.

    A layer that gives two outputs gets numbers: "dense", "dense_2".
    """
    if isinstance(model, keras.Sequential):  # its `output` is not defined before a call
        return [model.layers[-1].name]
    if isinstance(model.output, dict):
        return sorted(model.output)  # as keras.tree flattens it
    names: list[str] = []
    for number, layer in enumerate(model.output_names):
        names.append(layer if layer not in names else f"{layer}_{number + 1}")
    return names


def flat_outputs(model: keras.Model, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls a model for predicting.

    Args:
        model: A functional or Sequential model.
        inputs: In the order of `model.inputs`.

    Returns:
        The outputs, in the order of `output_names`.
    """
    is_single = isinstance(model, keras.Sequential)
    packed = inputs[0] if is_single else keras.tree.pack_sequence_as(model.input, list(inputs))
    found: list[tf.Tensor] = keras.tree.flatten(model(packed, training=False))
    return found


def serving_function(model: keras.Model) -> Any:
    """Returns the function: inputs by position, a dictionary of outputs by name.

    As the signature of a SavedModel it takes its inputs by name.

    Example:
        >>> model = keras.Sequential([keras.Input([4], name="x"), keras.layers.Dense(1, name="y")])
        >>> tuple(serving_function(model)(tf.ones([3, 4]))["y"].shape)
        (3, 1)
    """
    names = output_names(model)

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(names, flat_outputs(model, inputs), strict=True))

    return tf.function(serve, input_signature=input_specs(model))


def write_saved_model(model: keras.Model, folder: str) -> None:
    """Writes a SavedModel whose signature "serving_default" has the names of this file.

    Args:
        model: A functional or Sequential model.
        folder: A new folder.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serving_function(model))
    archive.write_out(folder, verbose=False)
