"""Global batches, such as a pipeline's, as one of Keras's data adapters."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras.src.trainers.data_adapters import tf_dataset_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from strategies.global_batches import GlobalBatches


class GlobalBatchesAdapter(DataAdapter):
    """Lets Keras's epoch iterator count the steps of `GlobalBatches`."""

    def __init__(self, batches: GlobalBatches, class_weight: dict[int, float] | None) -> None:
        self.batches = batches
        self.class_weight = class_weight

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns one worker's batches, with class weights as sample weights."""
        dataset = self.batches.local(worker)
        if self.class_weight is None:
            return dataset
        weigh = tf_dataset_adapter.make_class_weight_map_fn(self.class_weight)
        return dataset.map(weigh)

    @property
    def num_batches(self) -> int:
        """Global batches an epoch."""
        return self.batches.steps_per_epoch

    @property
    def batch_size(self) -> int:
        """Examples of a full global batch."""
        return self.batches.global_batch_size

    @property
    def has_partial_batch(self) -> None:
        """Not known here, and not asked for by the TensorFlow trainer."""
        return None

    @property
    def partial_batch_size(self) -> None:
        """Not known here, and not asked for by the TensorFlow trainer."""
        return None


def adapted(
    batches: GlobalBatches, strategy: tf.distribute.Strategy, arguments: dict[str, Any]
) -> GlobalBatchesAdapter:
    """Returns the adapter of `batches`; takes its class weights out of the other arguments.

    Args:
        batches: What was passed as `x`.
        strategy: The model's.
        arguments: What was passed beside it to `fit`, `evaluate` or `predict`.

    Raises:
        ValueError: If `batches` belong to another strategy, or targets or weights came beside them.
    """
    for name in ("y", "sample_weight"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"`{name}` must be None when `x` is a pipeline, which yields it itself. Received: "
                f"{name} of type {type(arguments[name]).__name__}. Make it part of the source."
            )
    if batches.strategy is not strategy:
        raise ValueError(
            "`x` must be a pipeline built for the model's own strategy. Received: a pipeline for "
            f"{batches.strategy!r} and a model under {strategy!r}. Build both with one strategy."
        )
    return GlobalBatchesAdapter(batches, arguments.pop("class_weight", None))
