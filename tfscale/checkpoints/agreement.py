"""The checkpoint that all workers resume from: the chief chooses, and all read the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from strategies import is_chief
from strategies.extension import FitInput, exchange, is_multi_worker
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
    """Returns the newest whole checkpoint, or None where there is none; all workers call it.

    Args:
        directory: A folder that all workers read.
        strategy: One of ours.
        callbacks: All callbacks of the `fit` that is beginning.
        begin: What the chief does before it looks, such as taking the folder's lease.

    Raises:
        ValueError: If all checkpoints are damaged, or this worker does not see the chief's; on all
            workers, if another job saves to the folder.
        OSError: If the storage does not answer; where the chief's does not, on all workers.
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
            f"The chief found no checkpoint to resume from and {chosen}"
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
            "`directory` must be one folder that all workers read. Received: directory="
            f"{directory.path!r}, where this worker does not find the chief's checkpoint after "
            f"{chosen} batches ({error}). Name a folder on a common file system."
        ) from error


def _newest(directory: CheckpointDirectory, callbacks: list[Any]) -> Content | None:
    return directory.newest(lambda content: check_callback_states(callbacks, content))


def topology_of(strategy: Any, now: FitInput, order: str, initial_epoch: int) -> dict[str, Any]:
    """Returns what a checkpoint says of the training that it is taken of, JSON values.

    Args:
        strategy: One of ours.
        now: The input of the `fit`.
        order: What the order of the batches follows from.
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
    """Returns the processes that train together under one of our strategies."""
    return int(strategy.num_replicas_in_sync) // len(strategy.extended.worker_devices)
