"""Resuming `fit` from a checkpoint: checks, and the same checkpoint for all workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import FitInput, exchange, is_multi_worker, refuse_model_outside
from tfscale.checkpoints.callback_state import check_callback_states
from tfscale.checkpoints.directory import CheckpointDirectory, Content
from tfscale.checkpoints.manifest import BrokenCheckpoint

_FAILED = "failed: "
_MOST_WORDS = 2000
"""Characters of an answer."""


def newest_for_all(
    directory: CheckpointDirectory,
    strategy: Any,
    callbacks: list[Any],
    begin: Callable[[], None] = lambda: None,
) -> Content | None:
    """Returns the newest intact checkpoint, or None if there is none. All workers must call it.

    The chief chooses the checkpoint, and all workers read it.

    Args:
        directory: A folder that all workers can read.
        strategy: A tfscale strategy.
        callbacks: All callbacks of the `fit` that is beginning.
        begin: Called by the chief before it reads, for instance to acquire the folder's lease.

    Raises:
        ValueError: If all checkpoints are damaged, or this worker does not find the chief's. On all
            workers, if another job saves to the folder.
        OSError: If the storage does not respond. On all workers, if that of the chief does not.
    """
    if not is_multi_worker(strategy):
        begin()
        return _newest(directory, callbacks)
    question = "checkpoint to resume from"
    if is_chief(strategy):
        try:
            begin()
            content = _newest(directory, callbacks)
        except (OSError, ValueError) as error:
            kind = "ValueError" if isinstance(error, ValueError) else "OSError"
            exchange(strategy, question, f"{_FAILED}{kind}: {error}"[:_MOST_WORDS])
            error.__dict__["is_on_all_workers"] = True
            raise
        exchange(strategy, question, "" if content is None else str(content.position.batches))
        return content
    chosen = exchange(strategy, question)[0]  # the chief is the first
    if chosen.startswith(_FAILED):
        is_value = chosen.startswith(f"{_FAILED}ValueError")
        failure = (ValueError if is_value else OSError)(
            f"The chief could not read a checkpoint to resume from and {chosen}"
        )
        failure.__dict__["is_on_all_workers"] = True
        raise failure
    if not chosen:
        return None
    try:
        content = directory.read(int(chosen))
        check_callback_states(callbacks, content)
        return content
    except BrokenCheckpoint as error:
        raise ValueError(
            "`directory` must be a folder that all workers can read. Received: directory="
            f"{directory.path!r}, where this worker does not find the chief's checkpoint after "
            f"{chosen} batches ({error}). Use a folder on a common file system."
        ) from error


def _newest(directory: CheckpointDirectory, callbacks: list[Any]) -> Content | None:
    return directory.newest(lambda content: check_callback_states(callbacks, content))


def topology_of(strategy: Any, now: FitInput, order: str, initial_epoch: int) -> dict[str, Any]:
    """Returns the description of the training for its checkpoints, as JSON values.

    Args:
        strategy: A tfscale strategy.
        now: The input of the `fit`.
        order: Text that determines the order of the batches.
        initial_epoch: The `initial_epoch` that the run began with.
    """
    return {
        "num_replicas": strategy.num_replicas_in_sync,
        "num_workers": num_workers(strategy),
        "steps_per_epoch": now.steps_per_epoch,
        "order": order,
        "initial_epoch": initial_epoch,
        "keras": keras.version(),
    }


def num_workers(strategy: Any) -> int:
    """Returns the number of processes that train together under a tfscale strategy."""
    return int(strategy.num_replicas_in_sync) // len(strategy.extended.worker_devices)


def refuse_model(model: Any) -> None:
    """Checks that a model can be checkpointed.

    Raises:
        ValueError: If it is not built, or not under a tfscale strategy.
    """
    refuse_model_outside(model, "Checkpoint")
    if not model.optimizer.built:
        raise ValueError(
            "`model` must be built before training for Checkpoint. Received: model "
            f"{model.name!r}, which Keras cannot build automatically. Call it once on a batch, "
            "and model.optimizer.build(model.trainable_variables)."
        )


def refuse_other_input(content: Content, now: FitInput) -> None:
    """Checks that a checkpoint in mid-epoch was taken with the same input.

    Raises:
        ValueError: If it was not, or the order of this input is not reproducible.
    """
    if not content.position.step:
        return
    trained = (content.topology.get("steps_per_epoch"), content.topology.get("order"))
    found = (now.steps_per_epoch, now.order())
    if trained != found:
        raise ValueError(
            f"`x` must be the input that was checkpointed in mid-epoch: {trained[1]}, "
            f"{trained[0]} steps per epoch. Received: {found[1]}, {found[0]} steps per epoch. "
            "Pass the same input, or use another folder."
        )
    if now.steps_per_epoch is not None and content.position.step >= now.steps_per_epoch:
        raise ValueError(
            f"`directory` must have a position within an epoch of {now.steps_per_epoch} steps. "
            f"Received: step {content.position.step}. Use another folder."
        )


def known_initial_epoch(content: Content, now: FitInput) -> int:
    """Returns the `initial_epoch` that the run began with.

    The checkpoint determines where training continues. `initial_epoch` may be 0, the checkpoint's
    epoch, or the value with which the run began, because the same program passes the same value.

    Raises:
        ValueError: If `initial_epoch` has another value.
    """
    given, epoch = now.initial_epoch, content.position.epoch
    before: int = content.topology.get("initial_epoch") or 0
    if given not in (0, epoch, before):
        raise ValueError(
            f"`initial_epoch` must be 0, or the epoch of the newest checkpoint, {epoch}. "
            f"Received: initial_epoch={given}. Omit it to resume, or use another folder to start "
            "from step 0."
        )
    return given or before


def known_order(fit_input: FitInput, *, is_needed: bool) -> str:
    """Returns text that determines the order of the batches, or "" if it is not reproducible.

    Args:
        fit_input: The input of the `fit` that is beginning.
        is_needed: Whether training must be able to resume in mid-epoch.

    Raises:
        ValueError: If it is needed and the order is not reproducible, as a shuffle without a seed.
    """
    try:
        return fit_input.order()
    except ValueError:
        if is_needed:
            raise
        return ""
