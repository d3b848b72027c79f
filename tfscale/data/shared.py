"""Parts of a batch that belong to all examples and are passed to every replica undivided."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.extension import Shared, support_shared_parts


def shared(tensors: Any) -> Any:
    """Declares a part of a batch that belongs to all examples, such as the adjacency of a graph.

    A replica gets its rows of every part of a batch, but a part declared with this function is
    passed to each replica undivided, as scalars are. Call it in `Dataset.map`, after `batch`.
    `fit`, `evaluate` and `predict` pass the tensor itself to the model, under every strategy and
    without one, so that the same program runs on one device with stock Keras.

    In a custom training loop, TensorFlow's functions accept it in place of the tensor, which is its
    `.value`. It can be used in datasets, but not in generators or a `PyDataset`. A `preprocess`
    function of `input_pipeline` may return it.

    Args:
        tensors: A tensor (`tf.Tensor`, `tf.SparseTensor`, `tf.RaggedTensor`, an array) that is the
            same for all examples of the batch, or a structure of such tensors.

    Returns:
        The same structure of objects that pass through tf.data as one part of a batch.

    Example:
        >>> examples = tf.data.Dataset.from_tensor_slices((tf.zeros([8, 3, 2]), tf.zeros([8, 1])))
        >>> adjacency = tf.eye(3)
        >>> batches = examples.batch(4).map(
        ...     lambda nodes, target: ({"nodes": nodes, "adjacency": shared(adjacency)}, target)
        ... )
    """
    support_shared_parts()

    def declared(tensor: Any) -> Shared:
        if isinstance(tensor, Shared):
            return tensor
        is_composite = isinstance(tensor, (tf.SparseTensor, tf.RaggedTensor))
        return Shared(tensor if is_composite else tf.convert_to_tensor(tensor))

    return tf.nest.map_structure(declared, tensors)
