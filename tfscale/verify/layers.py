"""Finds all layers of a model, and those that draw random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

RATES = ("rate", "dropout", "recurrent_dropout", "stddev")
"""Attributes of Keras layers that disable their randomness when they are 0."""

FLOATS = ("bfloat16", "float16", "float32", "float64")
"""Floating-point types, the coarsest first."""


def layers_of(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers inside `model`, each once, in the order of their creation or call.

    Includes layers in attributes, lists and dicts of other layers, such as the cells of recurrent
    layers and the layer inside a wrapper.

    Example:
        >>> [layer.name for layer in layers_of(keras.Sequential([keras.layers.Dense(1, name="d")]))]
        ['d']
    """
    found: dict[int, keras.Layer] = {}
    _collect(model, found)
    del found[id(model)]
    return list(found.values())


def metrics_of(model: keras.Model) -> list[keras.Metric]:
    """Returns the metrics of a compiled model, without containers."""
    parts = (getattr(metric, "metrics", None) or [metric] for metric in model.metrics)
    return [metric for each in parts for metric in each]


def switch_off_random_layers(model: keras.Model) -> tuple[list[str], list[str]]:
    """Sets the rates of dropout and noise to 0, and finds the layers that still draw numbers.

    N replicas cannot draw the numbers that one device draws for a whole batch, so training is
    compared without random layers. Layers without a rate (augmentation, custom layers) are not
    changed.

    Args:
        model: A model that was not trained yet.

    Returns:
        Names of the layers that were switched off, and of those that could not be.
    """
    switched, drawing = [], []
    for layer in layers_of(model):
        # In `vars`, because an LSTM has its cell's rate as a property, which cannot be set.
        rates = [name for name in RATES if _is_rate(vars(layer).get(name))]
        if _is_of_keras(layer) and rates:
            for name in rates:
                setattr(layer, name, 0.0)
            switched.append(layer.name)
        elif _draws(layer):
            drawing.append(layer.name)
    return switched, drawing


def precision_of(model: keras.Model) -> tuple[str, str]:
    """Returns the coarsest float type that a layer computes in or stores, and the layer's name."""
    found = [
        (dtype, layer.name)
        for layer in layers_of(model)
        for dtype in (layer.compute_dtype, layer.variable_dtype)
        if dtype in FLOATS
    ]
    return min(found, key=lambda pair: FLOATS.index(pair[0]), default=(keras.config.floatx(), ""))


def _collect(layer: keras.Layer, found: dict[int, keras.Layer]) -> None:
    if id(layer) in found:
        return
    found[id(layer)] = layer
    children = layer.layers if isinstance(layer, keras.Model) else ()
    for part in (*children, *_parts(layer)):
        if isinstance(part, keras.Layer):
            _collect(part, found)


def _parts(layer: keras.Layer) -> Iterator[Any]:
    for value in vars(layer).values():
        if isinstance(value, (list, tuple, set)):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_of_keras(layer: keras.Layer) -> bool:
    return type(layer).__module__.partition(".")[0] == "keras"


def _draws(layer: keras.Layer) -> bool:
    """Returns whether `layer` has its own seeds, not just for a rate or for inner layers."""
    parts = list(_parts(layer))
    if not any(isinstance(part, keras.random.SeedGenerator) for part in parts):
        return False
    has_layers = any(isinstance(part, keras.Layer) for part in parts)
    return not (_is_of_keras(layer) and (has_layers or any(hasattr(layer, r) for r in RATES)))
