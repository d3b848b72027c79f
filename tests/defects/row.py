"""One row of the table: a reproducer and the right result.

@row("S4", "clipnorm")
def clipped(run: Run) -> Findings:
    with run.strategy.scope():
        ...
    model.fit(...)
    return trained(model)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Findings = dict[str, Any]
"""The results of a reproducer, by name: numbers and arrays."""

DRAW = np.random.default_rng(0)
X, Y = DRAW.normal(size=[24, 3]), DRAW.normal(size=[24, 2])
"""24 examples; three batches of eight."""

ONE_DEVICE, STOCK, OURS = "one device", "stock", "tfscale"
MIRRORED, WORKERS, DEFAULT, PARAMETER_SERVERS = "mirrored", "workers", "default", "ps"
WEIGHTS = "weights"


@dataclass(frozen=True)
class Run:
    """What a reproducer gets.

    Attributes:
        strategy: The strategy to train under; the default one on one device.
        folder: An empty folder, the same for all workers.
        worker: Index of this worker.
        another: Builds another strategy like `strategy`.
    """

    strategy: tf.distribute.Strategy
    folder: Path
    worker: int
    another: Callable[[], tf.distribute.Strategy]


@dataclass(frozen=True)
class Row:
    """One case of a defect.

    Attributes:
        name: The defect: S silent, H hang, C crash, and its number.
        case: What the user wrote.
        on: Strategy that shows it: two mirrored replicas, two workers, parameter servers, or none,
            in stock Keras.
        reproduce: The program.
        right: The right result, known by hand; None for that of stock Keras on one device.
        refused: Text of our error if the case is refused; it names the cure.
        ends_with: Text of our error if an error is the right result.
    """

    name: str
    case: str
    on: str
    reproduce: Callable[[Run], Findings]
    right: Findings | None = field(hash=False, default=None)
    refused: str = ""
    ends_with: str = ""

    @property
    def key(self) -> str:
        """The name of the row for child processes."""
        return f"{self.name}:{self.on}:{self.reproduce.__name__}"

    @property
    def is_patched(self) -> bool:
        """Whether stock is run with C1 patched, which hides every other defect of workers."""
        return self.on == WORKERS and self.name != "C1"


ROWS: dict[str, Row] = {}


def row(
    name: str,
    case: str,
    on: str = MIRRORED,
    *,
    right: Findings | None = None,
    refused: str = "",
    ends_with: str = "",
) -> Callable[[Callable[[Run], Findings]], Callable[[Run], Findings]]:
    """Makes the decorated reproducer a row of the table; see `Row`."""

    def register(reproduce: Callable[[Run], Findings]) -> Callable[[Run], Findings]:
        made = Row(name, case, on, reproduce, right, refused, ends_with)
        ROWS[made.key] = made
        return reproduce

    return register


def trained(*models: keras.Model) -> Findings:
    """Returns all weights of models, concatenated, and the steps of their optimizers."""
    weights = [np.ravel(weight) for model in models for weight in model.get_weights()]
    steps = [int(model.optimizer.iterations.numpy()) for model in models]
    return {WEIGHTS: np.concatenate(weights), "steps": np.array(steps)}


def visited(model: keras.Model, total: int) -> Findings:
    """Returns how many examples changed their weight of a `visits_model`."""
    return {f"examples trained, of {total}": np.count_nonzero(model.get_weights()[0])}


def visits_model(run: Run, total: int) -> keras.Model:
    """Weight i changes only when example i is trained on."""
    with run.strategy.scope():
        embedding = keras.layers.Embedding(total, 1, embeddings_initializer="zeros")
        model = keras.Sequential([embedding, keras.layers.Flatten()])
        model.compile(keras.optimizers.SGD(1.0), lambda y, predicted: predicted)
    return model
