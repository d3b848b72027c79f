"""What callbacks that mask weights while a model trains have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from strategies.extension import MaskRule, WeightMasks, trace_step_again
from tfscale.checkpoints import schema
from tfscale.shrink.refusals import refuse_not_finite, refuse_unready


class Masking(keras.callbacks.Callback):
    """Keeps masked weights at zero in each step; a subclass chooses weights and rule.

    Attributes:
        sums_movement: Whether the masks depend on movements; see `WeightMasks`.
    """

    needs_every_worker = True  # all workers must mask the same weights
    sums_movement = False

    def __init__(self) -> None:
        super().__init__()
        self._masks: WeightMasks | None = None

    def chosen(self) -> tuple[list[Any], MaskRule]:
        """Returns the variables of `self.model` to mask, and the rule for their masks."""
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """The updates of the weights so far with this callback."""
        return 0 if self._masks is None else self._masks.num_updates

    def sparsity(self) -> dict[str, float]:
        """Returns the fraction of each pruned weight that is masked now, by path."""
        if self._masks is None:
            return {}
        masks, _ = self._masks.values()
        return {
            weight.path: float(1 - mask.mean())
            for weight, mask in zip(self._masks.weights, masks, strict=True)
        }

    def state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, besides `state_arrays`: the number of steps."""
        return {"steps": self.steps}

    def state_arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns the masks for a checkpoint, and the movements, by name."""
        assert self._masks is not None
        masks, movements = self._masks.values()
        named = {f"mask/{i}": mask for i, mask in enumerate(masks)}
        return named | {f"movement/{i}": moved for i, moved in enumerate(movements)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned.

        Raises:
            ValueError: If it is malformed.
        """
        assert self._masks is not None
        schema.record(state, "state", ("steps",))
        self._masks.set_updates(schema.integer(state["steps"], "state.steps"))

    def restore_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restores what `state_arrays` returned.

        Raises:
            ValueError: If the arrays are those of other weights, or of another score.
        """
        assert self._masks is not None
        own = self.state_arrays()
        described = [
            {name: (array.dtype.name, array.shape) for name, array in each.items()}
            for each in (own, arrays)
        ]
        if described[0] != described[1]:
            raise ValueError(
                f"`{type(self).__name__}` must mask the weights that it masked in the checkpointed "
                f"run, by the same score. Received: {len(self._masks.masks)} weights; in the "
                f"checkpoint, arrays {sorted(arrays)[:6]}. Pass the same arguments."
            )
        masks = [arrays[f"mask/{i}"] for i in range(len(self._masks.masks))]
        movements = [arrays[f"movement/{i}"] for i in range(len(arrays) - len(masks))]
        self._masks.assign(masks, movements)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins to mask, or raises an error if weights of the model cannot be masked."""
        refuse_unready(self.model, type(self).__name__)
        if self._masks is None or not self._masks.is_of(self.model):
            self._masks = self._new_masks()
        self._masks.attach()
        trace_step_again(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Masks what the rule masks before the first step."""
        assert self._masks is not None
        self._masks.after_round()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the sparsity to the logs."""
        assert self._masks is not None
        if logs is not None:
            masks, _ = self._masks.values()
            num_kept = sum(int(mask.sum()) for mask in masks)
            logs["sparsity"] = 1 - num_kept / sum(mask.size for mask in masks)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends masking."""
        assert self._masks is not None
        self._masks.mask_weights()  # another callback may have restored older weights
        self._masks.detach()
        trace_step_again(self.model)

    def _new_masks(self) -> WeightMasks:
        """Makes masks for the model's optimizer, with what an earlier optimizer has masked."""
        earlier, num_updates = self._masks, self.steps
        variables, rule = self.chosen()
        refuse_not_finite(variables, type(self).__name__)
        masks = WeightMasks(
            self.model,
            variables,
            rule,
            sums_movement=self.sums_movement,
            num_updates=num_updates,
        )
        if earlier is not None:
            if [id(v) for v in earlier.weights] != [id(v) for v in variables]:
                name = type(self).__name__
                raise ValueError(
                    f"`model` must have the weights that this {name} has masked before. Received: "
                    f"{self.model.name!r}, of which other weights are trained now. Make another "
                    f"{name} for it."
                )
            masks.assign(*earlier.values())
        return masks
