"""Weights that are used in several stages of a pipeline: a tied embedding, a layer called twice.

Such a weight, with its slots, lives on the device of the stage that uses it first. Each other stage
that uses it reads a copy, which is sent to its device once a step, and adds up a gradient of its
own; at the end of the step that is sent to the weight's device, and the gradients of all uses are
added up there. So a step sends a shared weight there and its gradient back once, however many
microbatches it has, and a second stage has the memory of a copy and of a gradient.

A recomputed layer reads the weight itself, each time, because its second pass takes no tensors from
outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.weighted_gradients import concatenated
from strategies.keras_support.pipeline.model_cut import Chunk


def owners(chunks: Sequence[Chunk]) -> dict[int, int]:
    """Returns, by the id of each weight, the first chunk that uses it."""
    found: dict[int, int] = {}
    for c, chunk in enumerate(chunks):
        for weight in chunk.weights:
            found.setdefault(id(weight), c)
    return found


def copies_on(weights: Sequence[Any], device: str) -> dict[int, tf.Tensor]:
    """Returns copies of weights on another device, by the ids of the weights."""
    with tf.device(device):
        return {id(weight): tf.identity(tf.convert_to_tensor(weight.value)) for weight in weights}


def added_up(gradients: Sequence[Any]) -> Any:
    """Returns the sum of the gradients of one weight, in the order of its uses; None of none.

    Sparse ones stay sparse, as on one device, if all are.
    """
    own = [gradient for gradient in gradients if gradient is not None]
    if len(own) < 2:
        return own[0] if own else None
    if all(isinstance(gradient, tf.IndexedSlices) for gradient in own):
        return concatenated(own[::-1])  # a tape finds that of the last use first
    return tf.add_n([tf.convert_to_tensor(gradient) for gradient in own])
