"""The gradient watch: skips a bad step in the graph, before it changes a weight.

After the reduce all replicas of all workers have the same gradient, and the loss was reduced with
it. So each replica judges the step separately, all reach the same verdict, and no further
communication is needed. `StepJudge` compares a step with the good ones before it, also inside one
execution; the program outside only reads what happened.

The loss comes by the step's context: `StepContext.record_loss`, `reduced_loss`, then `apply` here.

A held step moves no weight, no slot and no count, and what its forward pass moved already (moving
statistics, seeds, metrics) is put back, as if its batch had not been there.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.keras_support.context.step_context import StepContext

VERDICTS = ("good", "loss_not_finite", "norm_not_finite", "loss_spike", "norm_spike")
"""What a step can be, by the number that `StepJudge.judge` returns."""


class StepJudge:
    """Knows losses and gradient norms of the last good steps; each replica has a copy of them.

    Args:
        factor: A norm or a loss x is a spike if x - median > (factor - 1) |median|, which for a
            positive median is x > factor * median. Above 1, or None to look only for NaN and inf.
        window: The median is that of at most so many good steps.
        warmup_steps: Good steps before the first spike is called one. At least 1.
    """

    def __init__(self, *, factor: float | None, window: int, warmup_steps: int) -> None:
        self._factor = factor
        self._warmup_steps = warmup_steps
        self._norms = judging_variable([window], "float64")
        self._losses = judging_variable([window], "float64")
        self._good = judging_variable([], "int64")

    @property
    def variables(self) -> list[Any]:
        """What `learn` writes."""
        return [self._norms, self._losses, self._good]

    def judge(
        self, norm: tf.Tensor, loss: tf.Tensor | None, is_scaled: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the number of the first of `VERDICTS` that applies, and the limit it broke.

        Args:
            norm: float64 scalar, the gradient's, unscaled.
            loss: float64 scalar, or None where it is not known.
            is_scaled: Whether the loss was scaled dynamically. Then a gradient that is not finite
                is the scale's own business, unless the loss, which is not scaled, is not finite
                either.
        """
        nan = tf.constant(np.nan, tf.float64)
        is_finite = tf.math.is_finite(norm)
        verdicts = []
        if loss is not None:
            verdicts.append((1, tf.logical_not(tf.math.is_finite(loss)), nan))
        if not is_scaled:
            verdicts.append((2, tf.logical_not(is_finite), nan))
        for number, value, earlier in ((3, loss, self._losses), (4, norm, self._norms)):
            if value is not None and self._factor is not None:
                limit = self._limit(self._factor, earlier.value)
                verdicts.append((number, tf.logical_and(is_finite, value > limit), limit))
        kind, broken = tf.constant(0), nan
        for number, applies, limit in reversed(verdicts):
            kind, broken = tf.where(applies, number, kind), tf.where(applies, limit, broken)
        return kind, broken

    def learn(self, norm: tf.Tensor, loss: tf.Tensor | None) -> None:
        """Counts a good step among those that later ones are judged by."""
        rings = [(self._norms, norm), *([] if loss is None else [(self._losses, loss)])]
        # A gradient that overflowed because of the loss scale does not count as a bad step.
        note(rings, self._good, tf.math.is_finite(norm))

    def _limit(self, factor: float, earlier: tf.Tensor) -> tf.Tensor:
        window = earlier.shape[0]
        count = tf.minimum(self._good.value, window)
        is_filled = tf.range(window, dtype=tf.int64) < count
        ordered = tf.sort(tf.where(is_filled, earlier, tf.constant(np.inf, tf.float64)))
        middle = tf.stack([tf.maximum(count - 1, 0) // 2, count // 2])
        median = tf.reduce_mean(tf.gather(ordered, middle))
        limit = median + (factor - 1) * tf.abs(median)
        is_warm = self._good.value >= self._warmup_steps
        return tf.where(is_warm, limit, tf.constant(np.inf, tf.float64))


def judging_variable(shape: list[int], dtype: str) -> Any:
    """Makes a variable of zeros with a separate copy on each replica, as of a counter."""
    return keras.Variable(
        np.zeros(shape, dtype),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        name="gradient_watch",
    )


def note(rings: Sequence[tuple[Any, Any]], count: Any, is_noted: tf.Tensor) -> None:
    """Writes each value over the oldest entry of its ring, and counts it, where `is_noted`."""
    for ring, value in rings:
        size = ring.shape[0]
        is_oldest = tf.range(size, dtype=tf.int64) == count.value % size
        is_oldest = tf.reshape(is_oldest, [size] + [1] * (len(ring.shape) - 1))
        entry = tf.convert_to_tensor(value)
        ring.assign(tf.where(tf.logical_and(is_oldest, is_noted), entry, ring.value))
    count.assign_add(tf.cast(is_noted, tf.int64))


def global_norm(gradients: Sequence[Any], scale: Any) -> tf.Tensor:
    """Returns the norm of all gradients together; as in Keras's clipping, sparse rows one by one.

    Args:
        gradients: `None` where a variable has none.
        scale: What the loss was multiplied by, or None. Divided out before squaring, which in
            float32 overflows from 2e19 on.

    Returns:
        float64 scalar.
    """
    squares = []
    for gradient in gradients:
        if gradient is not None:
            values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
            values = tf.cast(values, tf.float64 if values.dtype == tf.float64 else tf.float32)
            if scale is not None:
                values = values / tf.cast(scale, values.dtype)
            squares.append(tf.cast(tf.reduce_sum(tf.square(values)), tf.float64))
    return tf.sqrt(tf.add_n(squares))


Values = list[tuple[Any, tf.Tensor]]


@dataclass(frozen=True)
class Trouble:
    """A step that was held back.

    Attributes:
        step: Its number among the watched steps; held ones count.
        kind: One of `VERDICTS`, not the first.
        norm: The gradient's global norm, unscaled, before clipping.
        loss: The global batch's loss; NaN where the step reported none, see `record_loss`.
        limit: What a spike was above; NaN if something was not finite.
    """

    step: int
    kind: str
    norm: float
    loss: float
    limit: float


@dataclass
class Before:
    """The state that a step changes besides the weights, as it was before the step."""

    moved: Values
    metrics: Values
    is_judged: bool = False


class GradientWatch:
    """Judges each step of a model's optimizer, and skips those that went wrong.

    Args:
        model: A compiled model under a strategy of this package, its optimizer built.
        factor: See `StepJudge`, as for `window` and `warmup_steps`.
        first_step: The number of the next step.
        skips_after_trouble: Whether after trouble all later steps are skipped too, until `release`.
    """

    def __init__(
        self,
        model: Any,
        *,
        factor: float | None,
        window: int,
        warmup_steps: int,
        skips_after_trouble: bool,
        first_step: int = 0,
    ) -> None:
        self.strategy = model.distribute_strategy
        # Weak: the table of watches must not keep alive the optimizers that it is keyed by.
        self._model: Callable[[], Any] = weakref.ref(model)
        self._optimizer: Callable[[], Any] = weakref.ref(model.optimizer)
        self._skips_after_trouble = skips_after_trouble
        self._num_reported = 0
        with self.strategy.scope():
            self._judge = StepJudge(factor=factor, window=window, warmup_steps=warmup_steps)
            self._steps = judging_variable([], "int64")
            # As many rows as an execution has steps: none is lost before it is read.
            self._rows = judging_variable([model.steps_per_execution, 5], "float64")
            self._troubles = judging_variable([], "int64")
            self._is_held = judging_variable([], "bool")
            self._is_on_hold = judging_variable([], "bool")
        self._steps.assign(first_step)

    @property
    def memory(self) -> tuple[Any, ...]:
        """The variables that the next steps are judged by: the window of good ones, the count."""
        return (*self._judge.variables, self._steps)

    def is_of(self, model: Any) -> bool:
        """Tells whether it can continue to watch `model`, as it is compiled now."""
        return bool(
            self._optimizer() is model.optimizer
            and self._rows.shape[0] == model.steps_per_execution
        )

    def attach(self) -> None:
        """Watches from the next step on; the training step is traced again."""
        model = self._model()
        _WATCHES[model.optimizer] = self
        self.release()
        model.make_train_function(force=True)

    def detach(self) -> None:
        """Leaves the model as it was."""
        model = self._model()
        _WATCHES.pop(model.optimizer, None)
        model.make_train_function(force=True)

    def release(self) -> None:
        """Stops skipping steps because of an earlier one."""
        self._is_on_hold.assign(False)

    def new_troubles(self) -> list[Trouble]:
        """Returns what happened since the last call, in order. Waits until the steps are done."""
        first, count = self._num_reported, int(self._troubles.value.numpy())
        if count == first:
            return []
        self._num_reported = count
        rows = self._rows.value.numpy()
        places = range(max(first, count - len(rows)), count)
        found = (rows[place % len(rows)].tolist() for place in places)
        return [Trouble(int(step), VERDICTS[int(kind)], *rest) for step, kind, *rest in found]

    def written(self, before: Before | None) -> list[Any]:
        """Returns the variables that `apply` may write, besides the optimizer's."""
        own = [self._steps, self._rows, self._troubles, self._is_held, self._is_on_hold]
        moved = [variable for variable, _ in before.moved] if before else []
        return [*self._judge.variables, *own, *moved]

    @contextlib.contextmanager
    def around_step(self) -> Iterator[Before]:
        """Remembers what a step may move, and puts metrics back at the end of one that was held."""
        model = self._model()
        is_one_replica = self.strategy.num_replicas_in_sync == 1

        def values(variables: Sequence[Any]) -> Values:
            # A metric made outside the scope is shared by the replicas and left as it is.
            own = [v for v in variables if is_one_replica or isinstance(v._value, _DISTRIBUTED)]
            return [(v, tf.identity(v.value)) for v in own]

        before = Before(values(_moved_by_forward_pass(model)), values(model.metrics_variables))
        yield before
        if before.is_judged:
            is_held = tf.identity(self._is_held.value)
            for variable, value in before.metrics:
                variable.assign(tf.where(is_held, value, variable.value))

    def apply(
        self,
        gradients: Sequence[Any],
        loss: tf.Tensor | None,
        before: Before | None,
        update: Callable[[], Any],
    ) -> None:
        """Judges a step and runs `update`, or holds it; in replica context, after the reduce.

        Args:
            gradients: What the optimizer is about to apply; `None` where a variable has none.
            loss: Scalar, the global batch's, or None if the step reported none.
            before: See `around_step`.
            update: Applies the gradients.
        """
        optimizer = self._optimizer()
        is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        scale = optimizer.dynamic_scale.value if is_scaled else optimizer.loss_scale_factor
        norm = global_norm(gradients, scale)
        if loss is not None:
            loss = tf.cast(loss, tf.float64)
        kind, limit = self._judge.judge(norm, loss, is_scaled)
        is_on_hold = tf.identity(self._is_on_hold.value)

        def hold() -> None:
            known = tf.constant(np.nan, tf.float64) if loss is None else loss
            step, number = tf.cast(self._steps.value, tf.float64), tf.cast(kind, tf.float64)
            row = [step, number, norm, known, limit]
            note([(self._rows, row)], self._troubles, tf.logical_not(is_on_hold))
            if self._skips_after_trouble:
                self._is_on_hold.assign(True)
            for variable, value in before.moved if before else []:
                variable.assign(value)

        def go_on() -> None:
            update()
            self._judge.learn(norm, loss)

        is_held = tf.logical_or(kind > 0, is_on_hold)
        tf.cond(is_held, hold, go_on)
        self._is_held.assign(is_held)
        self._steps.assign_add(1)
        if before:
            before.is_judged = True


_DISTRIBUTED = tf.distribute.DistributedValues
_WATCHES: weakref.WeakKeyDictionary[Any, GradientWatch] = weakref.WeakKeyDictionary()


def watch_of(optimizer: Any) -> GradientWatch | None:
    """Returns the watch that is attached to `optimizer`, if there is one."""
    return _WATCHES.get(optimizer)


@contextlib.contextmanager
def watched_step(step: StepContext) -> Iterator[None]:
    """Lets every watch under the strategy remember what `step` may move."""
    with contextlib.ExitStack() as watched:
        for watch in watches_under(tf.distribute.get_strategy()):
            step.before[watch] = watched.enter_context(watch.around_step())
        yield


def watches_under(strategy: tf.distribute.Strategy) -> list[GradientWatch]:
    """Returns the watches of all optimizers under `strategy`."""
    return [watch for watch in _WATCHES.values() if watch.strategy is strategy]


def _moved_by_forward_pass(model: Any) -> list[Any]:
    """Returns the variables that layers assign themselves: moving statistics, counters, seeds.

    Not weights that are merely frozen, which `non_trainable_variables` contains too.
    """
    found: dict[int, Any] = {}
    for layer in model._flatten_layers():
        seeds = [generator.state for generator in layer._seed_generators]
        found.update((id(v), v) for v in (*layer._non_trainable_variables, *seeds))
    return list(found.values())
