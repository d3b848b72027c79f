"""The state of an optimizer of divided matrices, as that of whole ones."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers, divided_weights, optimized_variables
from tfscale.preparation.model_copy import value_of


def joined_state(model: Any, optimizer: Any) -> list[np.ndarray[Any, Any]]:
    """Returns the values of an optimizer's variables, as if the matrices were whole.

    Args:
        model: With divided layers.
        optimizer: One that is built for its variables.
    """
    return [value for _, value in _joined(model, optimizer)]


def save_joined(model: Any) -> None:
    """Lets the model's optimizer write and read files like one of whole matrices.

    Args:
        model: With divided layers, compiled.
    """
    optimizer = model.optimizer
    if optimizer is None or "save_own_variables" in vars(optimizer):
        return
    save, load = optimizer.save_own_variables, optimizer.load_own_variables

    @functools.wraps(save)
    def save_whole(store: Any) -> None:
        for i, value in enumerate(joined_state(model, optimizer)):
            store[str(i)] = value

    @functools.wraps(load)
    def load_whole(store: Any) -> None:
        groups = [group for group, _ in _joined(model, optimizer)]
        if len(groups) != len(store.keys()):
            load(store)  # with Keras's own warning
            return
        for i, group in enumerate(groups):
            for rank, variable in enumerate(group.variables):
                whole = np.asarray(store[str(i)])
                variable.assign(whole if group.cut is None else group.cut.take(whole, rank))

    vars(optimizer)["save_own_variables"] = save_whole
    vars(optimizer)["load_own_variables"] = load_whole


class _Group:
    """Variables of an optimizer that one plain variable stands for.

    Args:
        variables: One, or the slots of all parts of a matrix, by rank.
        cut: How the matrix is divided, or None.
    """

    def __init__(self, variables: list[Any], cut: Any = None) -> None:
        self.variables, self.cut = variables, cut

    def value(self) -> np.ndarray[Any, Any]:
        values = [value_of(variable) for variable in self.variables]
        return values[0] if self.cut is None else np.asarray(self.cut.joined(values))


def _joined(model: Any, optimizer: Any) -> Iterator[tuple[_Group, np.ndarray[Any, Any]]]:
    groups = _groups(model, optimizer)
    for variable in optimizer.variables:
        group = groups.get(id(variable), _Group([variable]))
        if variable is group.variables[0]:
            yield group, group.value()


def _groups(model: Any, optimizer: Any) -> dict[int, _Group]:
    """Returns the group of each slot of a part, by the slot's id."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    trained = optimized_variables(optimizer)
    places = {id(variable): place for place, variable in enumerate(trained)}
    found: dict[int, _Group] = {}
    for slots in vars(optimizer).values():
        if not isinstance(slots, (list, tuple)) or len(slots) != len(trained):
            continue
        for parts, cut in divided_weights(all_layers(model)):
            own = [slots[places[id(part)]] for part in parts if id(part) in places]
            if len(own) < len(parts) or own[0] is parts[0] or own[0] is None:
                continue
            group = _Group(own, cut)
            found |= {id(slot): group for slot in own}
    return found
