"""Probes: eager steps of stock Keras on a batch and on parts of it.

Each step starts from the same weights: on the whole batch, on its first rows, on the others, and on
the batch with each row twice. The relation of the four results shows how replicas, which each see a
part of the batch, combine them.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.verify.batches import Batch, as_dataset, num_rows, with_rows
from tfscale.verify.layers import layers_of, metrics_of
from tfscale.verify.trial import Trial, new_model, optimizers_by_name, plain


class Behaviour(enum.Enum):
    """How the result of a batch depends on its rows."""

    MEAN = "a mean over rows"
    SUM = "a sum over rows"
    RATIO = "a ratio whose denominator is counted in the batch"
    WHOLE = "a function of means over the whole batch"
    PAIRS = "a function of how rows of the batch relate to each other"


@dataclass(frozen=True)
class Parts:
    """One result of a batch and of its parts, as arrays of equal shape.

    Attributes:
        whole: The result of the batch.
        head: The result of its first rows.
        tail: The result of the other rows.
        twice: The result of the batch with each row twice.
        share: Fraction of the rows in the head. In (0, 1).
    """

    whole: np.ndarray
    head: np.ndarray
    tail: np.ndarray
    twice: np.ndarray
    share: float


def behaviour(parts: Parts, tolerance: float) -> Behaviour:
    """Returns how the result of a batch depends on its rows.

    A mean plus a penalty on the weights counts as a mean, a sum plus such a penalty as a sum. A
    ratio is recognised only in a result of at least three entries, because a scalar always lies on
    the line through two others.

    Args:
        parts: The results.
        tolerance: Relative difference that counts as rounding. Positive.

    Example:
        >>> rows = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 4.0]])
        >>> sums = Parts(rows.sum(0), rows[:1].sum(0), rows[1:].sum(0), 2 * rows.sum(0), 1 / 3)
        >>> behaviour(sums, 1e-9)
        <Behaviour.SUM: 'a sum over rows'>
    """
    whole, head, tail, twice = (
        np.asarray(array, np.float64).ravel()
        for array in (parts.whole, parts.head, parts.tail, parts.twice)
    )
    scale = max(np.linalg.norm(array) for array in (whole, head, tail, twice))

    def is_equal(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.linalg.norm(a - b) <= tolerance * scale)

    grows = not is_equal(twice, whole)
    if is_equal(whole, parts.share * head + (1 - parts.share) * tail) and not grows:
        return Behaviour.MEAN
    # A sum S plus a constant c: whole = S + c, head + tail = S + 2c, twice = 2S + c.
    if grows and is_equal(twice, 3 * whole - head - tail):
        return Behaviour.SUM
    if whole.size >= 3 and not grows and is_equal(whole, _between(whole, head, tail)):
        return Behaviour.RATIO
    return Behaviour.PAIRS if grows else Behaviour.WHOLE


def _between(whole: np.ndarray, head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Returns the point on the line through head and tail that is nearest to whole."""
    apart = head - tail
    square = float(apart @ apart)
    at = float((whole - tail) @ apart) / square if square else 0.0
    return np.asarray(tail + at * apart)


@dataclass(frozen=True)
class Call:
    """A call of a layer: its name, inputs and outputs."""

    layer: str
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@dataclass
class Step:
    """The results of one step.

    Attributes:
        gradients: For each call of `tape.gradient` with respect to variables, one vector.
        targets: For each of these calls, the sum of its target.
        state: What the step added to each non-trainable variable of a layer.
        metrics: What the step added to each variable of a metric.
        calls: The calls of layers, inner layers first.
        model: The model of the step.
    """

    gradients: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    model: Any = None


@dataclass(frozen=True)
class Probes:
    """The same step on a batch and on its parts; see `Parts`.

    Attributes:
        whole: The step on the batch.
        head: The step on its first rows.
        tail: The step on the other rows.
        twice: The step on the batch with each row twice.
        reseeded: The step on the batch with another seed.
        num_rows: Rows of the batch.
        num_head_rows: Rows of the head.
    """

    whole: Step
    head: Step
    tail: Step
    twice: Step
    reseeded: Step
    num_rows: int
    num_head_rows: int

    def of(self, result: Callable[[Step], np.ndarray]) -> Parts:
        """Returns one result of the four steps.

        Args:
            result: A function that returns the result of a step.
        """
        whole, head, tail, twice = map(result, (self.whole, self.head, self.tail, self.twice))
        return Parts(whole, head, tail, twice, self.num_head_rows / self.num_rows)


def probe(trial: Trial, initial: Sequence[np.ndarray], batches: Sequence[Batch]) -> Probes:
    """Runs the steps.

    Args:
        trial: How to train, without a strategy.
        initial: Values of `model.weights` to start from.
        batches: The batches. The first is used, and has at least two rows.
    """
    batch, rows = batches[0], num_rows(batches[0])
    head = max(1, rows // 3)  # not a half, which would hide a missing weight by rows
    whole, first, others, twice = (
        _step(trial, initial, with_rows(batch, order))
        for order in ([*range(rows)], [*range(head)], [*range(head, rows)], [*range(rows)] * 2)
    )
    reseeded = _step(replace(trial, seed=trial.seed + 1), initial, batch)
    return Probes(whole, first, others, twice, reseeded, num_rows=rows, num_head_rows=head)


def draws_numbers(probes: Probes) -> bool:
    """Returns whether the results of a step depend on the seed.

    Args:
        probes: The steps.
    """
    one, other = probes.whole, probes.reseeded
    if len(one.model.weights) != len(other.model.weights):
        return False
    pairs = zip(one.gradients + one.targets, other.gradients + other.targets, strict=True)
    return not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def mixing_layer(probes: Probes, tolerance: float) -> str:
    """Returns the first layer whose outputs for a row depend on other rows, or "".

    Its inputs for the first rows are the same with and without the other rows, but its outputs are
    not. Of nested layers it is the innermost.

    Args:
        probes: The steps.
        tolerance: Relative difference that counts as rounding. Positive.
    """
    for whole, head in zip(probes.whole.calls, probes.head.calls, strict=False):
        if whole.layer != head.layer:
            return ""  # the step runs other code for fewer rows
        sizes = probes.num_rows, probes.num_head_rows
        if _are_equal(whole.inputs, head.inputs, sizes, tolerance) and not _are_equal(
            whole.outputs, head.outputs, sizes, tolerance
        ):
            return whole.layer
    return ""


def _step(trial: Trial, initial: Sequence[np.ndarray], batch: Batch) -> Step:
    model, *_ = new_model(trial, initial, batch)
    step = Step(model=model)
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # it is known to mix rows, and would hide other causes
    for name, _ in optimizers_by_name(model):
        setattr(model, name, keras.optimizers.SGD(0.0))  # weights do not change during the probe
    model.run_eagerly = True
    before = {name: plain(v.numpy()) for name, v in _state(model)}
    with _eager_functions(), _recorded_gradients(step), _recorded_calls(model, step):
        model.fit(as_dataset([batch]), callbacks=[_Metrics(step)], verbose=0)
    for name, variable in _state(model):
        if name in before and before[name].dtype.kind == "f":
            step.state[name] = plain(variable.numpy()) - before[name]
    return step


def _state(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields the variables that a step may change other than by a gradient."""
    for number, variable in enumerate(model.weights):
        if not variable.trainable:
            yield f"{number} {variable.path}", variable


class _Metrics(keras.callbacks.Callback):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self._step = step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        for metric in metrics_of(self.model):
            for variable in metric.variables:
                self._step.metrics[f"{metric.name}/{variable.name}"] = plain(variable.numpy())


@contextlib.contextmanager
def _eager_functions() -> Iterator[None]:
    """Runs the user's `tf.function`s as Python, so that values in them can be read."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def _recorded_gradients(step: Step) -> Iterator[None]:
    original = tf.GradientTape.gradient

    def gradient(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, target, sources, *args, **kwargs)
        if all(isinstance(v, (tf.Variable, keras.Variable)) for v in tf.nest.flatten(sources)):
            parts = [tf.convert_to_tensor(g) for g in tf.nest.flatten(found) if g is not None]
            if all(hasattr(part, "numpy") for part in parts):
                arrays = [plain(part.numpy()).ravel() for part in parts]
                step.gradients.append(np.concatenate(arrays) if arrays else np.zeros([0]))
                values = [tf.reduce_sum(t) for t in tf.nest.flatten(target)]
                step.targets.append(np.array([plain(value.numpy()) for value in values]))
        return found

    tf.GradientTape.gradient = gradient
    try:
        yield
    finally:
        tf.GradientTape.gradient = original


@contextlib.contextmanager
def _recorded_calls(model: Any, step: Step) -> Iterator[None]:
    for layer in layers_of(model):
        layer.call = _recording(layer.name, layer.call, step)
    yield  # nothing to restore: the model is dropped afterwards


def _recording(name: str, call: Callable[..., Any], step: Step) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        step.calls.append(Call(name, _arrays((args, kwargs)), _arrays(outputs)))
        return outputs

    return recorded


def _arrays(structure: Any) -> list[np.ndarray]:
    """Returns the values of all eager tensors that have rows."""
    parts = (part for part in keras.tree.flatten(structure) if isinstance(part, tf.Tensor))
    return [plain(part.numpy()) for part in parts if part.ndim and hasattr(part, "numpy")]


def _are_equal(
    whole: Sequence[np.ndarray],
    head: Sequence[np.ndarray],
    sizes: tuple[int, int],
    tolerance: float,
) -> bool:
    """Returns whether the entries of the first rows are equal. Arrays without rows are skipped.

    A row may have several entries, for instance if time is folded into rows.
    """
    num_whole, num_head = sizes
    for a, b in zip(whole, head, strict=False):
        each, rest = divmod(len(a), num_whole)
        if rest or len(b) != each * num_head or a.dtype.kind not in "fiub":
            continue
        a, b = a[: len(b)].astype(np.float64), b.astype(np.float64)
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * max(1e-30, np.abs(b).max())):
            return False
    return True
