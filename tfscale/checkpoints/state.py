"""The state of a training: the variables that a step reads and writes.

These are the variables of the model (weights, moving statistics, seeds of random layers), of the
optimizer (counts, slots, averages, accumulated gradients, the loss scale) and of the metrics. Each
has a key: its part and its Keras path.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from strategies import is_chief
from strategies.extension import (
    assign_replica_values,
    assign_value,
    is_asynchronous,
    is_per_replica,
    is_sharded,
    replica_values,
    whole_value,
)
from tfscale.checkpoints.tensors import Values


class SnapshotMemory:
    """Reusable arrays for snapshots, one per variable.

    Copying into memory that the process has used before is fast. New memory comes page by page from
    the system, and took 5 to 60 times as long here.

    If a variable already has an array, `taken` only references its buffer, and `fill` copies it
    later, from any thread, while training continues. If training writes the variable before that,
    TensorFlow (2.21) first copies the buffer, because it has a second owner; the reference keeps
    the old buffer.

    Example:
        >>> memory, variable = SnapshotMemory(), tf.Variable([1.0, 2.0])
        >>> first = memory.taken("v", variable)
        >>> memory.fill()
        >>> second = memory.taken("v", variable)
        >>> _ = variable.assign_add([1.0, 1.0])
        >>> memory.fill()
        >>> second, second is first
        (array([1., 2.], dtype=float32), True)
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._looks: deque[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = deque()

    def taken(self, key: str, variable: Any, *, is_at_hand: bool = True) -> np.ndarray[Any, Any]:
        """Returns an array that contains the variable's current value once `fill` has returned.

        Args:
            key: The variable's key. The next value for the key overwrites this one.
            variable: A `tf.Variable` on one device.
            is_at_hand: Whether it is in this process's memory. A value from elsewhere is already a
                copy, which would only be kept longer.
        """
        value = _view(variable)
        array = self._arrays.get(key)
        if array is None or (array.shape, array.dtype) != (value.shape, value.dtype):
            array = self._arrays[key] = np.empty(value.shape, value.dtype)
            is_at_hand = False  # filling new memory takes longer than a step
        if is_at_hand:
            self._looks.append((array, value))
        else:
            np.copyto(array, value)
        return array

    def fill(self) -> None:
        """Copies the referenced buffers."""
        while self._looks:
            np.copyto(*self._looks.popleft())


def _view(variable: Any) -> np.ndarray[Any, Any]:
    """Returns the value in host memory without copying it."""
    tensor = variable.read_value()
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # a dtype that Python's buffers do not support: bfloat16, float8
        copy: np.ndarray[Any, Any] = tensor.numpy()
        return copy


METRICS = "metrics/"
_PARTS = ("model/", "optimizer/", METRICS)
_NUMBERED = re.compile(r"(?<=[a-z])_\d+(?=/|$|_)")


def training_variables(model: Any) -> dict[str, Any]:
    """Returns every variable of a training by key, in the order of the program.

    Args:
        model: A built and compiled Keras model.
    """
    variables_of_parts = (model.variables, model.optimizer.variables, model.metrics_variables)
    found: dict[str, Any] = {}
    times: Counter[str] = Counter()
    seen: set[int] = set()
    for part, variables in zip(_PARTS, variables_of_parts, strict=True):
        for variable in variables:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            key = part + variable.path
            times[key] += 1
            found[key if times[key] == 1 else f"{key}#{times[key]}"] = variable
    return found


def snapshot(model: Any, *, with_metrics: bool, memory: SnapshotMemory) -> dict[str, Values]:
    """Copies the state into this process's memory. All workers must call it together.

    Args:
        model: A built and compiled model under a tfscale strategy.
        with_metrics: Whether to include the metrics, as in mid-epoch.
        memory: The memory for the copy, which overwrites the previous one.

    Returns:
        The values by key on the chief, which writes them, and nothing on other workers. They are
        complete once `memory.fill()` has returned, which may run in parallel with later steps.
    """
    strategy = model.distribute_strategy
    variables = {
        key: variable
        for key, variable in training_variables(model).items()
        if with_metrics or not key.startswith(METRICS)
    }
    own = [key for key, variable in variables.items() if is_per_replica(variable)]
    found = replica_values(strategy, [variables[key] for key in own])
    sharded = {
        key: Values(whole_value(variable))  # gathered by all workers
        for key, variable in variables.items()
        if is_sharded(variable)
    }
    if not is_chief(strategy):
        return {}
    of_replicas = dict(zip(own, found, strict=True))

    def taken(key: str, variable: Any) -> Values:
        if key in sharded:
            return sharded[key]
        if key in of_replicas:
            return Values(of_replicas[key], is_per_replica=True)
        copy = strategy.experimental_local_results(variable.value)[0]
        is_at_hand = ":CPU:" in copy.device and not is_asynchronous(strategy)
        return Values(memory.taken(key, copy, is_at_hand=is_at_hand))

    return {key: taken(key, variable) for key, variable in variables.items()}


def restore(model: Any, tensors: Mapping[str, Values]) -> None:
    """Restores a state, on any number of replicas and workers. Every worker must call it.

    Metrics that the state does not contain are not changed.

    Args:
        model: A built and compiled model under a tfscale strategy.
        tensors: What `snapshot` returned, here or in another run. Other keys are ignored.

    Raises:
        ValueError: If the state is that of another model. The model is not changed then.
    """
    strategy = model.distribute_strategy
    variables = training_variables(model)
    tensors = {k: v for k, v in tensors.items() if k.startswith(_PARTS)}
    if not any(key.startswith(METRICS) for key in tensors):
        variables = {k: v for k, v in variables.items() if not k.startswith(METRICS)}
    stored = _in_order_of(variables, tensors)
    pairs = [
        (variable, tensors[name]) for name, variable in zip(stored, variables.values(), strict=True)
    ]
    for key, (variable, values) in zip(variables, pairs, strict=True):
        _refuse_other(key, variable, values)
    for variable, values in pairs:
        if values.is_per_replica:
            assign_replica_values(strategy, variable, values.array)
        else:
            assign_value(strategy, variable, values.array)


def _refuse_other(key: str, variable: Any, values: Values) -> None:
    array = values.array
    shape = array.shape[1:] if values.is_per_replica else array.shape
    if (shape, array.dtype.name) != (tuple(variable.shape), variable.dtype):
        raise ValueError(
            f"`model` must be the one that was checkpointed. Received: {key!r} of "
            f"{variable.dtype} {tuple(variable.shape)}, in the checkpoint {array.dtype.name} "
            f"{shape}. Build the same model, or use another folder."
        )
    if values.is_per_replica and not is_per_replica(variable):
        raise ValueError(
            "`model` must be the one that was checkpointed. Received: "
            f"{key!r} with one value for all replicas, in the checkpoint {len(array)}. "
            "Build the same model, or use another folder."
        )


def _in_order_of(variables: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[str]:
    """Returns the stored key of each variable.

    Keras numbers layers per process, so a second model has `dense_1` instead of `dense`. If keys
    differ only in such numbers, they are matched in order.
    """
    if variables.keys() == tensors.keys():
        return list(variables)
    if _without_numbers(variables) == _without_numbers(tensors):
        return list(tensors)
    own, others = set(_without_numbers(variables)), set(_without_numbers(tensors))
    missing, left = sorted(own - others)[:3], sorted(others - own)[:3]
    raise ValueError(
        f"`model` must be the one that was checkpointed. Received: a model of {len(variables)} "
        f"variables, a checkpoint of {len(tensors)}. Not in the checkpoint: {missing}; not in the "
        f"model: {left}. Build and compile the same model, or use another folder."
    )


def _without_numbers(keys: Iterable[str]) -> list[str]:
    return [_NUMBERED.sub("", key) for key in keys]
