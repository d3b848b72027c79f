"""A pipeline whose epochs are rounds: as many steps as the training should go without validation.

An epoch of a language model may be longer than the whole training. The stream of batches is
endless, so `fit` can count any number of its steps as an epoch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfscale.data import Pipeline


@dataclass(frozen=True, eq=False)
class Rounds:
    """The batches of a pipeline, with other epochs. Pass it to `fit` as `x`.

    Attributes:
        pipeline: Where the batches come from. It begins where the rounds do.
        steps_per_epoch: Steps of a round. Positive.
        first_epoch: The round in which the stream begins.
        first_step: The step of that round it begins with.
    """

    pipeline: Pipeline
    steps_per_epoch: int
    first_epoch: int = 0
    first_step: int = 0

    @property
    def strategy(self) -> tf.distribute.Strategy:
        """The strategy that trains on the data."""
        return self.pipeline.strategy

    @property
    def global_batch_size(self) -> int:
        """Rows of a full global batch."""
        return self.pipeline.global_batch_size

    @property
    def element_spec(self) -> Any:
        """Structure of `tf.TypeSpec` of one replica's batch."""
        return self.pipeline.element_spec

    @property
    def seed(self) -> int:
        """Seed of the orders."""
        return self.pipeline.seed

    @property
    def source_fingerprint(self) -> str | None:
        """What tells the source from another."""
        return self.pipeline.source_fingerprint

    def at(self, epoch: int, step: int = 0) -> Rounds:
        """Returns the same batches, begun after so many whole rounds and steps."""
        batches = epoch * self.steps_per_epoch + step
        return dataclasses.replace(
            self,
            pipeline=self.pipeline.at(*divmod(batches, self.pipeline.steps_per_epoch)),
            first_epoch=epoch,
            first_step=step,
        )

    def local(self, worker: int) -> tf.data.Dataset:
        """Returns the endless replica batches of one worker, replica after replica."""
        return self.pipeline.local(worker)

    def replica_batches(self, worker: int) -> tf.data.Dataset:
        """Returns what `local` does, with the row counts that `fit` needs."""
        return self.pipeline.replica_batches(worker)


def steps_of_a_round(num_steps: int, wanted: int | None) -> int:
    """Returns the steps of a round: those wanted, or about a tenth of the training.

    Args:
        num_steps: Steps of the whole training. Positive.
        wanted: The flag, or None.

    Raises:
        ValueError: If the training is not a whole number of such rounds.

    Example:
        >>> steps_of_a_round(600, None), steps_of_a_round(35, None)
        (60, 5)
    """
    divisors = [steps for steps in range(1, num_steps + 1) if num_steps % steps == 0]
    if wanted is None:
        return min(steps for steps in divisors if steps >= num_steps / 10)
    if wanted not in divisors:
        nearest = min(divisors, key=lambda steps: abs(steps - wanted))
        raise ValueError(
            f"`--steps_per_validation` must divide --train_steps. Received: "
            f"--steps_per_validation={wanted}, --train_steps={num_steps}. Use {nearest}."
        )
    return wanted
