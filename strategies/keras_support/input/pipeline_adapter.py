"""A Keras data adapter for `GlobalBatches`, such as a pipeline."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import tensorflow as tf
from keras.src.trainers.data_adapters import tf_dataset_adapter
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from strategies.global_batches import EvenReplicaBatch, GlobalBatches, ReplicaBatch
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.patching.ownership import described

_ORDERING = ("seed", "shuffle", "global_batch_size", "drop_remainder", "shuffle_window")


@runtime_checkable
class CountedBatches(GlobalBatches, Protocol):
    """Global batches that give the examples of the whole batch with each replica batch."""

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns what `local` does, as elements of `ReplicaBatch` or `EvenReplicaBatch`."""


@runtime_checkable
class SeekableBatches(GlobalBatches, Protocol):
    """Global batches that can begin anywhere; `tfscale.data.Pipeline` can.

    Attributes:
        first_epoch: The epoch the stream begins in.
        first_step: The step of that epoch it begins with.
    """

    @property
    def first_epoch(self) -> int:
        """The epoch the stream begins in."""

    @property
    def first_step(self) -> int:
        """The step of that epoch it begins with."""

    def at(self, epoch: int, step: int = 0) -> GlobalBatches:
        """Returns the same batches, begun after so many whole epochs and steps."""


class GlobalBatchesAdapter(DataAdapter):
    """Lets Keras's epoch iterator count the steps of `GlobalBatches`."""

    def __init__(self, batches: GlobalBatches, class_weight: dict[int, float] | None) -> None:
        if class_weight is not None:
            require(Need.CLASS_WEIGHT)
        self.batches = batches
        self.class_weight = class_weight

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns one worker's batches, with class weights as sample weights."""
        batches = self.batches
        if isinstance(batches, CountedBatches):
            dataset = batches.replica_batches(worker)
        else:
            dataset = batches.local(worker)
        if self.class_weight is None:
            return dataset
        weigh = tf_dataset_adapter.make_class_weight_map_fn(self.class_weight)

        def weighted(*batch: Any) -> Any:
            replica_batch = batch[0]
            if isinstance(replica_batch, (ReplicaBatch, EvenReplicaBatch)):
                return replica_batch._replace(data=weigh(*replica_batch.data))
            return weigh(*batch)

        return dataset.map(weighted)

    def after(self, batches: int) -> GlobalBatchesAdapter:
        """Returns the adapter of the same batches without the first `batches` of them.

        Raises:
            ValueError: If they can begin only at their beginning.
        """
        if not isinstance(self.batches, SeekableBatches):
            raise ValueError(
                "`x` must have a method at(epoch, step) to be resumed. Received: "
                f"{type(self.batches).__name__}. Use tfscale.data.input_pipeline."
            )
        steps = self.batches.steps_per_epoch
        first = self.batches.first_epoch * steps + self.batches.first_step
        return GlobalBatchesAdapter(
            self.batches.at(*divmod(first + batches, steps)), self.class_weight
        )

    def order(self) -> str:
        """Returns what the order of the batches follows from, for messages and comparison."""
        said = [f"{name}={getattr(self.batches, name, None)}" for name in _ORDERING]
        fingerprint = getattr(self.batches, "source_fingerprint", None)
        if fingerprint is not None:
            said.append(f"source={fingerprint!r}")
        return f"a pipeline with {', '.join(said)}"

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
        """Not known here; the TensorFlow trainer does not use it."""
        return None

    @property
    def partial_batch_size(self) -> None:
        """Not known here; the TensorFlow trainer does not use it."""
        return None


def adapted(
    batches: GlobalBatches, strategy: tf.distribute.Strategy, arguments: dict[str, Any]
) -> GlobalBatchesAdapter:
    """Returns the adapter of `batches`; takes its class weights out of the other arguments.

    Args:
        batches: What was passed as `x`.
        strategy: The model's.
        arguments: The other arguments of `fit`, `evaluate` or `predict`.

    Raises:
        ValueError: If `batches` belong to another strategy, or targets or weights were passed too.
    """
    for name in ("y", "sample_weight"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"`{name}` must be None if `x` is a pipeline, because its batches contain it. "
                "Received: "
                f"{name} of type {type(arguments[name]).__name__}. Make it part of the source."
            )
    if batches.strategy is not strategy:
        raise ValueError(
            "`x` must be a pipeline built for the model's own strategy. Received: a pipeline for a "
            f"{described(batches.strategy)} and a model under another strategy, a "
            f"{described(strategy)}. Build both with one strategy."
        )
    return GlobalBatchesAdapter(batches, arguments.pop("class_weight", None))
