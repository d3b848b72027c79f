"""Global batches in parts: less memory for activations, and the update of the whole batch.

train = tfscale.data.input_pipeline(images_and_labels, strategy, global_batch_size=96)
rate = PerUpdate(schedule, microbatches=4)
with strategy.scope():
    model.compile(keras.optimizers.SGD(rate, gradient_accumulation_steps=4), loss)
model.fit(Microbatches(train, 4), epochs=10)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from tfscale.data import Pipeline, replica_batch_bounds, replica_batches
from tfscale.schedules import Float64Schedule, rate_at


@dataclass(frozen=True, eq=False)
class Microbatches:
    """The global batches of a pipeline, each computed in `count` parts one after the other.

    Every replica computes its replica batch in `count` contiguous parts. Keras's
    `gradient_accumulation_steps` takes the plain mean of their gradients. The last batch of an
    epoch may be smaller, with parts of different sizes. Its examples then have the weight
    `count * part / batch`, in examples, which makes the mean over parts equal to that of the batch.

    The loss in the logs has the same weights: parts of 93 examples in two parts weigh 47/46. The
    gradient, and metrics without weights, are exact.

    Attributes:
        pipeline: Yields pairs, such as `(images, labels)`.
        count: Parts of a global batch, at least 2.
    """

    pipeline: Pipeline
    count: int

    def __post_init__(self) -> None:
        size, parts = self.pipeline.global_batch_size, self.count * self._num_replicas
        if self.count < 2:
            raise ValueError(
                f"`count` must be at least 2. Received: count={self.count!r}. Pass the pipeline "
                "itself to `fit`."
            )
        if size % parts:
            raise ValueError(
                f"`--global_batch_size` must be a multiple of the {parts} parts: "
                f"{self.count} microbatches on {self._num_replicas} replicas. Received: "
                f"--global_batch_size={size}. Use {max(1, round(size / parts)) * parts}."
            )
        if 0 < self._last_size < parts:
            raise ValueError(
                f"`--global_batch_size` must leave at least {parts} examples to an epoch's last "
                f"batch: {self.count} microbatches on {self._num_replicas} replicas. Received: "
                f"--global_batch_size={size}, which leaves {self._last_size} of "
                f"{self.pipeline.source.num_examples}. Use another size."
            )

    @property
    def strategy(self) -> tf.distribute.Strategy:
        """The strategy to train under."""
        return self.pipeline.strategy

    @property
    def global_batch_size(self) -> int:
        """Examples of one part over all replicas."""
        return self.pipeline.global_batch_size // self.count

    @property
    def steps_per_epoch(self) -> int:
        """Parts per epoch: `count` for each update."""
        return self.pipeline.steps_per_epoch * self.count

    @cached_property
    def element_spec(self) -> Any:
        """Structure of `tf.TypeSpec` of one replica's part."""
        return self.local(0).element_spec

    def at(self, epoch: int) -> Microbatches:
        """Returns the same batches from an epoch on, counted from 0."""
        return replace(self, pipeline=self.pipeline.at(epoch))

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns an endless stream of parts for one worker, replica after replica.

        Args:
            worker: Index of the worker, from 0.
        """
        replicas = len(self.strategy.extended.worker_devices)
        batches = self.pipeline.local(worker).enumerate()
        # The replica batches of one step are open at a time; each gives one part in turn.
        parts = batches.interleave(
            lambda place, batch: self._parts(place // replicas, batch),
            cycle_length=replicas,
            block_length=1,
        )
        endless = parts.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return endless.prefetch(max(2 * replicas, 4))

    def _parts(self, step: tf.Tensor, replica_batch: Any) -> tf.data.Dataset:
        """Yields the parts of one replica batch of the step-th global batch of the stream."""
        whole = tf.data.Dataset.from_tensors(replica_batch)
        parts = replica_batches(whole, 0, self.count, self.count)
        sizes = self._last_part_sizes()
        if len(set(sizes)) == 1:
            return parts
        steps = self.pipeline.steps_per_epoch
        is_last = (self.pipeline.first_step + step) % steps == steps - 1
        of_last = [self.count * size / self._last_size for size in sizes]
        weights = tf.where(is_last, tf.constant(of_last, tf.float64), tf.ones([], tf.float64))

        def weigh(part: tf.Tensor, batch: Any) -> Any:
            rows = tf.shape(batch[1])[:1]
            return *batch, tf.fill(rows, tf.cast(weights[part], keras.config.floatx()))

        return parts.enumerate().map(weigh)

    def _last_part_sizes(self) -> list[int]:
        """Examples of each part of an epoch's last batch, over all replicas."""
        size = self._last_size or self.pipeline.global_batch_size
        replicas = [
            replica_batch_bounds(size, replica, self._num_replicas)
            for replica in range(self._num_replicas)
        ]
        bounds = [
            [replica_batch_bounds(stop - start, part, self.count) for start, stop in replicas]
            for part in range(self.count)
        ]
        return [sum(stop - start for start, stop in part) for part in bounds]

    @property
    def _last_size(self) -> int:
        """Examples of an epoch's last batch, or 0 if it is full."""
        rest = self.pipeline.source.num_examples % self.pipeline.global_batch_size
        return 0 if self.pipeline.drop_remainder else rest

    @property
    def _num_replicas(self) -> int:
        return int(self.strategy.num_replicas_in_sync)


@keras.saving.register_keras_serializable(package="recipes")
class PerUpdate(Float64Schedule):
    """A schedule that counts updates, for an optimizer that counts microbatches.

    Keras passes a schedule the number of microbatches so far (3.15, `BaseOptimizer.learning_rate`).
    This one passes on the number of updates: `schedule(step // microbatches)`.

    Args:
        schedule: A `LearningRateSchedule` over updates.
        microbatches: The optimizer's `gradient_accumulation_steps`. Positive.
    """

    def __init__(self, schedule: Any, microbatches: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.microbatches = microbatches

    def rate(self, step: Any) -> Any:
        """Returns the float64 rate at an int64 microbatch, counted from 0."""
        return rate_at(self.schedule, step // self.microbatches)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, with the schedule serialized."""
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "microbatches": self.microbatches}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerUpdate:
        """Rebuilds the schedule from the result of `get_config`."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["microbatches"])
