"""Lookup layers: kept inside the file as tables, or cut off and left to the program.

Most runtimes have no table of strings or integers, or one with limits. With `lookups="outside"` the
file takes the indices instead, and the vocabularies are written beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)
_SCOPE = "tfscale_lookup_n"


@dataclass(frozen=True)
class Cut:
    """A model without its lookup layers.

    Attributes:
        model: Takes the indices that the lookups would give.
        lookups: The layers by the name of the input that they were fed from.
    """

    model: keras.Model
    lookups: dict[str, Any]

    @property
    def vocabularies(self) -> dict[str, list[Any]]:
        """The vocabulary of each cut input: index `i` stands for element `i`."""
        return {
            name: [_plain(value) for value in layer.get_vocabulary()]
            for name, layer in self.lookups.items()
        }

    def indices(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Returns what the lookup of an input gives for rows; the rows if it has none."""
        if name not in self.lookups:
            return rows
        return np.asarray(self.lookups[name](tf.constant(rows)))


def lookup_layers(model: keras.Model) -> list[Any]:
    """Returns the lookup layers of a model."""
    return [layer for layer in model.layers if isinstance(layer, _LOOKUPS)]


def check_lookups(model: keras.Model, format_name: str, quantize: str | None) -> None:
    """Refuses lookups that a format has no table for.

    | lookup | keras, savedmodel | litert | onnx | openvino |
    |---|---|---|---|---|
    | of strings | yes | yes, but not in int8 | yes | refused |
    | of integers | yes | refused | yes | yes |
    | of words of a text | yes | refused | refused | refused |

    Raises:
        ValueError: If the model has one. The cure is `lookups="outside"`.
    """
    refused: dict[str, tuple[Any, ...]] = {
        "litert": (keras.layers.IntegerLookup, keras.layers.TextVectorization),
        "onnx": (keras.layers.TextVectorization,),
        "openvino": (keras.layers.StringLookup, keras.layers.TextVectorization),
    }
    if (format_name, quantize) == ("litert", "int8"):
        # TensorFlow 2.21 measures no ranges behind a table, and the file gives other numbers.
        refused["litert"] = _LOOKUPS
    for layer in lookup_layers(model):
        # IntegerLookup and StringLookup are siblings, TextVectorization has a StringLookup inside.
        if isinstance(layer, refused.get(format_name, ())):
            raise ValueError(
                f"`model` must not have a {type(layer).__name__} with format={format_name!r} and "
                f"quantize={quantize!r}, where no such table works. Received: {layer.name!r}. "
                "Pass lookups='outside' (the command: --lookups=outside): the file then takes the "
                "indices, and the vocabulary is written beside it."
            )
        if format_name == "onnx" and layer.num_oov_indices != 1:
            raise ValueError(
                "`model` must have one index for unknown values with format='onnx', which has "
                f"neither a hash function nor an error. Received: layer {layer.name!r} with "
                f"num_oov_indices={layer.num_oov_indices}. Pass lookups='outside' (the command: "
                "--lookups=outside)."
            )


def without_lookups(model: keras.Model) -> Cut:
    """Cuts off the lookups that read inputs directly.

    Args:
        model: A functional model. Each lookup reads one input, which nothing else reads.

    Raises:
        ValueError: If there is none, or one of them reads something else.
    """
    found = lookup_layers(model)
    if not found:
        raise ValueError(
            "`lookups` must not be 'outside' for a model without StringLookup, IntegerLookup or "
            f"TextVectorization. Received: {model.name!r}. Leave it out."
        )
    by_input: dict[str, Any] = {}
    for layer in found:
        name = next((each.name for each in model.inputs if each is layer.input), None)
        readers = [each for each in model.layers if _reads(each, layer.input)]
        if name is None or len(readers) != 1:
            raise ValueError(
                "`lookups` can be 'outside' if each lookup reads an input of the model which "
                f"nothing else reads. Received: layer {layer.name!r}. Make the model of what "
                "follows it, and export that."
            )
        by_input[str(name)] = layer
    inputs = [
        keras.Input(
            by_input[each.name].output.shape[1:] if each.name in by_input else each.shape[1:],
            dtype=by_input[each.name].output.dtype if each.name in by_input else each.dtype,
            name=each.name,
        )
        for each in model.inputs
    ]
    cut = keras.models.clone_model(
        model,
        input_tensors=inputs,
        clone_function=lambda layer: (
            keras.layers.Identity(dtype=layer.output.dtype, name=layer.name)
            if isinstance(layer, _LOOKUPS)
            else layer
        ),
    )
    return Cut(cut, by_input)


def with_marked_lookups(model: keras.Model) -> tuple[keras.Model, list[Any]]:
    """Returns a model in which operations of lookup `n` are in a scope that `number_in` reads.

    TensorFlow's graph does not say which layer a table belongs to, once it is frozen. The shape of
    what a lookup gives is computed, because LiteRT does not know it.

    Args:
        model: A functional or Sequential model; its layers are shared with the copy.

    Returns:
        The copy, and its lookup layers by number.
    """
    found = lookup_layers(model)
    if not found:
        return model, []

    def marked(layer: Any) -> Any:
        return _Marked(layer, found.index(layer)) if layer in found else layer

    return keras.models.clone_model(model, clone_function=marked), found


def number_in(node_name: str) -> int | None:
    """Returns the number of the lookup that an operation belongs to, or None.

    Example:
        >>> number_in("functional/marked/tfscale_lookup_n3_1/LookupTableFindV2")
        3
    """
    _, found, rest = node_name.partition(_SCOPE)
    return int(rest.split("/")[0].split("_")[0]) if found else None


class _Marked(keras.layers.Layer):
    def __init__(self, lookup: Any, number: int) -> None:
        super().__init__(dtype=lookup.dtype, name=f"marked_{lookup.name}")
        self._lookup, self._number = lookup, number

    def call(self, inputs: Any) -> Any:
        with tf.name_scope(f"{_SCOPE}{self._number}"):
            found = self._lookup(inputs)
        # LiteRT 2.3 takes the result of a table for a scalar if the first batch has one row.
        return tf.reshape(found, tf.shape(inputs))

    def compute_output_spec(self, inputs: Any) -> Any:
        return self._lookup.compute_output_spec(inputs)


def _reads(layer: Any, tensor: Any) -> bool:
    try:
        read = keras.tree.flatten(layer.input)
    except (AttributeError, ValueError):  # several calls, or an input itself
        return False
    return not isinstance(layer, keras.layers.InputLayer) and any(each is tensor for each in read)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
