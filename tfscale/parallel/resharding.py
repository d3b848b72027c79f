"""Changes the number of shards of a model's tables, and keeps the state of its training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers, compile_arguments, copy_trainable, whole_number
from tfscale.parallel.sharded_embedding import ShardedEmbedding
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import state_of, value_of
from tfscale.preparation.recompilation import (
    own_compile_arguments,
    own_optimizer,
    parts_made_again,
    refuse_own_compile,
)

_CURE = "Build a new model and load the weights, which omits the optimizer's slots."
_SHARD = re.compile(r"_shard(\d+)of\d+(?=_|/|$)")


def resharded(model: keras.Model, num_shards: int) -> keras.Model:
    """Returns a copy of a model whose tables have `num_shards` shards each.

    Call it in the scope of the strategy that will continue the training. The copy has the weights,
    the compilation, and the optimizer's slots and step count of `model`, so that training continues
    as before. `model` is not changed. All tables pass through the memory of this process.

    Args:
        model: A model with `ShardedEmbedding` layers that can be made from its config: functional,
            Sequential, or of a class with `get_config`.
        num_shards: Shards of each table, from 1 to its number of rows.

    Raises:
        ValueError: If there is no such layer, `num_shards` is out of range, the model's config does
            not describe it, or its class overrides `compile`.

    Example:
        >>> layers = [keras.Input((2,), dtype="int32"), ShardedEmbedding(5, 3, num_shards=2)]
        >>> model = keras.Sequential(layers)
        >>> [tuple(weight.shape) for weight in resharded(model, 3).weights]
        [(2, 3), (2, 3), (1, 3)]
    """
    num_shards = whole_number("num_shards", num_shards, cure="Count shards.")
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: model={model!r}. Pass the trained model."
        )
    if not any(isinstance(layer, ShardedEmbedding) for layer in all_layers(model)):
        raise ValueError(
            "`model` must have a ShardedEmbedding. Received: "
            f"model={model.name!r} without one. Pass a model with sharded tables."
        )
    if model.compiled:
        refuse_own_compile(model)
    compiled = compile_arguments(model) if model.compiled else {}
    custom_objects = custom_objects_in([*all_layers(model), *parts_made_again(compiled)])
    with keras.saving.custom_object_scope(custom_objects):
        config = keras.saving.serialize_keras_object(model.get_config())
        twin: keras.Model = type(model).from_config(_with_shards(config, num_shards))
        if model.built and not twin.built:
            twin.build_from_config(model.get_build_config())
        _check_twin(model, twin, num_shards)
        for layer, its_twin in zip(all_layers(model), all_layers(twin), strict=True):
            if isinstance(layer, ShardedEmbedding):
                its_twin.trainable = layer.trainable
            else:
                copy_trainable(layer, its_twin)
        _copy(state_of(model), state_of(twin))
        if compiled:
            policy = model.dtype_policy
            arguments = own_compile_arguments(compiled, policy, policy)
            twin.compile(own_optimizer(compiled["optimizer"], None), **arguments)
    if compiled and model.optimizer.built:
        twin.optimizer.build(twin.trainable_variables)
        _copy(model.optimizer.variables, twin.optimizer.variables)
    return twin


def _with_shards(config: Any, num_shards: int) -> Any:
    if isinstance(config, list):
        return [_with_shards(part, num_shards) for part in config]
    if not isinstance(config, dict):
        return config
    changed = {
        key: _with_shards(part, num_shards)
        for key, part in config.items()
        if key != "compile_config"
    }
    if changed.get("registered_name") == "tfscale>ShardedEmbedding":
        changed["config"] = {**changed["config"], "num_shards": num_shards}
    return changed


def _check_twin(model: keras.Model, twin: keras.Model, num_shards: int) -> None:
    layers, twins = all_layers(model), all_layers(twin)
    tables = [layer for layer in twins if isinstance(layer, ShardedEmbedding)]
    if [type(layer) for layer in layers] != [type(layer) for layer in twins] or {
        table.num_shards for table in tables
    } != {num_shards}:
        raise ValueError(
            "`model` must be described completely by its config, including tables. Received: "
            f"model={model.name!r} of class {type(model).__name__}. {_CURE}"
        )


def _copy(source: Iterable[Any], target: Iterable[Any]) -> None:
    """Assigns corresponding variables. Shards of a table or slot are joined and divided again."""
    wholes, twins = _wholes(source), _wholes(target)
    # Not by path, which contains a layer's number and differs in the copy.
    shapes, twin_shapes = ([_shape(parts) for parts in groups] for groups in (wholes, twins))
    if shapes != twin_shapes:
        raise ValueError(
            f"`model` must have the variables that its config creates. Received: {shapes!r}, while "
            f"the config creates {twin_shapes!r}. {_CURE}"
        )
    for parts, its_twins in zip(wholes, twins, strict=True):
        values = [value_of(part) for part in parts]
        if len(parts) == len(its_twins) == 1:
            its_twins[0].assign(values[0])
            continue
        whole = np.empty((sum(map(len, values)), *values[0].shape[1:]), values[0].dtype)
        for shard, value in enumerate(values):
            whole[shard :: len(values)] = value
        for shard, twin in enumerate(its_twins):
            twin.assign(whole[shard :: len(its_twins)])


def _wholes(variables: Iterable[Any]) -> list[list[Any]]:
    """Groups variables: the shards of a table form a group, in order; others are single."""
    found: dict[tuple[str, int], list[Any]] = {}
    times: Counter[str] = Counter()
    for variable in variables:
        key = (_SHARD.sub("", variable.path), times[variable.path])
        times[variable.path] += 1
        found.setdefault(key, []).append(variable)
    return list(found.values())


def _shape(parts: list[Any]) -> tuple[int, ...]:
    first = tuple(parts[0].shape)
    return first if len(parts) == 1 else (sum(part.shape[0] for part in parts), *first[1:])
