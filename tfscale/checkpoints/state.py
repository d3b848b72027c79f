"""What the state of a training is: the variables that a step reads and writes.

The model's variables (weights, moving statistics, seeds of random layers), the optimizer's (counts,
slots, averages, accumulated gradients, the loss scale) and the metrics'. Each has a key: the part
it belongs to and its Keras path.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from strategies import is_chief
from strategies.extension import (
    assign_replica_values,
    assign_value,
    is_asynchronous,
    is_per_replica,
    replica_values,
)
from tfscale.checkpoints.snapshot_memory import SnapshotMemory
from tfscale.checkpoints.tensors import Values

METRICS = "metrics/"
_PARTS = ("model/", "optimizer/", METRICS)
_NUMBERED = re.compile(r"(?<=[a-z])_\d+(?=/|$|_)")


def training_variables(model: Any) -> dict[str, Any]:
    """Returns every variable of a training by its key, in an order that the program decides.

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
    """Takes the state into this process's memory; all workers call it together.

    Args:
        model: A built and compiled model under one of our strategies.
        with_metrics: Whether the metrics' state counts: in mid-epoch it does.
        memory: Where the copy goes, over the one before.

    Returns:
        The values by their keys on the chief, who writes them; nothing on other workers. They are
        there when `memory.fill()` has returned, which may be called beside the steps that follow.
    """
    strategy = model.distribute_strategy
    variables = {
        key: variable
        for key, variable in training_variables(model).items()
        if with_metrics or not key.startswith(METRICS)
    }
    own = [key for key, variable in variables.items() if is_per_replica(variable)]
    found = replica_values(strategy, [variables[key] for key in own])
    if not is_chief(strategy):
        return {}
    of_replicas = dict(zip(own, found, strict=True))

    def taken(key: str, variable: Any) -> Values:
        if key in of_replicas:
            return Values(of_replicas[key], is_per_replica=True)
        copy = strategy.experimental_local_results(variable.value)[0]
        is_at_hand = ":CPU:" in copy.device and not is_asynchronous(strategy)
        return Values(memory.taken(key, copy, is_at_hand=is_at_hand))

    return {key: taken(key, variable) for key, variable in variables.items()}


def restore(model: Any, tensors: Mapping[str, Values]) -> None:
    """Puts a state back, on any number of replicas and workers; every worker calls it.

    Metrics that the state does not hold stay as they are.

    Args:
        model: A built and compiled model under one of our strategies.
        tensors: What `snapshot` returned, here or elsewhere; other keys are passed over.

    Raises:
        ValueError: If the state is not that of such a model, which stays as it was.
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
            f"{shape}. Build the model as it was, or name another folder."
        )
    if values.is_per_replica and not is_per_replica(variable):
        raise ValueError(
            "`model` must be the one that was checkpointed. Received: "
            f"{key!r}, which is one value on all replicas, in the checkpoint {len(array)}. "
            "Build the model as it was, or name another folder."
        )


def _in_order_of(variables: Mapping[str, Any], tensors: Mapping[str, Any]) -> list[str]:
    """Returns the stored key of each variable.

    Keras numbers layers through a process, so a model built second is `dense_1` where it was
    `dense`. Where keys differ in such numbers alone, they are taken in their order.
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
        f"model: {left}. Build and compile the model as it was, or name another folder."
    )


def _without_numbers(keys: Iterable[str]) -> list[str]:
    return [_NUMBERED.sub("", key) for key in keys]
