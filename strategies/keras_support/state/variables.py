"""Variables under a strategy: made in its scope, read as numbers, assigned by a step.

* A model that is not built before its first step makes its variables while the step is traced,
  inside the first replica, and TensorFlow cannot lift them out of that graph:
  `InvalidArgumentError` (C17). Here they are made outside of the graph, in the strategy's scope.
  Replicas are traced one after the other up to the first collective, and a layer is built without
  interruption, so the other replicas find it built.
* `float(optimizer.learning_rate)` and `int(optimizer.iterations)`, as callbacks write them, ask
  TensorFlow's variable, which has no such conversion where every replica has a copy (C24).
* A `tf.Variable` made in the scope has a copy on each replica that is neither saved nor averaged:
  assigned from a replica's own examples, the copies would differ. The state of a layer belongs in
  variables of Keras (`add_weight`), which are; see `layer_state`. Copies that add up when they are
  read (`synchronization=ON_READ`) are meant to differ.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from keras.src.backend.common.variables import AutocastScope
from tensorflow.python.distribute import distribute_lib

from strategies.keras_support.context.lineage import OWN
from strategies.keras_support.context.recomputed_pass import FirstPass, current_pass
from strategies.keras_support.context.step_context import current_step
from strategies.keras_support.patching.needs import Need, require
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned
from strategies.keras_support.sharding.optimizer_state import made_in_parts
from strategies.keras_support.state.random_seeds import is_in_dataset


@contextlib.contextmanager
def _for_all_replicas() -> Iterator[None]:
    """Leaves the graph of a replica's step, or of a dataset's function, for the strategy's scope.

    Elsewhere does nothing.
    """
    strategy = tf.distribute.get_strategy()
    if (
        not is_owned(strategy)
        or is_asynchronous(strategy)
        or isinstance(strategy, tf.distribute.OneDeviceStrategy)
        or tf.executing_eagerly()
        or (tf.distribute.in_cross_replica_context() and not is_in_dataset())
    ):
        yield
        return
    with tf.init_scope():
        # As a merge_call does, but without waiting for the other replicas.
        distribute_lib._push_per_thread_mode(distribute_lib._CrossReplicaThreadMode(strategy))
        try:
            with strategy.scope():
                yield
        finally:
            distribute_lib._pop_per_thread_mode()


def made_for_all_replicas(initialize: Any) -> Any:
    """Replaces `Variable._initialize`: leaves a replica's step to make a variable."""

    @functools.wraps(initialize)
    def initialize_for_all(self: Any, *arguments: Any) -> None:
        with _for_all_replicas():
            parts = made_in_parts(self, *arguments) if arguments else None
            if parts is None:
                initialize(self, *arguments)
            else:
                self._value = parts

    return initialize_for_all


def converted_by(number: type[int] | type[float]) -> Callable[[Any], Any]:
    """Returns what replaces `Variable.__float__` or `__int__`."""

    def wrap(convert: Any) -> Any:
        @functools.wraps(convert)
        def converted(self: Any) -> Any:
            value = self._value
            is_copied = isinstance(value, tf.distribute.DistributedValues)
            if self.ndim > 0 or not is_copied or not is_owned(value.distribute_strategy):
                return convert(self)
            return number(self.numpy())

        return converted

    return wrap


def floats_read_as(dtype: str) -> Any:
    """Returns a context in which float variables of Keras are read in another dtype."""
    require(Need.STATE_DTYPE)
    return AutocastScope(dtype)


def checked_assignment(assign: Any) -> Any:
    """Replaces assignments of `tf.Variable`: refuses values that would differ by replica."""

    @functools.wraps(assign)
    def checked(self: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        step = current_step()
        current = current_pass()
        if isinstance(current, FirstPass) and not current.is_assigning:
            current.refuse_native(self.name)
        if (
            step is not None
            and step.state is not None
            and not step.is_updating
            and not step.state.is_assigning
            and self.synchronization != tf.VariableSynchronization.ON_READ
            and step.lineage.of(value) & OWN
        ):
            raise ValueError(
                f"`{self.name}` must be a Keras variable if a step assigns it values from a "
                "replica's examples, otherwise its copies differ. Received: a tf.Variable. Make "
                "it "
                "with layer.add_weight(..., trainable=False), or keras.Variable, in "
                "strategy.scope()."
            )
        return assign(self, value, *args, **kwargs)

    return checked
