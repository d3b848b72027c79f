"""Parts of a batch that all examples share: given whole to every replica, where rows are cut."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.extension import Shared, support_shared_parts


def shared(tensors: Any) -> Any:
    """Declares a part of a batch that all its examples share, such as the adjacency of a graph.

    A replica takes its rows of every part of a batch; a part declared with this it is given whole,
    as it is a scalar without saying so. Call it in `Dataset.map`, after `batch`. `fit`, `evaluate`
    and `predict` hand the model the tensor itself, under every strategy, and under none, so that
    the same program runs on one device with stock Keras.

    In a training loop of your own, TensorFlow's functions take it for the tensor, which is its
    `.value`. Datasets, not generators or `PyDataset`, can hold one. A `preprocess` of
    `input_pipeline` may return one.

    Args:
        tensors: A tensor (`tf.Tensor`, `tf.SparseTensor`, `tf.RaggedTensor`, an array), the same
            for all examples of the batch, or a structure of such.

    Returns:
        The same structure, of what travels through tf.data as one part of a batch.

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
