"""The slots of an optimizer, in parts: each replica makes and keeps those of its part.

`Optimizer.build` learns how each variable is divided; a slot made from a variable is divided like
it, from its first moment on. A slot of another shape (Adafactor's rows and columns) belongs to a
variable that is whole on one replica, and is whole there too. All of them stay Keras variables that
look whole, in `optimizer.variables`.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import keras
import tensorflow as tf
from keras.src.optimizers.base_optimizer import BaseOptimizer

from strategies.keras_support.placement.variable_devices import devices_of, parts_on
from strategies.keras_support.sharding.cuts import Cut, by_rows, cuts_for, owned
from strategies.keras_support.sharding.gathering import gather_in_step, gather_outside
from strategies.keras_support.sharding.sharded_value import ShardedValue, is_sharded
from strategies.keras_support.sharding.stages import stage_of


class _Making(threading.local):
    """The division of the slot that is being made, or None."""

    cut: Cut | None = None


_MAKING = _Making()


def built_in_parts(build: Any) -> Any:
    """Wraps `Optimizer.build`: says how each variable is divided before slots are made."""

    @functools.wraps(build)
    def build_in_parts(self: Any, variables: Any) -> Any:
        strategy = self._distribution_strategy
        if stage_of(strategy) and not hasattr(self, "inner_optimizer"):
            variables = list(variables)
            _refuse(self, variables)
            cuts = cuts_for(self, variables, strategy.num_replicas_in_sync)
            for variable, cut in zip(variables, cuts, strict=True):
                variable.part_cut = cut
                if is_sharded(variable):
                    variable._value.recut(cut)
        return build(self, variables)

    return build_in_parts


def slot_in_parts(add: Any) -> Any:
    """Wraps `Optimizer.add_variable_from_reference`: a slot is divided as its variable is."""

    @functools.wraps(add)
    def added(
        self: Any, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        cut = getattr(reference_variable, "part_cut", None)
        if cut is None or not stage_of(self._distribution_strategy):
            return add(self, reference_variable, name=name, initializer=initializer)
        outer, _MAKING.cut = _MAKING.cut, cut
        try:
            with parts_on(devices_of(reference_variable)):
                return BaseOptimizer.add_variable_from_reference(
                    self, reference_variable, name=name, initializer=initializer
                )
        finally:
            _MAKING.cut = outer

    return added


def made_in_parts(variable: Any, value: Any) -> ShardedValue | None:
    """Returns the value of a new Keras variable in parts, or None if it is to be whole.

    Args:
        variable: A slot of an optimizer, or a parameter of a model.
        value: Its initial value, or a function that returns it.
    """
    strategy = tf.distribute.get_strategy()
    stage = stage_of(strategy)
    if not stage:
        return None
    cut = _MAKING.cut
    is_parameter = cut is None
    if cut is None:
        if stage < 3 or not variable.trainable:
            return None
        shape = getattr(variable, "_shape", None)
        shape = tf.convert_to_tensor(value).shape if shape is None else shape
        if not tf.as_dtype(variable._dtype).is_floating or not len(shape):
            return None  # a scalar may also be a counter that an optimizer makes
        cut = by_rows(shape, strategy.num_replicas_in_sync)
    return ShardedValue(
        strategy,
        cut,
        value,
        variable._dtype,
        variable.name,
        variable.trainable,
        gather_in_step,
        gather_outside,
        is_drawn=is_parameter,
    )


def divide_other_slots(optimizer: Any) -> None:
    """Divides slots of another shape than their variables', once all are made.

    Args:
        optimizer: One that is built. Of a `LossScaleOptimizer` the inner one.
    """
    variables = optimizer._trainable_variables
    for name, slots in vars(optimizer).items():
        if not isinstance(slots, (list, tuple)) or len(slots) != len(variables):
            continue
        if name == "_variables":
            continue  # all of the optimizer's, which may be as many
        for slot, variable in zip(slots, variables, strict=True):
            if slot is variable or not isinstance(slot, keras.Variable):
                continue
            cut = variable.part_cut
            owner = next((r for r in range(cut.num_parts) if cut.rows(r)), 0)
            if is_sharded(slot):
                _require_same_division(optimizer, slot, variable, owner)
                continue
            if not cut.is_whole(owner):
                raise ValueError(
                    f"`shard` needs slots of their variable's shape. Received: {slot.path!r} of "
                    f"shape {tuple(slot.shape)} for {variable.path!r} of shape "
                    f"{tuple(variable.shape)}. Build the strategy with shard=0."
                )
            strategy = optimizer._distribution_strategy
            with tf.init_scope():
                present = strategy.experimental_local_results(slot._value)[0].numpy()
            with parts_on(devices_of(variable)):
                slot._value = ShardedValue(
                    strategy,
                    owned(slot.shape, owner, cut.num_parts),
                    present,
                    slot._dtype,
                    slot.name,
                    False,
                    gather_in_step,
                    gather_outside,
                )


def _require_same_division(optimizer: Any, slot: Any, variable: Any, owner: int) -> None:
    cut = variable.part_cut
    is_alike = tuple(slot.shape) == cut.shape
    if slot._value.cut != (cut if is_alike else owned(slot.shape, owner, cut.num_parts)):
        raise ValueError(
            f"`optimizer` must be the last one that was built for {variable.path!r}, because with "
            "`shard` optimizers of different kinds divide a variable differently. Received: "
            f"{optimizer.name!r}, after another one was built for it. Give each optimizer its own "
            "variables, or build the strategy with shard=0."
        )


def averages_copied_by_part(overwrite: Any) -> Any:
    """Wraps `Optimizer._overwrite_model_variables_with_average_value` outside of an update.

    TensorFlow updates variables that every replica has; parts are copied where they are.
    """

    @functools.wraps(overwrite)
    def copied(self: Any, trainable_variables: Any) -> Any:
        variables = list(trainable_variables)
        averages = self._model_variables_moving_average
        if not any(map(is_sharded, variables)):
            return overwrite(self, variables)
        for variable, average in zip(variables, averages, strict=True):
            if average is None:
                continue
            if not is_sharded(variable):
                variable.assign(average.numpy())
                continue
            parts = zip(variable._value.parts, average._value.parts, strict=True)
            for part, part_of_mean in parts:
                if part is not None:
                    part.assign(part_of_mean)
        return None

    return copied


def averages_swapped_by_value(swap: Any) -> Any:
    """Wraps `SwapEMAWeights._tf_swap_variables`, for averages in parts."""

    @functools.wraps(swap)
    def swapped(self: Any, optimizer: Any) -> Any:
        if not stage_of(optimizer._distribution_strategy):
            return swap(self, optimizer)
        for variable, average in _with_averages(optimizer):
            value, mean = variable.numpy().copy(), average.numpy().copy()
            variable.assign(mean)
            average.assign(value)
        return None

    return swapped


def averages_set_by_value(finalize: Any) -> Any:
    """Wraps `SwapEMAWeights._tf_finalize_ema_values`, for averages in parts."""

    @functools.wraps(finalize)
    def finalized(self: Any, optimizer: Any) -> Any:
        if not stage_of(optimizer._distribution_strategy):
            return finalize(self, optimizer)
        for variable, average in _with_averages(optimizer):
            average.assign(variable.numpy())
        return None

    return finalized


def _with_averages(optimizer: Any) -> list[tuple[Any, Any]]:
    pairs = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    return [(variable, average) for variable, average in pairs if average is not None]


def _refuse(optimizer: Any, variables: list[Any]) -> None:
    for variable in variables:
        if variable.overwrite_with_gradient:
            raise ValueError(
                "`shard` must be 0 for a model that trains in float8, because its scales are "
                f"assigned from gradients. Received: {variable.path!r} for {optimizer.name!r}."
            )
