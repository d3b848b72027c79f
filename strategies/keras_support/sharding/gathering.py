"""Gathers sharded parameters on a replica, layer by layer.

A layer that reads its kernel in a step gets the whole tensor, gathered for it. Without an order all
gathers would run at the beginning of the step, since they depend on nothing. So the gathers of a
layer wait until the layer two before has used its own: while one layer computes, the next one's
parameters arrive, and there are never more than those of about two layers.

On replicas of one process a gather reads the other replicas' parts; its gradient is a piece for
each part. Between workers it is a collective; its gradient is reduced at once, and what the tape
returns is this replica's part.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from strategies.coordination.launchers import launcher_of_replica
from strategies.keras_support.context.lineage import Source
from strategies.keras_support.context.recomputed_pass import current_pass
from strategies.keras_support.context.step_context import StepContext, current_step
from strategies.keras_support.context.weighted_gradients import concatenated
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.sharding.cuts import in_own_memory
from strategies.keras_support.sharding.scattering import sum_of_parts
from strategies.keras_support.sharding.sharded_value import ShardedValue
from strategies.keras_support.sharding.stages import own_replica
from strategies.keras_support.sharding.step_order import order_before_read


@dataclass
class _Group:
    """The parameters of one layer, gathered for one use of it.

    Attributes:
        layer: What they belong to.
        used_in: The pass of a recomputed function that uses them, or None.
        tensors: The gathered tensors, by the id of the value.
    """

    layer: Any
    used_in: Any = None
    tensors: dict[int, tf.Tensor] = field(default_factory=dict)


@dataclass
class Gathers:
    """What one replica has gathered in its step.

    Attributes:
        owners: By the id of a value, the layer that it belongs to.
        groups: In the order of the forward pass.
        values: By the name of a gathered tensor, the value that it came from.
        rows: By the id of a value, gradients of lookups in it that the tape has found.
    """

    owners: dict[int, int]
    groups: list[_Group] = field(default_factory=list)
    values: dict[str, ShardedValue] = field(default_factory=dict)
    rows: dict[int, list[tf.IndexedSlices]] = field(default_factory=dict)

    def begin(self, value: ShardedValue) -> _Group:
        """Returns the group that a read of `value` belongs to."""
        layer = self.owners.get(id(value), id(value))
        last = self.groups[-1] if self.groups else None
        if last is None or last.layer != layer or last.used_in is not current_pass():
            self.groups.append(_Group(layer, current_pass()))
        return self.groups[-1]

    def forget(self) -> None:
        """What was gathered is the past: it is neither shared nor gathered again."""
        self.groups.clear()
        self.values.clear()

    def users_of_layer_two_before(self) -> list[Any]:
        """The operations that use the parameters of the layer two before the present one."""
        if len(self.groups) < 3:
            return []
        return _users(self.groups[-3].tensors.values())


def _users(gathered: Iterable[tf.Tensor]) -> list[Any]:
    """Returns the operations that need anything besides gathered tensors.

    A cast to half precision needs nothing else: it would not make the next gather wait for the
    layer, and all parameters would be in memory in both precisions.
    """
    reached = list(gathered)
    names = {tensor.name for tensor in reached}
    found = []
    for tensor in reached:
        for operation in tensor.consumers():
            only_copies = all(t.name in names or t.op.type == "Const" for t in operation.inputs)
            is_used = any(t.consumers() for t in operation.outputs)
            if only_copies and is_used and not operation.op_def.is_stateful:
                added = [t for t in operation.outputs if t.name not in names]
                names.update(t.name for t in added)
                reached += added
            else:
                found.append(operation)
    return found


def gather_in_step(value: ShardedValue) -> tf.Tensor:
    """Returns the whole of a sharded value, on a replica.

    A condition or a loop (of an LSTM) takes what is gathered outside of it: once, not in each turn,
    and where replicas can add up its gradient.
    """
    order_before_read(value.name)
    step = current_step()
    gathers = None if step is None else _gathers_of(step)
    main_graph = None if step is None else step.main_graph_around()
    if gathers is None or main_graph is None:
        return _marked(gathered(value), step)
    with main_graph.as_default():
        return _gathered_for_layer(value, step, gathers)


def _gathered_for_layer(
    value: ShardedValue, step: StepContext | None, gathers: Gathers
) -> tf.Tensor:
    group = gathers.begin(value)
    known = group.tensors.get(id(value))
    if known is None or not _is_known_to_tapes(known):
        with tf.control_dependencies(gathers.users_of_layer_two_before()):
            whole = _marked(gathered(value), step)
        group.tensors[id(value)] = whole
        gathers.values[whole.name] = value
    return group.tensors[id(value)]


def _is_known_to_tapes(whole: tf.Tensor) -> bool:
    """Tells whether a gradient finds the way from what was gathered to the parameter.

    Another tape than the one that records now may have seen it gathered.
    """
    return record.should_record_backprop([whole]) or not record.could_possibly_record()


def _gathers_of(step: StepContext) -> Gathers:
    if step.gathers is None:
        step.gathers = Gathers(
            {
                id(variable._value): number
                for number, layer in enumerate(step.layers)
                for variable in getattr(layer, "_trainable_variables", ())
            }
        )
    gathers: Gathers = step.gathers
    return gathers


def _marked(whole: tf.Tensor, step: StepContext | None) -> tf.Tensor:
    if step is not None:
        step.lineage.mark([whole], Source.SHARED)
    return whole


def gather_outside(value: ShardedValue) -> tf.Tensor:
    """Returns the whole of a value that is sharded in one process, outside of replicas."""
    # The graph of a function may be older than the division; see `ShardedValue.recut`.
    return tf.ensure_shape(gathered(value, 0), value.shape, name="is_built_before_it_is_traced")


def gathered(value: ShardedValue, own: int | None = None) -> tf.Tensor:
    """Returns the whole of a sharded value, whose gradient is in parts.

    Args:
        value: The value.
        own: On which replica; None for the present one.
    """
    own = own_replica()[0] if own is None else own
    strategy, cut = value.distribute_strategy, value.cut
    is_shared = is_multi_worker(strategy)

    @tf.custom_gradient
    def joined(*parts: tf.Tensor) -> Any:
        whole = all_parts(parts, [cut])[0] if is_shared else cut.joined(parts)

        def backward(upstream: Any) -> list[Any]:
            if isinstance(upstream, tf.IndexedSlices):
                if _keep_sparse(value, upstream):
                    return [None] * len(parts)
                upstream = tf.convert_to_tensor(upstream)
            if is_shared:
                return sum_of_parts([upstream], [cut])
            return [cut.take(upstream, r) for r in range(cut.num_parts)]

        return whole, backward

    with tf.device(value.parts[own].device):
        return joined(
            *[part.read_value() for part in ([value.parts[own]] if is_shared else value.parts)]
        )


class _Outside(threading.local):
    """The gradient that this thread is computing outside of a step.

    Attributes:
        rows: What `Gathers.rows` is in a step; None if no gradient is computed.
        graph: The graph in which rows are kept.
    """

    rows: dict[int, list[tf.IndexedSlices]] | None = None
    graph: Any = None


_OUTSIDE = _Outside()


def _keep_sparse(value: ShardedValue, gradient: tf.IndexedSlices) -> bool:
    """Keeps the rows of a lookup, which are reduced as those of a whole table are."""
    step = current_step()
    if step is None:
        rows = _OUTSIDE.rows
        if rows is None or _OUTSIDE.graph is not tf.compat.v1.get_default_graph():
            return False
    elif step.gathers is None or not step.is_in_main_graph():
        return False
    else:
        rows = step.gathers.rows
    rows.setdefault(id(value), []).append(gradient)
    return True


def rows_of(value: ShardedValue) -> tf.IndexedSlices | None:
    """Returns this replica's gradient of lookups in a parameter, and forgets it."""
    step = current_step()
    rows = _OUTSIDE.rows if step is None else step.gathers and step.gathers.rows
    found = rows.pop(id(value), []) if rows else []
    return concatenated(found) if found else None


@contextlib.contextmanager
def keeping_rows() -> Iterator[None]:
    """While gradients are computed outside of a step: rows of lookups are kept for `rows_of`."""
    outer = _OUTSIDE.rows, _OUTSIDE.graph
    _OUTSIDE.rows, _OUTSIDE.graph = {}, tf.compat.v1.get_default_graph()
    try:
        yield
    finally:
        _OUTSIDE.rows, _OUTSIDE.graph = outer


def forget_rows() -> None:
    """Called after a gradient: forgets rows of parameters that it was not asked for."""
    step = current_step()
    if step is not None and step.gathers is not None:
        step.gathers.rows.clear()


def all_parts(parts: Sequence[tf.Tensor], cuts: Sequence[Any]) -> list[tf.Tensor]:
    """Returns whole tensors from the parts on all workers, by one collective a dtype.

    Args:
        parts: This replica's, of one dtype.
        cuts: Their divisions.
    """
    own, index = own_replica()
    launcher = launcher_of_replica(tf.distribute.get_strategy(), index)
    if len(cuts) == 1 and cuts[0].is_even:
        return [cuts[0].stacked(launcher.gather_alike(tf.reshape(parts[0], [-1])))]
    replicas = cuts[0].num_parts
    sizes = [sum(cut.part_size(r) for cut in cuts) for r in range(replicas)]
    flat = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
    flat = tf.pad(flat, [[0, max(sizes) - sizes[own]]])
    rows = tf.reshape(launcher.gather_alike(flat), [replicas, max(sizes)])
    found: list[list[tf.Tensor]] = [[] for _ in cuts]
    for r in range(replicas):
        pieces = tf.split(rows[r, : sizes[r]], [cut.part_size(r) for cut in cuts])
        for i, (cut, piece) in enumerate(zip(cuts, pieces, strict=True)):
            found[i].append(tf.reshape(piece, cut.part_shape(r)))
    wholes = [cut.joined(pieces) for cut, pieces in zip(cuts, found, strict=True)]
    return [
        in_own_memory(whole) if any(map(cut.is_whole, range(replicas))) else whole
        for cut, whole in zip(cuts, wholes, strict=True)
    ]
