"""Pruning in NumPy, of a network with one hidden layer, and the same network in Keras."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

Array = np.ndarray[Any, Any]

X: Array = np.random.default_rng(1).normal(size=(22, 8))
Y: Array = np.random.default_rng(2).normal(size=(22, 4))
BATCH, EPOCHS, RATE = 7, 4, 0.125
"""In batches of seven two replicas have 3 and 4 rows; the last batch has one, so one has none."""
HIDDEN = 12


def first_weights() -> list[Array]:
    draw = np.random.default_rng(3)
    shapes = ((8, HIDDEN), (HIDDEN,), (HIDDEN, 4), (4,))
    return [draw.normal(size=shape) / 2 for shape in shapes]


def sgd(**arguments: Any) -> Any:
    """An optimizer to be made in a strategy's scope."""
    return lambda: keras.optimizers.SGD(RATE, **arguments)


def network(strategy: Any, optimizer: Any, **compiling: Any) -> Any:
    """The network in Keras; `optimizer` makes one."""
    with strategy.scope():
        layers = [keras.layers.Dense(HIDDEN, "tanh", name="hidden"), keras.layers.Dense(4)]
        model = keras.Sequential([keras.Input((8,)), *layers], name="net")
        model.compile(optimizer(), "mse", **compiling)
    model.set_weights(first_weights())
    return model


def fitted(model: Any, *callbacks: Any, epochs: int = EPOCHS, **arguments: Any) -> list[Array]:
    """Trains the network in Keras and returns its weights."""
    given = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0, **arguments}
    model.fit(X, Y, callbacks=[*callbacks], **given)
    weights: list[Array] = model.get_weights()
    return weights


def gradients(weights: list[Array], x: Array, y: Array) -> list[Array]:
    """Of the mean over rows and outputs of the squared error."""
    first, first_bias, second, second_bias = weights
    if len(x) == 0:
        return [np.zeros_like(w) for w in weights]
    hidden = np.tanh(x @ first + first_bias)
    error = 2 * (hidden @ second + second_bias - y) / y.size
    back = (error @ second.T) * (1 - hidden**2)
    return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]


@dataclass
class ByHand:
    """Stochastic gradient descent with pruning by a cubic schedule.

    Attributes:
        final, begin, end, every: Of the schedule.
        momentum, clip, decay, average: Of the optimizer; `clip` is the norm of all gradients.
        accumulated: Gradients of an update.
        is_global: Whether the weights of both kernels are compared.
        moves: Whether the score is the movement.
        replicas: That step locally, for rounds of `round_steps`.
        weights, masks, averages, moved: The result; masks of both kernels.
        steps: The updates so far.
    """

    final: float = 0.75
    begin: int = 2
    end: int = 8
    every: int = 2
    momentum: float = 0.0
    clip: float | None = None
    decay: float = 0.0
    average: float | None = None
    accumulated: int = 1
    is_global: bool = False
    moves: bool = False
    replicas: int = 1
    round_steps: int = 1
    weights: list[Array] = field(default_factory=first_weights)
    masks: dict[int, Array] = field(default_factory=dict)
    averages: list[Array] = field(default_factory=list)
    moved: list[Array] = field(default_factory=list)
    steps: int = 0

    def train(self, epochs: int = EPOCHS) -> ByHand:
        self.masks = {0: np.ones((8, HIDDEN), bool), 2: np.ones((HIDDEN, 4), bool)}
        own = [_Replica([w.copy() for w in self.weights]) for _ in range(self.replicas)]
        micro = seen_stage = 0
        for _ in range(epochs):
            starts = range(0, len(X), BATCH)
            for i, start in enumerate(starts, 1):
                x, y = X[start : start + BATCH], Y[start : start + BATCH]
                micro += 1
                is_update = micro % self.accumulated == 0
                for r, each in enumerate(own):
                    rows = slice(len(x) * r // self.replicas, len(x) * (r + 1) // self.replicas)
                    self._step(each, x[rows], y[rows], is_update)
                self.steps += is_update
                if i % self.round_steps == 0 or i == len(starts):
                    self._join(own)
                    stage = self._stage()
                    if stage > seen_stage:
                        self._prune(own[0].weights, own[0].moved)
                    seen_stage = stage
                for each in own:
                    self._mask(each)
        self.weights, self.averages, self.moved = own[0].weights, own[0].averages, own[0].moved
        return self

    def _step(self, own: _Replica, x: Array, y: Array, is_update: bool) -> None:
        found = gradients(own.weights, x, y)
        for k, mask in self.masks.items():
            found[k] = found[k] * mask
            own.moved[k] = own.moved[k] - own.weights[k] * found[k]
        own.seen += len(x)
        own.sums = [s + g for s, g in zip(own.sums, found, strict=True)]
        if is_update:
            means = [s / self.accumulated for s in own.sums]
            own.sums = [np.zeros_like(s) for s in own.sums]
            norm = np.sqrt(sum((g**2).sum() for g in means))
            scale = min(1.0, self.clip / norm) if self.clip else 1.0
            for k, gradient in enumerate(means):
                own.weights[k] = own.weights[k] * (1 - self.decay * RATE)
                own.speeds[k] = self.momentum * own.speeds[k] - RATE * scale * gradient
                own.weights[k] = own.weights[k] + own.speeds[k]
        if self.average is not None:
            part = self.average if self.steps else 0.0
            own.averages = [
                part * a + (1 - part) * w for a, w in zip(own.averages, own.weights, strict=True)
            ]

    def _join(self, own: list[_Replica]) -> None:
        counts = [each.seen for each in own]
        for name in ("weights", "speeds", "moved"):
            values = [getattr(each, name) for each in own]
            means = [
                np.average(parts, axis=0, weights=counts) for parts in zip(*values, strict=True)
            ]
            for each in own:
                setattr(each, name, [mean.copy() for mean in means])
        for each in own:
            each.seen = 0

    def _stage(self) -> int:
        return max(0, min(self.steps, self.end) - self.begin) // self.every

    def _prune(self, weights: list[Array], moved: list[Array]) -> None:
        passed = self._stage() * self.every / (self.end - self.begin)
        sparsity = self.final * (1 - (1 - passed) ** 3)
        scores = {
            k: np.where(mask, moved[k] if self.moves else np.abs(weights[k]), -np.inf)
            for k, mask in self.masks.items()
        }
        if self.is_global:
            kept = _highest(np.concatenate([s.ravel() for s in scores.values()]), sparsity)
            ends = np.cumsum([s.size for s in scores.values()])[:-1]
            parts = np.split(kept, ends)
        else:
            parts = [_highest(s.ravel(), sparsity) for s in scores.values()]
        for k, part in zip(self.masks, parts, strict=True):
            self.masks[k] = part.reshape(self.masks[k].shape)

    def _mask(self, own: _Replica) -> None:
        for k, mask in self.masks.items():
            own.weights[k] = own.weights[k] * mask
            own.averages[k] = own.averages[k] * mask


def _highest(scores: Array, sparsity: float) -> Array:
    kept = np.ones(scores.size, bool)
    kept[np.argsort(scores, kind="stable")[: int(np.floor(scores.size * sparsity + 1e-6))]] = False
    return kept


@dataclass
class _Replica:
    weights: list[Array]
    seen: int = 0

    def __post_init__(self) -> None:
        self.speeds, self.sums, self.moved, self.averages = (
            [np.zeros_like(w) for w in self.weights] for _ in range(4)
        )
