"""A plain copy of a model whose layers are divided over devices."""

from __future__ import annotations

import keras

from strategies.extension import all_layers, compile_arguments, is_divided, whole_weights
from tfscale.parallel.tensor_slots import joined_state
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under, value_of
from tfscale.preparation.recompilation import (
    own_compile_arguments,
    own_optimizer,
    parts_made_again,
    refuse_own_compile,
)


def whole(model: keras.Model) -> keras.Model:
    """Returns a plain copy of a model that `tensor_parallel` has divided.

    The copy has whole matrices, the compilation, and the optimizer's state, so that it predicts,
    is exported and trains on as usual. It is made in the current scope and has to fit on one
    device there. `model` is not changed.

    Args:
        model: A divided model that can be made from its config.

    Raises:
        ValueError: If no layer is divided, or the model's config does not describe it.

    Example:
        >>> strategy = strategies.mirrored_strategy(1, devices_per_replica=2)
        >>> with strategy.scope():
        ...     model = keras.Sequential([keras.Input([4]), keras.layers.Dense(8, name="up")])
        >>> rule = tfscale.parallel.TensorRule(".*/up", "column")
        >>> _ = tfscale.parallel.tensor_parallel(model, [rule])
        >>> [tuple(weight.shape) for weight in whole(model).weights]
        [(4, 8), (8,)]
    """
    if not isinstance(model, keras.Model) or not any(map(is_divided, all_layers(model))):
        raise ValueError(
            f"`model` must be divided by tensor_parallel. Received: {model!r}. A plain model needs "
            "no copy."
        )
    if model.compiled:
        refuse_own_compile(model)
    compiled = compile_arguments(model) if model.compiled else {}
    custom_objects = custom_objects_in([*all_layers(model), *parts_made_again(compiled)])
    with whole_weights(all_layers(model)):
        twin, _ = copy_under(model.dtype_policy, model, [], custom_objects)
    if not compiled:
        return twin
    policy = model.dtype_policy
    with keras.saving.custom_object_scope(custom_objects):
        arguments = own_compile_arguments(compiled, policy, policy)
        twin.compile(own_optimizer(compiled["optimizer"], None), **arguments)
    if model.optimizer is not None and model.optimizer.built:
        source, target = model.optimizer, twin.optimizer
        target.build(twin.trainable_variables)
        scaled = keras.optimizers.LossScaleOptimizer
        if isinstance(source, scaled) and isinstance(target, scaled):
            for name in ("step_counter", "dynamic_scale"):
                getattr(target, name).assign(value_of(getattr(source, name)))
        source = source.inner_optimizer if isinstance(source, scaled) else source
        target = target.inner_optimizer if isinstance(target, scaled) else target
        for variable, value in zip(target.variables, joined_state(model, source), strict=True):
            variable.assign(value)
    return twin
