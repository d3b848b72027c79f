"""A layer that computes one chunk of a model, as the model's own `call` would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.models.functional import operation_fn

from strategies.keras_support.model.model_parts import all_layers
from strategies.keras_support.pipeline.model_cut import Chunk


class ChunkLayer(keras.layers.Layer):
    """Computes the outputs of a chunk from its inputs.

    As a layer it is what Keras enters first: it passes `training` on, and what `add_loss` added in
    an earlier call is forgotten when it is called.

    Args:
        chunk: Of a model, whose layers it uses and does not change.
        policy: The model's dtype policy.
    """

    def __init__(self, chunk: Chunk, policy: Any) -> None:
        super().__init__(dtype=policy, autocast=False)
        self.supports_masking = True
        self.parts = chunk.layers
        self.built = True
        self._chunk = chunk

    def call(self, tensors: Sequence[Any], training: bool | None = None) -> list[Any]:
        """Returns the outputs, in the order of the chunk's; of the last the inputs stay as well."""
        known = {id(t): value for t, value in zip(self._chunk.inputs, tensors, strict=True)}
        for node in self._chunk.nodes:
            outputs = call_of_node(node, known, training)
            for tensor, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
                known[id(tensor)] = value
        return [known[id(t)] for t in self._chunk.outputs]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Tensors keep the masks that the layers inside gave them."""
        return

    def added_losses(self) -> list[tuple[Any, list[Any]]]:
        """Returns what each layer inside has added to the losses in the newest call."""
        return [(layer, list(layer._losses)) for layer in all_layers(self) if layer._losses]


def call_of_node(node: Any, known: dict[int, Any], training: bool | None) -> Any:
    """Returns what one call of an operation computes, as Keras's `Functional.call` does.

    Args:
        node: Of the model's graph.
        known: Tensors by the ids of symbolic ones.
        training: What layers are told.
    """
    arguments, named = node.arguments.fill_in(known)
    return operation_fn(node.operation, training=training)(*arguments, **named)


def entered(tensor: Any) -> Any:
    """Returns a tensor on the device of the stage that uses it, with its mask."""
    if tensor is None:
        return None
    copy = tf.nest.map_structure(tf.identity, tensor, expand_composites=True)
    mask = get_keras_mask(tensor)
    if mask is not None:
        set_keras_mask(copy, tf.identity(mask))
    return copy
