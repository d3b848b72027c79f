"""Examples of a configuration: made from its seed with NumPy, the same in every process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.parity.configuration import Configuration
from tests.parity.kinds import kind_of

FEATURES, IMAGE, TIME, VOCABULARY, OUTPUTS = 6, 8, 5, 11, 3
SPARSE_FEATURES = 20
OVERFLOWING = 6.0e4
"""A target so large that the scaled gradient is not finite in float16 (at most 65504)."""

INFINITE_WHEN_SQUARED = 1e200
"""A target whose square overflows float64."""

_BINARY = ("binary", "focal", "hinge", "dice")


@dataclass(frozen=True)
class Examples:
    """Rows of inputs, targets and weights.

    Attributes:
        x: Array [rows, ...].
        y: Array [rows, ...], a dict of them, or None.
        weights: Array [rows], a dict of them, or None.
    """

    x: np.ndarray
    y: Any
    weights: Any

    def take(self, rows: np.ndarray) -> Examples:
        """Returns the examples at `rows`, in that order."""
        return Examples(self.x[rows], _take(self.y, rows), _take(self.weights, rows))

    def parts(self) -> tuple[Any, ...]:
        """Returns `(x,)`, `(x, y)` or `(x, y, weights)`."""
        if self.y is None:
            return (self.x,)
        return (self.x, self.y) if self.weights is None else (self.x, self.y, self.weights)


def _take(part: Any, rows: np.ndarray) -> Any:
    if isinstance(part, dict):
        return {name: array[rows] for name, array in part.items()}
    return None if part is None else part[rows]


def make_examples(configuration: Configuration, rows: int, part: str) -> Examples:
    """Draws examples.

    Args:
        configuration: Decides their kind, and how values are represented.
        rows: How many.
        part: "train", "validation" or "test": they use separate random streams.
    """
    part_index = ("train", "validation", "test").index(part)
    draw = np.random.default_rng([configuration.seed, part_index])
    x = _inputs(configuration, rows, draw)
    y: Any = _targets(configuration, rows, draw)
    weights: Any = None
    if configuration.weights == "sample":
        # Keras multiplies weights and mask: a masked loss needs one weight per token.
        shape = (rows, TIME) if configuration.model == "lstm" else (rows,)
        weights = draw.uniform(0.0, 2.0, size=shape)
        weights[::7] = 0.0  # a row may have weight 0
        weights = weights.astype(_float(configuration))
    if configuration.model == "two_outputs":
        y = {"value": y, "label": draw.integers(0, OUTPUTS, size=rows)}
        weights = None if weights is None else {"value": weights, "label": weights[::-1].copy()}
    if configuration.overflow and part == "train":
        last = np.arange(configuration.batch - 1, rows, 3 * configuration.batch)
        y[last] = OVERFLOWING
    if configuration.model == "skipped_steps" and part == "train":
        y[configuration.batch // 2 :: 3 * configuration.batch] = INFINITE_WHEN_SQUARED
    if not kind_of(configuration.model).takes_targets:
        y = None
    return Examples(x, y, weights)


def _float(configuration: Configuration) -> type:
    return np.float64 if configuration.precision == "float64" else np.float32


def _inputs(configuration: Configuration, rows: int, draw: np.random.Generator) -> np.ndarray:
    inputs = kind_of(configuration.model).inputs
    if inputs in ("tokens", "words"):
        tokens = draw.integers(1, VOCABULARY, size=(rows, TIME))
        # Attention over a row without tokens is not defined; an LSTM skips it.
        shortest = 0 if configuration.model == "lstm" else 1
        lengths = draw.integers(shortest, TIME + 1, size=rows)
        tokens[np.arange(TIME) >= lengths[:, None]] = 0
        return tokens.astype(np.str_).astype(object) if inputs == "words" else tokens
    if inputs == "sparse":
        values = draw.normal(size=(rows, SPARSE_FEATURES))
        return np.where(draw.random(values.shape) < 0.15, values, 0.0)
    shape = (IMAGE, IMAGE, 1) if inputs == "image" else (FEATURES,)
    return draw.normal(size=(rows, *shape)).astype(_float(configuration))


def _targets(configuration: Configuration, rows: int, draw: np.random.Generator) -> np.ndarray:
    lead = (rows, TIME) if configuration.model == "lstm" else (rows,)
    labels = draw.integers(0, OUTPUTS, size=lead)
    if configuration.loss == "sparse":
        return labels
    if configuration.loss == "categorical":
        return np.eye(OUTPUTS, dtype=_float(configuration))[labels]
    values = draw.normal(size=(*lead, OUTPUTS))
    if configuration.loss in _BINARY:
        values = (values > 0).astype(np.float64)
    return values.astype(_float(configuration))


def permuted_in_batches(
    rows: int, batch: int, num_parts: int, draw: np.random.Generator
) -> np.ndarray:
    """Returns an order of rows that keeps each in its part of its global batch.

    Args:
        rows: Rows of an epoch.
        batch: Rows of a global batch.
        num_parts: Replica batches of a global batch; 1 lets rows move within all of it.
        draw: Random generator of the order.
    """
    order = []
    for first in range(0, rows, batch):
        size = min(batch, rows - first)
        for part in range(num_parts):
            start, stop = part * size // num_parts, (part + 1) * size // num_parts
            order.append(first + start + draw.permutation(stop - start))
    return np.concatenate(order)
