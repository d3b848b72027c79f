"""What one eager step of stock Keras computes from a batch and from parts of it.

A step is taken from the same weights on a whole batch, on its first rows, on the others, and on the
batch with each row twice. How the four results hang together (`additivity`) says what replicas,
which each see a part of the batch, make of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfscale.verify.additivity import Parts
from tfscale.verify.batches import Batch, as_dataset, num_rows, with_rows
from tfscale.verify.first_step import optimizers_by_name
from tfscale.verify.layers import layers_of, metrics_of
from tfscale.verify.model import Trial, new_model, plain


@dataclass(frozen=True)
class Call:
    """A layer's name, what it was given and what it returned."""

    layer: str
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@dataclass
class Step:
    """What one step computed.

    Attributes:
        gradients: Of each `tape.gradient` with respect to variables, as one vector.
        targets: What each of them is the gradient of, added up.
        state: What the step added to each variable of a layer that is not trained, by number.
        metrics: The same of each metric's variables.
        calls: Of each call of a layer, those of inner layers first.
        model: The model that took it.
    """

    gradients: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    state: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    model: Any = None


@dataclass(frozen=True)
class Probes:
    """The same step of a batch and of its parts; see `additivity.Parts`.

    Attributes:
        whole: Of the batch.
        head: Of its first rows.
        tail: Of the other rows.
        twice: Of the batch with each row twice.
        reseeded: Of the batch, with another seed.
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
        """Returns one result of all four steps.

        Args:
            result: Reads it from a step.
        """
        whole, head, tail, twice = map(result, (self.whole, self.head, self.tail, self.twice))
        return Parts(whole, head, tail, twice, self.num_head_rows / self.num_rows)


def probe(trial: Trial, initial: Sequence[np.ndarray], batches: Sequence[Batch]) -> Probes:
    """Takes the steps.

    Args:
        trial: How; without a strategy.
        initial: Values of `model.weights` to start from.
        batches: Of which the first is taken, of two rows or more.
    """
    batch, rows = batches[0], num_rows(batches[0])
    head = max(1, rows // 3)  # not a half: halves hide what is not weighed by rows
    whole, first, others, twice = (
        _step(trial, initial, with_rows(batch, order))
        for order in ([*range(rows)], [*range(head)], [*range(head, rows)], [*range(rows)] * 2)
    )
    reseeded = _step(replace(trial, seed=trial.seed + 1), initial, batch)
    return Probes(whole, first, others, twice, reseeded, num_rows=rows, num_head_rows=head)


def draws_numbers(probes: Probes) -> bool:
    """Tells whether the step computes something else under another seed.

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

    Its inputs for the first rows are the same whether the others stand beside them or not, and its
    outputs are not. Of layers inside each other it is the innermost.

    Args:
        probes: The steps.
        tolerance: Relative difference that counts as rounding. Positive.
    """
    for whole, head in zip(probes.whole.calls, probes.head.calls, strict=False):
        if whole.layer != head.layer:
            return ""  # the step takes another path for fewer rows
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
            layer.trainable = False  # its mixing of rows is known, and would hide all other
    for name, _ in optimizers_by_name(model):
        setattr(model, name, keras.optimizers.SGD(0.0))  # no weight moves while we look
    model.run_eagerly = True
    before = {name: plain(v.numpy()) for name, v in _state(model)}
    with _eager_functions(), _recorded_gradients(step), _recorded_calls(model, step):
        model.fit(as_dataset([batch]), callbacks=[_Metrics(step)], verbose=0)
    for name, variable in _state(model):
        if name in before and before[name].dtype.kind == "f":
            step.state[name] = plain(variable.numpy()) - before[name]
    return step


def _state(model: Any) -> Iterator[tuple[str, Any]]:
    """The variables of layers that a step may move other than by a gradient."""
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
    """Runs the user's own `tf.function`s as Python, so that values can be read in them."""
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
    yield  # the model is dropped afterwards


def _recording(name: str, call: Callable[..., Any], step: Step) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        step.calls.append(Call(name, _arrays((args, kwargs)), _arrays(outputs)))
        return outputs

    return recorded


def _arrays(structure: Any) -> list[np.ndarray]:
    """The values of all eager tensors with rows."""
    parts = (part for part in keras.tree.flatten(structure) if isinstance(part, tf.Tensor))
    return [plain(part.numpy()) for part in parts if part.ndim and hasattr(part, "numpy")]


def _are_equal(
    whole: Sequence[np.ndarray],
    head: Sequence[np.ndarray],
    sizes: tuple[int, int],
    tolerance: float,
) -> bool:
    """Whether what belongs to the first rows is the same; arrays that are not by rows are left out.

    Several entries may belong to a row, as where time is folded into rows.
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
