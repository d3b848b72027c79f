"""What cannot be checkpointed, or not be resumed from: said before training, with the cure."""

from __future__ import annotations

from typing import Any

from strategies.keras_support.ownership import is_owned
from strategies.keras_support.resumption import FitInput
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
    trained = (content.topology["steps_per_epoch"], content.topology["order"])
    found = (now.steps_per_epoch, now.order())
    if trained != found:
        raise ValueError(
            f"`x` must be the input that was checkpointed in mid-epoch: {trained[1]}, "
            f"{trained[0]} steps an epoch. Received: {found[1]}, {found[0]} steps an epoch. Pass "
            "that, or name another folder."
        )


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
