"""The divisors of losses that are computed in microbatches.

A masked loss divides by the valid elements, `mean_with_sample_weight` by the sum of the weights. Of
the whole batch these are known only when all microbatches have been computed, but backward of the
first needs them. So the divisors are collected first: forward pass and losses of every microbatch
are traced once more, and only what the divisors depend on runs. A mask usually depends on the
inputs alone; where it depends on activations, these are computed twice.
"""

from __future__ import annotations

import tensorflow as tf

from strategies.keras_support.context.step_context import sum_over_replicas


class LossDivisors:
    """What the losses of each microbatch divide by, in the order in which they are computed.

    Attributes:
        is_dry: Whether a microbatch is only traced to see if a loss has a divisor of its own;
            then nothing may wait for the other replicas.
    """

    def __init__(self) -> None:
        self.is_dry = True
        self._collected: list[list[tf.Tensor]] = []
        self._totals: list[tf.Tensor] | None = None
        self._next = 0

    @property
    def is_empty(self) -> bool:
        """Whether no loss has a divisor of its own."""
        return not any(self._collected)

    def begin_microbatch(self) -> None:
        """Called before the losses of a microbatch."""
        self._next = 0
        if self._totals is None:
            self._collected.append([])

    @property
    def position(self) -> int:
        """How many divisors of a microbatch were used."""
        return self._next

    def resume(self, position: int) -> None:
        """Continues with the losses of a microbatch that was left, from its `position` on."""
        self._next = position

    def clear(self) -> None:
        """Forgets what was collected."""
        self._collected.clear()

    def total_of(self, divisor: tf.Tensor) -> tf.Tensor | None:
        """Returns the global batch's sum of a divisor; None while the divisors are collected.

        Args:
            divisor: Scalar, that of the next loss of this microbatch.

        Raises:
            ValueError: If a microbatch has other losses than the first.
        """
        if self._totals is None:
            self._collected[-1].append(divisor)
            return None
        if self._next == len(self._totals):
            raise ValueError(
                "`compute_loss` must compute the same losses whenever it is called, because their "
                "divisors are collected from all microbatches first. Received: another loss in a "
                f"later call, after {len(self._totals)}. Train without microbatches."
            )
        self._next += 1
        return self._totals[self._next - 1]

    def add_up(self) -> None:
        """Adds up what was collected over microbatches and replicas, in one small all-reduce."""
        if self.is_empty:
            self._totals = []
            return
        wide = tf.float32
        if any(each.dtype == tf.float64 for part in self._collected for each in part):
            wide = tf.float64
        rows = [tf.stack([tf.cast(each, wide) for each in part]) for part in self._collected]
        total = sum_over_replicas(tf.add_n(rows))
        self._totals = tf.unstack(tf.stop_gradient(total), num=len(self._collected[0]))
