"""Five small problems, and how well the suggested learning rate trains them.

    python -m tests.unit.tfscale.find.problems [NAME...]

Each is trained at 20 rates with 3 seeds for 200 steps, and at the rate that is suggested to each
seed. Prints the mean loss on rows that are held out: the lowest of the 20 rates, and of the
suggestions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import tfscale
from recipes.digits.split import FOLDER

GRID = np.geomspace(1e-4, 10, 20)
SEEDS = 3
STEPS = 200
_DIGITS = 1300

Array = np.ndarray[Any, Any]
layers = keras.layers


@dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        build: Returns a new compiled model.
        x: Inputs.
        y: Targets.
        train: Rows to train on; the others are held out.
        batch_size: Rows of a step.
    """

    build: Callable[[], Any]
    x: Array
    y: Array
    train: int
    batch_size: int


@dataclass(frozen=True)
class Quality:
    """What was found.

    Attributes:
        best: The best rate of the grid.
        best_loss: Its mean loss over seeds.
        suggestions: To each seed.
        loss: Mean loss of training at them.
    """

    best: float
    best_loss: float
    suggestions: list[float]
    loss: float


def least_squares() -> Problem:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1200, 16)) * np.geomspace(1, 0.1, 16)
    y = x @ draw.normal(size=16) + 0.3 * draw.normal(size=1200)

    def build() -> Any:
        model = keras.Sequential([keras.Input((16,)), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(), "mse")
        return model

    return Problem(build, x, y[:, None], 1000, 50)


def dense_digits() -> Problem:
    def build() -> Any:
        model = keras.Sequential(
            [keras.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
        )
        model.compile(keras.optimizers.SGD(momentum=0.9), _crossentropy())
        return model

    x, y = _digits()
    return Problem(build, x, y, _DIGITS, 32)


def convolutional_digits() -> Problem:
    def build() -> Any:
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(8, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10),
            ]
        )
        model.compile(keras.optimizers.Adam(), _crossentropy())
        return model

    x, y = _digits()
    return Problem(build, x.reshape(-1, 8, 8, 1), y, _DIGITS, 32)


def embedded_words() -> Problem:
    draw = np.random.default_rng(0)
    topics = 1.5 * draw.normal(size=(200, 4))
    x = draw.integers(0, 200, (3000, 16))
    chances = np.exp(3 * topics[x].mean(axis=1))
    chances /= chances.sum(axis=1, keepdims=True)
    y = np.array([draw.choice(4, p=row) for row in chances])

    def build() -> Any:
        model = keras.Sequential(
            [
                keras.Input((16,), dtype="int32"),
                layers.Embedding(200, 8),
                layers.GlobalAveragePooling1D(),
                layers.Dense(4),
            ]
        )
        model.compile(keras.optimizers.Adam(), _crossentropy())
        return model

    return Problem(build, x, y, 2500, 50)


def transformer() -> Problem:
    draw, symbols, length = np.random.default_rng(0), 16, 12
    chances = draw.dirichlet(np.full(symbols, 0.2), size=symbols)
    text = np.zeros((2000, length + 1), np.int32)
    text[:, 0] = draw.integers(0, symbols, 2000)
    for place in range(length):
        text[:, place + 1] = [draw.choice(symbols, p=chances[last]) for last in text[:, place]]

    def build() -> Any:
        inputs = keras.Input((length,), dtype="int32")
        hidden = layers.Embedding(symbols, 16)(inputs)
        normed = layers.LayerNormalization()(hidden)
        hidden = hidden + layers.MultiHeadAttention(2, 8)(normed, normed, use_causal_mask=True)
        normed = layers.LayerNormalization()(hidden)
        hidden = hidden + layers.Dense(16)(layers.Dense(32, activation="gelu")(normed))
        outputs = layers.Dense(symbols)(layers.LayerNormalization()(hidden))
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.AdamW(), _crossentropy())
        return model

    return Problem(build, text[:, :-1], text[:, 1:], 1700, 50)


PROBLEMS = (least_squares, dense_digits, convolutional_digits, embedded_words, transformer)


def quality(problem: Problem, *, grid: Array = GRID) -> Quality:
    """Trains at every rate of a grid, and at the rate that is suggested to each seed."""
    losses = np.empty((SEEDS, len(grid)))
    suggestions, found = [], []
    for seed in range(SEEDS):
        keras.utils.set_random_seed(seed)
        model = problem.build()
        rows = problem.x[: problem.train], problem.y[: problem.train]
        rate = tfscale.find_learning_rate(model, rows, batch_size=problem.batch_size).suggestion
        suggestions.append(rate)
        model.steps_per_execution = 50
        start = [(v, v.numpy()) for v in (*model.variables, *model.optimizer.variables)]
        for place, each in enumerate(grid):
            losses[seed, place] = _loss(problem, model, start, each, seed)
        found.append(_loss(problem, model, start, rate, seed))
    means = losses.mean(axis=0)
    best = int(means.argmin())
    return Quality(float(grid[best]), float(means[best]), suggestions, float(np.mean(found)))


def _loss(problem: Problem, model: Any, start: Any, rate: float, seed: int) -> float:
    for variable, value in start:
        variable.assign(value)
    model.optimizer.learning_rate = rate
    draw = np.random.default_rng(seed)
    passes = -(-STEPS * problem.batch_size // problem.train)
    order = np.concatenate([draw.permutation(problem.train) for _ in range(passes)])
    order = order[: STEPS * problem.batch_size]
    model.fit(
        problem.x[order],
        problem.y[order],
        batch_size=problem.batch_size,
        shuffle=False,
        verbose=0,
    )
    loss = model.evaluate(problem.x[problem.train :], problem.y[problem.train :], verbose=0)
    return float(loss) if np.isfinite(loss) else 1e9


def _crossentropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _digits() -> tuple[Array, Array]:
    rows = np.loadtxt(FOLDER / "digits.csv.gz", delimiter=",")
    rows = np.random.default_rng(0).permutation(rows)
    return rows[:, :64].astype("float32") / 16, rows[:, 64].astype("int32")


if __name__ == "__main__":
    for make in PROBLEMS:
        if len(sys.argv) == 1 or make.__name__ in sys.argv[1:]:
            result = quality(make())
            rates = ", ".join(f"{rate:.3g}" for rate in result.suggestions)
            print(
                f"{make.__name__}: best rate {result.best:.3g}, loss {result.best_loss:.4g}; "
                f"suggested {rates}, loss {result.loss:.4g}: "
                f"{result.loss / result.best_loss - 1:+.1%}",
                flush=True,
            )
