"""The value of a Keras variable of which each replica keeps a part.

Such a variable looks whole: outside of a step it is read and assigned as one array of its full
shape, so `numpy`, `save`, checkpoints and callbacks need not know. In a step its parts are gathered
(see `gathering`), and an optimizer's update sees the part of its replica (see `part_view`).

With several workers the parts of the others are not in this process: reading the whole is a call
that all workers make together.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from tensorflow.python.ops.resource_variable_ops import ResourceVariable

from strategies.coordination.rendezvous import exchange, worker_index
from strategies.keras_support.model.replica_values import gathered_rows
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.placement.variable_devices import devices_for_parts
from strategies.keras_support.sharding.cuts import Cut
from strategies.keras_support.sharding.stages import note_division
from strategies.keras_support.sharding.step_order import (
    is_one_of_several,
    note_change,
    require_meeting,
)

Gather = Callable[["ShardedValue"], tf.Tensor]


class ShardedValue:
    """A variable in parts.

    Args:
        strategy: The strategy of the replicas.
        cut: What each replica keeps.
        value: The whole initial value, or a function that returns it.
        dtype: Of the variable.
        name: Of the variable.
        trainable: Whether gradient tapes watch it.
        gather_in_step: Returns the whole tensor on a replica, in its step.
        gather_outside: Returns it where there is no replica, of one process.
        is_drawn: Whether workers may differ in `value`; then the first worker's counts.

    Attributes:
        parts: By replica; None for a replica of another worker.
        snapshot: The whole value as it was gathered for a reader on one worker, or None.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        cut: Cut,
        value: Any,
        dtype: Any,
        name: str,
        trainable: bool,
        gather_in_step: Gather,
        gather_outside: Gather,
        is_drawn: bool = False,
    ) -> None:
        self.distribute_strategy = strategy
        self.dtype = tf.as_dtype(dtype)
        self._aggregation = tf.VariableAggregation.NONE
        self.name = name
        self.trainable = trainable
        self.snapshot: np.ndarray[Any, Any] | None = None
        self._gather_in_step = gather_in_step
        self._gather_outside = gather_outside
        self.cut = cut
        self._devices = devices_for_parts(strategy)
        self.parts: list[Any] = self._made_parts(cut, value, is_drawn)

    @property
    def shape(self) -> tf.TensorShape:
        """The shape of the whole."""
        return tf.TensorShape(self.cut.shape)

    @property
    def device(self) -> str:
        """The device of this process's first part."""
        return str(self._local_parts()[0][1].device)

    @property
    def handle(self) -> Any:
        """Refused: a variable in parts has no handle."""
        raise AttributeError(f"{self.name!r} is sharded, and has one handle for each part.")

    @property
    def _unique_id(self) -> str:
        return f"sharded_{id(self)}"

    @property
    def _shared_name(self) -> str:
        return self._unique_id

    def move(self, devices: Sequence[str]) -> None:
        """Moves the parts to other devices, one for each replica of this process."""
        whole, self._devices = self.numpy(), tuple(devices)
        self.parts = self._made_parts(self.cut, whole)

    def recut(self, cut: Cut) -> None:
        """Changes the division; the value stays. All workers call it together.

        A function that was traced before would go on reading the old parts, so they become empty:
        what it reads then has another shape, which is an error.
        """
        if cut == self.cut:
            return
        whole, outdated = self.numpy(), self._local_parts()
        self.parts = self._made_parts(cut, whole)
        self.cut = cut
        note_division()
        with tf.init_scope():
            for _, part in outdated:
                with tf.device(part.device):
                    empty = tf.zeros([0] * len(cut.shape), self.dtype)
                    tf.raw_ops.AssignVariableOp(resource=part.handle, value=empty)

    def numpy(self) -> np.ndarray[Any, Any]:
        """Returns the whole value. All workers call it together."""
        if self.snapshot is not None:
            return self.snapshot
        if not is_multi_worker(self.distribute_strategy):
            parts = [self._on_host(part) for part in self.parts]
        else:
            parts = self._parts_of_all_workers()
        present = [part for r, part in enumerate(parts) if self.cut.rows(r)]
        if not present:
            return np.zeros(self.cut.shape, self.dtype.as_numpy_dtype)
        if len(present) == 1:
            return present[0].copy()
        return np.concatenate(present, axis=self.cut.axis)

    def read_value(self) -> tf.Tensor:
        """Returns the whole value: in a step on its replica, otherwise as `numpy` does."""
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.strategy is self.distribute_strategy:
            return self._gather_in_step(self)
        if is_multi_worker(self.distribute_strategy):
            if in_symbolic_scope():
                return tf.zeros(self.shape, self.dtype)  # only its shape is looked at
            if not tf.executing_eagerly():
                raise ValueError(
                    f"`{self.name}` is sharded over workers and must be read in a step, or "
                    "eagerly. Received: a read in a tf.function outside of strategy.run. Read its "
                    "numpy() before, on all workers."
                )
            return tf.constant(self.numpy(), self.dtype)
        return self._gather_outside(self)

    def value(self) -> tf.Tensor:
        """Returns `read_value`."""
        return self.read_value()

    def assign(self, value: Any, *_: Any) -> ShardedValue:
        """Assigns the whole: each replica keeps its part of `value`."""
        whole = tf.cast(tf.convert_to_tensor(value), self.dtype)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.strategy is self.distribute_strategy:
            note_change()
            if is_one_of_several():
                require_meeting(self.name)
                replica.merge_call(self._assign_on_replicas, args=(whole,))
                return self
        for r, part in self._local_parts():
            part.assign(self.cut.take(whole, r))
        return self

    def assign_add(self, value: Any, *_: Any) -> ShardedValue:
        """Adds a whole tensor."""
        return self.assign(self.read_value() + tf.cast(value, self.dtype))

    def assign_sub(self, value: Any, *_: Any) -> ShardedValue:
        """Subtracts a whole tensor."""
        return self.assign(self.read_value() - tf.cast(value, self.dtype))

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.read_value(), dtype=dtype, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.numpy(), dtype=dtype)

    def __repr__(self) -> str:
        return (
            f"<ShardedValue {self.name!r} shape={self.cut.shape} dtype={self.dtype.name}, "
            f"{self.cut.num_parts} parts of axis {self.cut.axis}>"
        )

    # TensorFlow's checkpoints write and read the whole.
    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return {"VARIABLE_VALUE": tf.convert_to_tensor(self.numpy())}

    def _restore_from_tensors(self, restored: dict[str, tf.Tensor]) -> ShardedValue:
        return self.assign(restored["VARIABLE_VALUE"])

    def _export_to_saved_model_graph(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            f"A model with sharded parameters cannot be exported. Received: {self.name!r} in parts."
            " Save it with model.save('model.keras'), load that file outside of "
            "strategy.scope(), and export the loaded model."
        )

    def _assign_on_replicas(self, strategy: tf.distribute.Strategy, wholes: Any) -> None:
        """Assigns when no replica has still to read the values before."""
        local = strategy.experimental_local_results(wholes)
        for (r, part), whole in zip(self._local_parts(), local, strict=True):
            with tf.device(part.device):
                part.assign(self.cut.take(whole, r))

    def _local_parts(self) -> list[tuple[int, Any]]:
        return [(r, part) for r, part in enumerate(self.parts) if part is not None]

    def _made_parts(self, cut: Cut, value: Any, is_drawn: bool = False) -> list[Any]:
        devices = self._devices
        first = worker_index(self.distribute_strategy) * len(devices)
        parts: list[Any] = [None] * cut.num_parts
        with tf.init_scope():
            whole = tf.cast(tf.convert_to_tensor(value() if callable(value) else value), self.dtype)
            if is_drawn:
                whole = self._of_first_worker(whole)
            for i, device in enumerate(devices):
                with tf.device(device):
                    # Its own class, because tf.Variable would make a copy for every replica.
                    parts[first + i] = ResourceVariable(
                        tf.identity(cut.take(whole, first + i)),
                        trainable=self.trainable,
                        dtype=self.dtype,
                        name=f"{self.name}_part_{first + i}",
                    )
        return parts

    def _of_first_worker(self, whole: tf.Tensor) -> tf.Tensor:
        """Returns the first worker's value on all workers, as TensorFlow does for copies."""
        strategy = self.distribute_strategy
        if not is_multi_worker(strategy):
            return whole
        carried = tf.cast(whole, tf.float32) if self.dtype.size < 4 else whole

        def own(context: tf.distribute.ValueContext) -> tf.Tensor:
            return carried if not context.replica_id_in_sync_group else tf.zeros_like(carried)

        values = strategy.experimental_distribute_values_from_function(own)
        total = strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        return tf.cast(total, self.dtype)

    def _on_host(self, part: Any) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = part.numpy()
        return host

    def _parts_of_all_workers(self) -> list[np.ndarray[Any, Any]]:
        exchange(self.distribute_strategy, f"reading the sharded variable {self.name}", "")
        size = max(self.cut.part_size(r) for r in range(self.cut.num_parts))
        rows = np.zeros((len(self._local_parts()), size), self.dtype.as_numpy_dtype)
        for row, (_, part) in zip(rows, self._local_parts(), strict=True):
            own = self._on_host(part).reshape(-1)
            row[: own.size] = own
        everyone = gathered_rows(self.distribute_strategy, rows)
        return [
            everyone[r, : self.cut.part_size(r)].reshape(self.cut.part_shape(r))
            for r in range(self.cut.num_parts)
        ]


def is_sharded(variable: Any) -> bool:
    """Tells whether each replica keeps a part of a Keras variable.

    Args:
        variable: A `keras.Variable`.
    """
    return isinstance(variable._value, ShardedValue)


def _as_tensor(name: str) -> Callable[..., Any]:
    method: Callable[..., Any] = getattr(operator, name)

    @functools.wraps(method)
    def computed(self: Any, *others: Any) -> Any:
        return method(tf.convert_to_tensor(self), *others)

    return computed


def _as_right_tensor(name: str) -> Callable[[Any, Any], Any]:
    method: Callable[..., Any] = getattr(operator, name)

    def computed(self: Any, other: Any) -> Any:
        return method(other, tf.convert_to_tensor(self))

    return computed


def computes_as_tensor(cls: Any) -> Any:
    """Gives a class that converts to a tensor the arithmetic of tensors."""
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        setattr(cls, f"__{name}__", _as_tensor(name))
        setattr(cls, f"__r{name}__", _as_right_tensor(name))
    for name in ("neg", "abs", "getitem", "lt", "le", "gt", "ge"):
        setattr(cls, f"__{name}__", _as_tensor(name))
    return cls


computes_as_tensor(ShardedValue)
