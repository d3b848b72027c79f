"""Permutation importance: what a metric loses when a column is shuffled (Breiman, 2001)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import truth, whole_number
from tfscale.explain.on_replicas import OnReplicas, check_model
from tfscale.explain.rows import Rows, rows_of
from tfscale.explain.targets import Output

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Importances:
    """How much worse a model predicts without each column.

    Attributes:
        metric: Name of the metric.
        score: The metric of the unchanged rows.
        columns: Names of the columns, or of groups of them.
        losses: How much worse the metric is after each shuffle. Shape [columns, repeats].
        num_rows: Rows that were used.
        seed: Of the shuffles.
    """

    metric: str
    score: float
    columns: tuple[str, ...]
    losses: np.ndarray
    num_rows: int
    seed: int

    @property
    def means(self) -> np.ndarray:
        """The mean over the repeats. Shape [columns]."""
        return np.asarray(self.losses.mean(axis=1))

    @property
    def deviations(self) -> np.ndarray:
        """The standard deviation over the repeats. Shape [columns]."""
        return np.asarray(self.losses.std(axis=1))

    def as_json(self) -> dict[str, Any]:
        """Returns the importances as JSON values."""
        return {
            "method": "permutation importance",
            "metric": self.metric,
            "score": self.score,
            "rows": self.num_rows,
            "seed": self.seed,
            "columns": list(self.columns),
            "means": self.means.tolist(),
            "deviations": self.deviations.tolist(),
            "losses": self.losses.tolist(),
        }

    def to_html(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Writes a page with bars.

        Args:
            path: The file, in a folder that exists. An earlier page is replaced.
            title: The heading.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the file exists and is no page.
        """
        # Imported here: the numbers alone need no templates.
        from tfscale.explain.page import page_of_importances
        from tfscale.files.output_files import write_whole
        from tfscale.report import numbers
        from tfscale.report.bars import Bar
        from tfscale.report.page import refuse_other_files

        refuse_other_files(Path(path))
        unit, repeats = numbers.name(self.metric), self.losses.shape[1]
        bars = [
            Bar(
                name,
                float(mean),
                low=float(losses.min()),
                high=float(losses.max()),
                remark=f"deviation {numbers.number(float(deviation))}",
            )
            for name, mean, deviation, losses in zip(
                self.columns, self.means, self.deviations, self.losses, strict=True
            )
        ]
        text = page_of_importances(
            title or "Permutation importance",
            f"How much worse the {unit} is when a column is shuffled, {repeats} times.",
            {"rows": f"{self.num_rows:,}", unit: numbers.number(self.score)},
            bars,
            unit,
        )
        write_whole(Path(path), text)


def permutation_importance(
    model: keras.Model,
    data: Any,
    *,
    metric: str | Metric,
    larger_is_better: bool | None = None,
    output: str | int | None = None,
    columns: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    repeats: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    say: Callable[[str], None] | None = None,
) -> Importances:
    """Shuffles one column of a table after another, and notes how much worse the model predicts.

    A column is a feature of a row of numbers, [rows, features], or a whole input of another shape.
    Columns that say the same, such as a place's two coordinates, hide each other's importance:
    shuffle them together as a group.

    Rows are computed on all replicas and workers, as by `integrated_gradients`. The shuffles are
    drawn by NumPy with `seed` alone: `default_rng(seed)`, columns in their order, repeat after
    repeat.

    Args:
        model: A built model, of any class of Keras.
        data: (x, y): x as for `model.predict`, also with strings; y the true values of the rows.
        metric: "accuracy", "mean_squared_error", "mean_absolute_error" or "crossentropy" (of
            classes and probabilities), or a function of true values and outputs.
        larger_is_better: Whether a larger value of the function is better; for a function only.
        output: Name or index of an output, for a model of several.
        columns: Names for the features of x that is one array; default "x[0]" and so on.
        groups: Names of groups, and the columns in each, which are shuffled together. Columns in
            no group are shuffled alone.
        repeats: Shuffles of each column.
        seed: Of the shuffles.
        batch_size: Rows at a time, on all replicas together; bounds the memory.
        say: Takes lines of progress.

    Raises:
        ValueError: If an argument is wrong, or the metric is not finite.

    Example:
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[2.0], [0.0]]), np.zeros(1)])
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> found = permutation_importance(model, (x, 2 * x[:, :1]), metric="mean_squared_error")
        >>> bool(found.means[0] > 1), round(float(found.means[1]), 3)
        (True, 0.0)
    """
    check_model(model)
    repeats = whole_number("repeats", repeats)
    seed = whole_number("seed", seed, at_least=0)
    batch_size = whole_number("batch_size", batch_size)
    measure, sign, name = _metric(metric, larger_is_better)
    if not isinstance(data, tuple) or len(data) != 2:
        raise ValueError(
            f"`data` must be (x, y), the inputs and the true values. Received: "
            f"{type(data).__name__}. Pass a tuple of both."
        )
    rows, true = rows_of(model, data[0], may_be_text=True), np.asarray(data[1])
    if true.ndim == 0 or len(true) != len(rows):
        raise ValueError(
            f"`data` must have a true value for each of {len(rows)} rows. Received: y of shape "
            f"{true.shape}. Pass y with as many rows as x."
        )
    shuffled = _shuffled(_columns(rows, columns), groups)
    chosen = Output(model, output)

    def step(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        flat = [batch[str(i)] for i in range(len(rows.arrays))]
        return {"output": chosen.whole(rows.packed(flat))}

    computed = OnReplicas(model, step)

    def score(arrays: Sequence[np.ndarray]) -> float:
        named = {str(i): each for i, each in enumerate(arrays)}
        found = float(measure(true, computed(named, batch_size)["output"]))
        if not math.isfinite(found):
            raise ValueError(
                f"`metric` must be finite. Received: {found} of {name}. Look at model.predict of "
                "these rows."
            )
        return found

    before = score(rows.arrays)
    random = np.random.default_rng(seed)
    losses = np.zeros((len(shuffled), repeats))
    for k, (group, members) in enumerate(shuffled.items()):
        if say is not None:
            say(f"{group}, column {k + 1} of {len(shuffled)}")
        for repeat in range(repeats):
            order = random.permutation(len(rows))
            arrays = [each.copy() for each in rows.arrays]
            for i, feature in members:
                arrays[i][feature] = rows.arrays[i][order][feature]
            losses[k, repeat] = sign * (score(arrays) - before)
    return Importances(name, before, tuple(shuffled), losses, len(rows), seed)


Member = tuple[int, Any]
"""An input, and the index of a column in it."""


def _columns(rows: Rows, names: Sequence[str]) -> dict[str, Member]:
    """Returns the columns by name."""
    found: dict[str, Member] = {}
    for i, (name, array) in enumerate(zip(rows.names, rows.arrays, strict=True)):
        if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f":
            for feature in range(array.shape[1]):
                found[f"{name}[{feature}]"] = (i, (slice(None), feature))
        else:
            found[name] = (i, slice(None))
    if not len(names):
        return found
    if len(set(names)) != len(found):
        raise ValueError(
            f"`columns` must be {len(found)} different names, one for each column. Received: "
            f"columns={list(names)}. Pass the names of {', '.join(list(found)[:8])}."
        )
    return dict(zip(map(str, names), found.values(), strict=True))


def _shuffled(
    columns: dict[str, Member], groups: Mapping[str, Sequence[str]] | None
) -> dict[str, list[Member]]:
    """Returns what is shuffled together, by name."""
    groups = {} if groups is None else groups
    found: dict[str, list[Member]] = {}
    taken: set[str] = set()
    for group, members in groups.items():
        wrong = [each for each in members if each not in columns or each in taken]
        if isinstance(members, str) or not members or wrong:
            out = ", ".join(map(repr, wrong)) if not isinstance(members, str) else repr(members)
            raise ValueError(
                f"`groups` must have lists of columns, each in one group: {', '.join(columns)}. "
                f"Received: {group!r}: {members!r}. Take out {out or repr(group)}."
            )
        taken.update(members)
        found[str(group)] = [columns[each] for each in members]
    return found | {name: [where] for name, where in columns.items() if name not in taken}


def _metric(metric: Any, larger_is_better: bool | None) -> tuple[Metric, float, str]:
    """Returns the function, the sign that makes worse positive, and its name."""
    if callable(metric):
        if larger_is_better is None:
            raise ValueError(
                "`larger_is_better` is required for a function as `metric`. Received: None. Pass "
                "True for scores such as accuracy, False for errors."
            )
        name = getattr(metric, "__name__", type(metric).__name__)
        return metric, -1.0 if truth("larger_is_better", larger_is_better) else 1.0, name
    if metric not in _METRICS:
        raise ValueError(
            f"`metric` must be one of {', '.join(_METRICS)}, or a function of true values and "
            f"outputs. Received: metric={metric!r}. Pass one of them."
        )
    if larger_is_better is not None:
        raise ValueError(
            f"`larger_is_better` must be left out for metric={metric!r}. Received: "
            f"larger_is_better={larger_is_better!r}. Leave it out."
        )
    return _METRICS[metric], -1.0 if metric == "accuracy" else 1.0, metric


def _classes(true: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns true classes, shape [rows], and probabilities of the classes, [rows, classes]."""
    outputs = outputs.reshape(len(outputs), -1).astype(np.float64)
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    true = true.reshape(len(true), -1)
    classes = true.argmax(axis=1) if true.shape[1] == outputs.shape[1] else true[:, 0]
    if (
        true.shape[1] not in (1, outputs.shape[1])
        or not np.isin(classes, np.arange(outputs.shape[1])).all()
    ):
        raise ValueError(
            f"`data` must have a class in [0, {outputs.shape[1]}) as y of each row. Received: y of "
            f"shape {true.shape}, values from {true.min()} to {true.max()}. Pass integers or "
            "one-hot rows, or choose another `metric`."
        )
    return classes.astype(int), outputs


def _accuracy(true: np.ndarray, outputs: np.ndarray) -> float:
    classes, probabilities = _classes(true, outputs)
    return float(np.mean(probabilities.argmax(axis=1) == classes))


def _crossentropy(true: np.ndarray, outputs: np.ndarray) -> float:
    classes, probabilities = _classes(true, outputs)
    chosen = probabilities[np.arange(len(classes)), classes]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-7))))


def _differences(true: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    flat = outputs.reshape(len(outputs), -1).astype(np.float64)
    if true.size != flat.size:
        raise ValueError(
            f"`data` must have y in the shape of the outputs, {outputs.shape}. Received: "
            f"{true.shape}. Pass such values, or choose another `metric`."
        )
    return np.asarray(flat - true.reshape(flat.shape).astype(np.float64))


_METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "mean_squared_error": lambda true, outputs: float(np.mean(_differences(true, outputs) ** 2)),
    "mean_absolute_error": lambda true, outputs: float(np.mean(abs(_differences(true, outputs)))),
    "crossentropy": _crossentropy,
}


__all__ = ["Importances", "permutation_importance"]
