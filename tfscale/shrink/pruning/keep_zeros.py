"""The KeepZeros callback: a pruned model goes on training, and its zeros stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from strategies.extension import sequence
from tfscale.shrink.pruning.masking import Masking
from tfscale.shrink.pruning.patterns import UNSTRUCTURED, Pattern
from tfscale.shrink.pruning.weights import checked_expression, chosen_weights

_ANY = 0.5  # Chosen weights have a final sparsity; here it has no meaning.


class KeepZeros(Masking):
    """Keeps at zero the weights that are zero when training begins.

    For a model that was pruned before, in another program or by another library: for a few epochs
    at a small learning rate, on other data, or quantization-aware. Everything else is as in
    `Prune`: gradients of zeros are zero, in the step, on all replicas, also in a checkpoint.

    Args:
        targets: Regular expressions that match the whole path of a weight, or the whole path or
            name of its layer: weights besides the kernels that `Prune` prunes, such as an
            Embedding's.
        keep: Regular expressions, as in `targets`, of what is trained freely.

    Raises:
        ValueError: If an argument is invalid. When training begins, if no weight is zero, and where
            `Prune` raises an error too.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     layers = [keras.Input((1,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile("adam", "mse")
        >>> _ = model.layers[0].kernel.assign([[0.0, 0.5, 0.0, -0.5]])
        >>> history = model.fit(rows, targets, callbacks=[KeepZeros()], verbose=0)
        >>> (model.layers[0].kernel.numpy() == 0).tolist()
        [[True, False, True, False]]
    """

    def __init__(self, *, targets: Sequence[str] = (), keep: Sequence[str] = ()) -> None:
        super().__init__()
        self.targets = [
            checked_expression("targets", each) for each in sequence("targets", targets)
        ]
        self.keep = [checked_expression("keep", each) for each in sequence("keep", keep)]

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Refuses another callback that masks."""
        if (count := sum(isinstance(each, Masking) for each in callbacks)) > 1:
            raise ValueError(
                "`callbacks` must contain one of KeepZeros and Prune. Received: "
                f"{count} of them. Prune keeps the zeros that it makes: leave KeepZeros out."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Finds the zeros before the first step, or raises an error if there are none."""
        super().on_epoch_begin(epoch, logs)
        if not any(self.sparsity().values()):
            raise ValueError(
                "`model` must have weights that are zero, for KeepZeros. Received: "
                f"{self.model.name!r}, whose kernels have none. Prune it first, or leave the "
                "callback out."
            )

    def chosen(self) -> tuple[list[Any], _Zeros]:
        """Returns the kernels and the rule."""
        found = chosen_weights(
            self.model,
            Pattern.named(UNSTRUCTURED),
            _ANY,
            dict.fromkeys(self.targets, _ANY),
            self.keep,
            is_global=True,
        )
        return [each.variable for each in found], _Zeros()


class _Zeros:
    """Masks what is zero before the first step; see `MaskRule`."""

    def is_due(self, seen: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Tells whether this is the first step."""
        return seen < 0

    def masks(
        self,
        now: tf.Tensor,
        weights: Sequence[tf.Tensor],
        movements: Sequence[tf.Tensor],
        masks: Sequence[tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns where the weights are not zero."""
        return [tf.not_equal(weight, 0) for weight in weights]
