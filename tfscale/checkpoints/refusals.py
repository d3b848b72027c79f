"""What cannot be checkpointed, or not be resumed from: said before training, with the cure."""

from __future__ import annotations

from typing import Any

from strategies.extension import FitInput, is_owned
from tfscale.checkpoints.directory import Content


def refuse_model(model: Any) -> None:
    """Checks that a model can be checkpointed.

    Raises:
        ValueError: If it is not under one of our strategies, or not built.
    """
    if not is_owned(model.distribute_strategy):
        raise ValueError(
            "`model` must be made under one of our strategies to be checkpointed. Received: a "
            f"model under {model.distribute_strategy!r}. Build and compile it under "
            "`with strategies.one_device_strategy().scope():`."
        )
    if not model.optimizer.built:
        raise ValueError(
            "`model` must be built before training to be checkpointed. Received: model "
            f"{model.name!r}, whose layers Keras cannot build by themselves. Call it once "
            "on a batch, and model.optimizer.build(model.trainable_variables)."
        )


def refuse_other_input(content: Content, now: FitInput) -> None:
    """Checks that a checkpoint of mid-epoch was taken in the input that there is now.

    Raises:
        ValueError: If it was not, or the order of this one cannot be had again.
    """
    if not content.position.step:
        return
    trained = (content.topology.get("steps_per_epoch"), content.topology.get("order"))
    found = (now.steps_per_epoch, now.order())
    if trained != found:
        raise ValueError(
            f"`x` must be the input that was checkpointed in mid-epoch: {trained[1]}, "
            f"{trained[0]} steps an epoch. Received: {found[1]}, {found[0]} steps an epoch. Pass "
            "that, or name another folder."
        )
    if now.steps_per_epoch is not None and content.position.step >= now.steps_per_epoch:
        raise ValueError(
            f"`directory` must hold positions within an epoch of {now.steps_per_epoch} steps. "
            f"Received: step {content.position.step}. Name another folder."
        )


def known_initial_epoch(content: Content, now: FitInput) -> int:
    """Returns the `initial_epoch` of the run, as it is now or was when it was checkpointed.

    The checkpoint decides where training goes on. `initial_epoch` may be 0, the checkpoint's epoch,
    or what it was when the run began: the same program, started again, passes the same.

    Raises:
        ValueError: If `initial_epoch` is another one.
    """
    given, epoch = now.initial_epoch, content.position.epoch
    before: int = content.topology.get("initial_epoch") or 0
    if given not in (0, epoch, before):
        raise ValueError(
            f"`initial_epoch` must be 0, or the epoch of the newest checkpoint, {epoch}, in which "
            f"training goes on. Received: initial_epoch={given}. Leave it out, or name another "
            "folder to start from step 0."
        )
    return given or before


def known_order(fit_input: FitInput, *, is_needed: bool) -> str:
    """Returns what the order of the batches follows from, or "" where it follows from nothing.

    Args:
        fit_input: The input of the `fit` that is beginning.
        is_needed: Whether training is to be resumed in mid-epoch.

    Raises:
        ValueError: If it is needed, and follows from nothing: a shuffle without a seed.
    """
    try:
        return fit_input.order()
    except ValueError:
        if is_needed:
            raise
        return ""
