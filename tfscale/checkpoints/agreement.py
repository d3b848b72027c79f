"""The checkpoint that all workers resume from: the chief chooses, and all read the same."""

from __future__ import annotations

from typing import Any

import keras

from strategies.chief import is_chief
from strategies.keras_support.ownership import is_multi_worker
from strategies.keras_support.resumption import FitInput
from strategies.worker_exchange import exchange
from tfscale.checkpoints.directory import CheckpointDirectory, Content
from tfscale.checkpoints.manifest import BrokenCheckpoint


def newest_for_all(directory: CheckpointDirectory, strategy: Any) -> Content | None:
    """Returns the newest whole checkpoint, or None where there is none; all workers call it.

    Args:
        directory: A folder that all workers read.
        strategy: One of ours.

    Raises:
        ValueError: If all checkpoints are damaged, or this worker does not see the chief's.
    """
    content = directory.newest() if is_chief(strategy) else None
    if not is_multi_worker(strategy):
        return content
    own = "" if content is None else str(content.position.batches)
    chosen = exchange(strategy, "checkpoint to resume from", own)[0]  # the chief is the first
    if is_chief(strategy) or not chosen:
        return content
    try:
        return directory.read(int(chosen))
    except BrokenCheckpoint as error:
        raise ValueError(
            "`directory` must be one folder that all workers read. Received: directory="
            f"{directory.path!r}, where this worker does not find the chief's checkpoint after "
            f"{chosen} batches ({error}). Name a folder on a common file system."
        ) from error


def topology_of(strategy: Any, now: FitInput, order: str, initial_epoch: int) -> dict[str, Any]:
    """Returns what a checkpoint says of the training that it is taken of, JSON values.

    Args:
        strategy: One of ours.
        now: The input of the `fit`.
        order: What the order of the batches follows from.
        initial_epoch: The epoch that the run was told to begin with.
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
