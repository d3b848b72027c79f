"""Which strategies shard, and what: stages 1, 2 and 3 of ZeRO (arXiv 1910.02054, section 5)."""

from __future__ import annotations

import weakref
from typing import Any

import tensorflow as tf

_STAGES: weakref.WeakKeyDictionary[tf.distribute.Strategy, int] = weakref.WeakKeyDictionary()


class _Divisions:
    """How often a parameter was divided in another way than before."""

    count = 0


_DIVISIONS = _Divisions()


def shard_state(strategy: tf.distribute.Strategy, stage: int) -> None:
    """Lets the replicas of a new strategy keep parts of the state.

    Args:
        strategy: A mirrored strategy, of one or several workers.
        stage: 0 keeps everything on each replica; 1 divides the slots of optimizers; 2 also
            gradients; 3 also parameters.
    """
    if stage and strategy.num_replicas_in_sync > 1:
        _STAGES[strategy] = stage


def stage_of(strategy: Any) -> int:
    """Returns the stage of a strategy: 0 if its replicas keep everything."""
    return _STAGES.get(strategy, 0)


def note_division() -> None:
    """Called when a parameter is divided in another way: what was traced has read the old parts."""
    _DIVISIONS.count += 1


def divisions() -> int:
    """Returns how often a parameter was divided in another way than before, in this process."""
    return _DIVISIONS.count


def refuse_compiled(model: Any) -> None:
    """Checks that the step of a sharded model is not compiled by XLA.

    Raises:
        ValueError: If it is.
    """
    if stage_of(model.distribute_strategy) and model.jit_compile and not model.run_eagerly:
        raise ValueError(
            "`jit_compile` must be False for a model under a strategy with shard > 0, because "
            "replicas exchange parts in the middle of a step. Received: jit_compile=True, perhaps "
            'chosen by Keras for "auto". Call model.compile(..., jit_compile=False).'
        )


def is_any_sharded(*_: Any, **__: Any) -> bool:
    """Tells whether any strategy shards: without one, no call needs the patches for it."""
    return bool(_STAGES)


def own_replica() -> tuple[int, int]:
    """Returns this replica's index over all workers, and among those of this process."""
    replica = tf.distribute.get_replica_context()
    index = int(tf.get_static_value(replica.replica_id_in_sync_group))
    return index, index % len(replica.strategy.extended.worker_devices)
