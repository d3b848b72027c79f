"""The order of updates and reads of sharded parameters, where a step has several.

A replica updates its own part, and reads the parts of all. Replicas of one process are traced one
after the other, each up to the next place where all of them meet. So between an update and the next
read they have to meet: otherwise the first replica would read a part before its owner's update, and
its owner a part after it. What was gathered before the update is not used for later reads, and not
gathered again for the gradients of earlier ones.
"""

from __future__ import annotations

import tensorflow as tf

from strategies.keras_support.context.step_context import current_step


def is_one_of_several() -> bool:
    """Tells whether this process has several replicas."""
    return len(tf.distribute.get_strategy().extended.worker_devices) > 1


def note_change() -> None:
    """Called when this replica's step changes a sharded parameter."""
    step = current_step()
    if step is not None and step.gathers is not None:
        step.gathers.forget()


def note_update() -> None:
    """Called after an optimizer's update of sharded parameters, in replica context."""
    note_change()
    step = current_step()
    if not is_one_of_several():
        return
    if step is None:
        _meet()
    else:
        step.has_updated_parts = True


def order_before_read(name: str) -> None:
    """Called before this replica reads a sharded parameter.

    Args:
        name: Of the parameter.

    Raises:
        ValueError: If an update must be finished before, where replicas cannot meet.
    """
    step = current_step()
    if step is None or not step.has_updated_parts:
        return
    if not step.is_in_main_graph():
        raise ValueError(
            f"`{name}` must not be read inside a tf.cond, tf.while_loop or tf.function after an "
            "update in the same step, because with shard=3 replicas wait there for each other's "
            "updates. Received: such a read. Move it out, or build the strategy with shard=2."
        )
    _meet()
    step.has_updated_parts = False


def require_meeting(name: str) -> None:
    """Checks that a sharded parameter may be assigned here, in one of several replicas.

    Args:
        name: Of the parameter.

    Raises:
        ValueError: If replicas cannot meet here.
    """
    step = current_step()
    if step is not None and not step.is_in_main_graph():
        raise ValueError(
            f"`{name}` must not be assigned inside a tf.cond, tf.while_loop or tf.function, "
            "because with shard=3 each replica has a part of it. Received: such an assignment. "
            "Assign tf.where(condition, new, old) outside, or build the strategy with shard=2."
        )


def require_update_here(optimizer: str) -> None:
    """Checks that replicas can exchange parts in an optimizer's update here.

    Args:
        optimizer: Its name.

    Raises:
        ValueError: If they cannot.
    """
    step = current_step()
    if step is not None and not step.is_in_main_graph():
        raise ValueError(
            f"`optimizer.apply` of {optimizer!r} must not be called inside a tf.cond, "
            "tf.while_loop or tf.function, because with `shard` replicas exchange parts of it. "
            "Received: such a call. Use gradient_accumulation_steps or an optimizer's own "
            "clipping, or build the strategy with shard=0."
        )


def _meet() -> None:
    tf.distribute.get_replica_context().merge_call(lambda _: None)
