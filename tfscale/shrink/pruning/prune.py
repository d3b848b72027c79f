"""The Prune callback: weights become zero while a model trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import announce, one_of, sequence
from tfscale.shrink.pruning.mask_rule import PruningRule
from tfscale.shrink.pruning.masking import Masking
from tfscale.shrink.pruning.patterns import CHANNELS, UNSTRUCTURED, Pattern
from tfscale.shrink.pruning.pruned_channels import ChannelRule, chosen_groups
from tfscale.shrink.pruning.schedules import SparsitySchedule, checked_sparsity
from tfscale.shrink.pruning.weights import (
    checked_expression,
    checked_targets,
    chosen_weights,
    refuse_other_sparsity,
)

SCOPES = ("layer", "global")
SCORES = ("magnitude", "movement")


class Prune(Masking):
    """Prunes weights while a model trains, by a schedule, and keeps them at zero.

    After each change of the schedule's sparsity s, of each weight's n elements the floor(s n) with
    the lowest scores are zero. An element that is pruned stays pruned: its gradient is zero before
    clipping and accumulation, and after each update it and its moving average (`use_ema=True`) are
    zero. This is part of the step, so `steps_per_execution` changes nothing, and replicas decide
    equally from equal weights, without communication. Under `LocalUpdates` the masks change at the
    end of a round. The model stays a plain Keras model, so nothing has to be stripped from it. A
    later `fit` with the same callback continues; one without it lets the zeros move.

    Pruned are the trainable kernels of Dense, EinsumDense, of convolutions (of a separable one the
    pointwise kernel) and of recurrent cells, and what `targets` names. The logs of an epoch receive
    `sparsity`, the fraction of zeros in all of them.

    Put it after EarlyStopping(restore_best_weights=True), whose weights it masks at the end of
    `fit`, and pass `start_from_epoch` to that, to compare only epochs with the final sparsity.

    Args:
        schedule: The sparsity by step: `CubicSparsity`, `ConstantSparsity`, `OneShot`, or another
            object with the methods of `SparsitySchedule`. A step is an update of the weights,
            counted from the first with this callback.
        pattern: "unstructured"; "n:m", such as "2:4", to keep n of every m neighbours along the
            inputs; or "RxC", such as "4x1", for blocks of R inputs and C outputs that are pruned
            together. With "n:m" the final sparsity must be 1 - n / m, and before that at most
            m - n of every m are pruned. "channels" prunes whole channels with all weights that
            belong to them, by the scores of `ChannelGroup`; `cut` makes the model smaller then.
            The sparsity is that of channels, one of each group stays, and the expressions of
            `targets` and `keep` match names of groups: see `channel_groups`.
        scope: "layer" prunes each weight to the sparsity. "global" prunes the lowest scores of all
            weights together, so small layers, of which each weight matters more, keep more of them,
            and some layers may be pruned completely, which is announced. None is "global" for
            single weights and blocks without `targets`, and "layer" otherwise.
        score: "magnitude" keeps the largest weights, and suits training from scratch. "movement"
            keeps those that the updates moved away from zero, and suits fine-tuning: the sum of
            -w g over the steps, with the gradient g of the global batch.
        targets: Final sparsities of some weights, by regular expressions that match the whole path
            of a weight, or the whole path or name of its layer; the first match counts. May name
            other weights with two axes or more, such as an Embedding's. Not with scope="global".
        keep: Regular expressions, as in `targets`, of what is not pruned, such as the last layer.

    Raises:
        ValueError: If an argument is invalid. When training begins, if the model is not built or
            not under a tfscale strategy, its weights or slots are divided over devices or on
            parameter servers, an expression matches nothing, the pattern does not cover a weight,
            or nothing would be pruned.

    Example:
        >>> strategy = strategies.one_device_strategy()
        >>> with strategy.scope():
        ...     layers = [keras.Input((1,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
        ...     model = keras.Sequential(layers)
        ...     model.compile("adam", "mse")
        >>> schedule = tfscale.shrink.CubicSparsity(0.5, end=4, every=2)
        >>> prune = Prune(schedule)
        >>> history = model.fit(rows, targets, epochs=4, callbacks=[prune], verbose=0)
        >>> sum(int((weight == 0).sum()) for weight in model.get_weights()[::2])  # of 16
        8

    Source: magnitudes, Zhu and Gupta 2017, arXiv:1710.01878; movement, Sanh et al. 2020,
    arXiv:2005.07683, where pruned weights may return; 2:4, Mishra et al. 2021, arXiv:2104.08378.
    """

    def __init__(
        self,
        schedule: SparsitySchedule,
        *,
        pattern: str = UNSTRUCTURED,
        scope: str | None = None,
        score: str = "magnitude",
        targets: Mapping[str, float] | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.schedule = _checked_schedule(schedule)
        self.pattern = Pattern.named(pattern)
        self.score = one_of("score", score, SCORES)
        refuse_other_sparsity("schedule.final", schedule.final, self.pattern)
        self.targets = checked_targets(targets, self.pattern)
        self.keep = [checked_expression("keep", each) for each in sequence("keep", keep)]
        self.scope = self._default_scope() if scope is None else one_of("scope", scope, SCOPES)
        if self.targets and self.scope == "global":
            raise ValueError(
                '`targets` must be None with scope="global", which has one sparsity for all '
                f"weights. Received: targets={targets!r}. Leave one of them out."
            )
        if self.score == "movement" and schedule.changes()[0] == 0:
            raise ValueError(
                '`schedule` must not prune before the first step with score="movement", which sums '
                f"up over steps. Received: schedule={schedule!r}. Pass a CubicSparsity."
            )
        if self.pattern.name == CHANNELS and self.score == "movement":
            raise ValueError(
                '`score` must be "magnitude" with pattern="channels". Received: score="movement". '
                "Leave it out."
            )
        self.sums_movement = self.score == "movement"

    def see_callbacks(self, callbacks: list[Any]) -> None:
        """Refuses callbacks that would undo this one: a second of its kind, or a later stop."""
        if sum(isinstance(each, Prune) for each in callbacks) > 1:
            raise ValueError(
                "`callbacks` must contain one Prune. Received: several. Pass the sparsities of "
                "single layers as `targets`."
            )
        for each in callbacks[callbacks.index(self) :]:
            if isinstance(each, keras.callbacks.EarlyStopping) and each.restore_best_weights:
                raise ValueError(
                    "`callbacks` must contain Prune after EarlyStopping(restore_best_weights=True),"
                    " whose weights may be from before the last pruning and are masked then. "
                    "Received: Prune before it. Put Prune last."
                )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends masking, and says if the model is not what the schedule asks for."""
        super().on_train_end(logs)
        if not is_chief(self.model.distribute_strategy):
            return
        steps, last = self.steps, self.schedule.changes()[-1]
        if steps < last:
            announce(
                f"WARNING: Prune has seen {steps} steps, and its schedule ends after {last}: the "
                f"final sparsity of {self.schedule.final:g} is not reached yet."
            )
        for path, zeros in self.sparsity().items():
            if zeros == 1:
                announce(
                    f'WARNING: Prune(scope="global") has pruned all of {path}. Leave it alone with '
                    '`keep`, or pass scope="layer".'
                )

    def _default_scope(self) -> str:
        """Returns what `scope=None` is: single sparsities, groups and channels are by layer."""
        is_by_layer = self.targets or self.pattern.kept or self.pattern.name == CHANNELS
        return "layer" if is_by_layer else "global"

    def chosen(self) -> tuple[list[Any], PruningRule | ChannelRule]:
        """Returns the variables to prune, and the rule for their masks."""
        is_global = self.scope == "global"
        chosen = (self.schedule.final, self.targets, self.keep)
        if self.pattern.name == CHANNELS:
            rule = ChannelRule(
                self.schedule, chosen_groups(self.model, *chosen), is_global=is_global
            )
            return rule.variables, rule
        weights = chosen_weights(self.model, self.pattern, *chosen, is_global=is_global)
        variables = [weight.variable for weight in weights]
        return variables, PruningRule(self.schedule, self.pattern, weights, is_global=is_global)


def _checked_schedule(schedule: Any) -> SparsitySchedule:
    """Returns a schedule whose steps ascend and whose sparsity does not fall, and ends at `final`.

    Raises:
        ValueError: If it is something else.
    """
    if not all(hasattr(schedule, name) for name in ("final", "changes")) or not callable(schedule):
        raise ValueError(
            "`schedule` must be a sparsity schedule. Received: "
            f"schedule={schedule!r}. Pass a CubicSparsity, ConstantSparsity or OneShot."
        )
    checked_sparsity("schedule.final", schedule.final)
    steps = list(schedule.changes())
    values = [schedule(step) for step in steps]
    if not steps or steps != sorted(set(steps)) or values != sorted(values):
        raise ValueError(
            "`schedule` must change after ascending steps to sparsities that do not fall. "
            f"Received: schedule={schedule!r}. Correct its changes()."
        )
    if abs(values[-1] - schedule.final) > 1e-9:
        raise ValueError(
            "`schedule` must end at its final sparsity. Received: "
            f"{values[-1]!r} after the last step, final={schedule.final!r}. Correct one of them."
        )
    checked: SparsitySchedule = schedule
    return checked
