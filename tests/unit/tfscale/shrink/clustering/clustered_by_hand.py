"""Clustered training in NumPy, of the network with one hidden layer of `pruned_by_hand`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tests.unit.tfscale.shrink.pruning.pruned_by_hand import (
    BATCH,
    EPOCHS,
    RATE,
    Array,
    X,
    Y,
    first_weights,
    gradients,
    network,
)
from tfscale.shrink.clustering.codebooks import clustered

VALUES = 5
SLOW = RATE / 8


def slow(**arguments: Any) -> Any:
    """An optimizer to be made in a strategy's scope."""
    return lambda: keras.optimizers.SGD(SLOW, **arguments)


def sparse_weights() -> list[Array]:
    weights = first_weights()
    for kernel in weights[::2]:
        kernel[np.abs(kernel) < 0.2] = 0
    return weights


def sparse_network(strategy: Any, optimizer: Any, **compiling: Any) -> Any:
    model = network(strategy, optimizer, **compiling)
    model.set_weights(sparse_weights())
    return model


@dataclass
class ByHand:
    """Gradient descent whose parameters are the values of each kernel and the biases.

    Attributes:
        momentum, average: Of the optimizer; `average` is the momentum of the moving average.
        replicas: That step locally, for rounds of `round_steps`.
        weights, averages: The result.
    """

    momentum: float = 0.0
    average: float | None = None
    replicas: int = 1
    round_steps: int = 1

    def __post_init__(self) -> None:
        parameters = sparse_weights()
        self._places: dict[int, Array] = {}
        for i in (0, 2):
            parameters[i], self._places[i] = clustered(parameters[i], VALUES)
        own = [_Replica([p.copy() for p in parameters]) for _ in range(self.replicas)]
        steps = 0
        for _ in range(EPOCHS):
            starts = range(0, len(X), BATCH)
            for i, start in enumerate(starts, 1):
                x, y = X[start : start + BATCH], Y[start : start + BATCH]
                steps += 1
                for r, each in enumerate(own):
                    rows = slice(len(x) * r // self.replicas, len(x) * (r + 1) // self.replicas)
                    self._step(each, x[rows], y[rows], is_first=steps == 1)
                if i % self.round_steps == 0 or i == len(starts):
                    _join(own)
        self.weights = self._whole(own[0].parameters)
        self.averages = self._whole(own[0].averages)

    def _step(self, own: _Replica, x: Array, y: Array, *, is_first: bool) -> None:
        own.seen += len(x)
        found = gradients(self._whole(own.parameters), x, y)
        for i, places in self._places.items():
            sums = [np.sum(found[i][places == k]) for k in range(len(own.parameters[i]))]
            found[i] = np.array([0.0, *sums[1:]])  # zeros stay zero
        part = 0.0 if is_first or self.average is None else self.average
        for i, gradient in enumerate(found):
            own.speeds[i] = self.momentum * own.speeds[i] - SLOW * gradient
            own.parameters[i] = own.parameters[i] + own.speeds[i]
            own.averages[i] = part * own.averages[i] + (1 - part) * own.parameters[i]

    def _whole(self, parameters: list[Array]) -> list[Array]:
        return [p[self._places[i]] if i in self._places else p for i, p in enumerate(parameters)]


@dataclass
class _Replica:
    parameters: list[Array]
    seen: int = 0

    def __post_init__(self) -> None:
        self.speeds, self.averages = ([np.zeros_like(p) for p in self.parameters] for _ in range(2))


def _join(own: list[_Replica]) -> None:
    counts = [each.seen for each in own]
    for name in ("parameters", "speeds", "averages"):
        parts = zip(*(getattr(each, name) for each in own), strict=True)
        means = [np.average(part, axis=0, weights=counts) for part in parts]
        for each in own:
            setattr(each, name, [mean.copy() for mean in means])
    for each in own:
        each.seen = 0
