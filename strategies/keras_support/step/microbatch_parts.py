"""The parts of a replica batch that are computed one after another, and what each counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.batch_parts import num_rows, static_rows, without_wrappers
from strategies.global_batches import cut_rows
from strategies.keras_support.context.lineage import Lineage, Source
from strategies.keras_support.context.step_context import StepContext, taking_step
from strategies.keras_support.gradients.step_reduce import reduce_in_step
from strategies.keras_support.metrics.logs import flat_logs, named_in
from strategies.keras_support.metrics.metric_combination import combination
from strategies.keras_support.state.batch_norm import moving_statistics
from strategies.keras_support.state.layer_state import own_variables

Logs = dict[str, Any]


@dataclass(frozen=True)
class Microbatch:
    """A part of a replica batch.

    Attributes:
        start: Its first row, int64.
        stop: The row after its last. At least one more.
        examples: int32 scalar, its rows that count. May be zero.
        rows: `stop - start` where that is known when the step is traced.
    """

    start: Any
    stop: Any
    examples: tf.Tensor
    rows: int | None = None

    @property
    def may_be_empty(self) -> bool:
        """Tells whether it may have no examples."""
        return not tf.get_static_value(self.examples)

    def of(self, batch: Any) -> Any:
        """Returns its rows, as a model gets them."""
        cut = cut_rows(batch, self.start, self.stop)

        def with_rows(part: Any, whole: Any) -> Any:
            if self.rows is not None and isinstance(part, tf.Tensor) and part is not whole:
                part.set_shape([self.rows, *whole.shape[1:]])
            return part

        return without_wrappers(tf.nest.map_structure(with_rows, cut, batch))


def cut_batch(whole: StepContext, count: int, *, may_be_fewer: bool = True) -> list[Microbatch]:
    """Cuts a replica batch into parts whose sizes differ by at most one row, larger ones first.

    Args:
        whole: The context of the replica batch.
        count: Parts.
        may_be_fewer: Whether a batch with fewer rows is cut into its rows; otherwise some parts
            have no examples.
    """
    known = static_rows(whole.batch)
    if known and (may_be_fewer or known >= count):
        count = min(count, known)
        sizes: list[Any] = [known // count + (i < known % count) for i in range(count)]
        starts: list[Any] = [sum(sizes[:i]) for i in range(count)]
        if tf.get_static_value(whole.examples) == known:
            examples = [tf.constant(size, tf.int32) for size in sizes]
        else:  # padding, or a row that does not count
            examples = [
                tf.clip_by_value(whole.examples - start, 0, size)
                for start, size in zip(starts, sizes, strict=True)
            ]
        return [
            Microbatch(start, start + size, own, rows=size)
            for start, size, own in zip(starts, sizes, examples, strict=True)
        ]
    rows = num_rows(whole.batch)
    parts = []
    for i in range(count):
        start = i * (rows // count) + tf.minimum(tf.constant(i, tf.int64), rows % count)
        size = rows // count + tf.cast(i < rows % count, tf.int64)
        examples_of_part = tf.clip_by_value(tf.cast(whole.examples, tf.int64) - start, 0, size)
        start = tf.minimum(start, rows - 1)
        stop = tf.maximum(start + size, start + 1)
        parts.append(Microbatch(start, stop, tf.cast(examples_of_part, tf.int32)))
    return parts


def weight_of(part: Microbatch, whole: StepContext) -> Any:
    """The microbatch's part of the replica's examples: a number if it is known."""
    own, every = tf.get_static_value(part.examples), tf.get_static_value(whole.examples)
    if own and every:
        return int(own) / int(every)
    dtype = whole.fraction().dtype
    return tf.math.divide_no_nan(tf.cast(part.examples, dtype), tf.cast(whole.examples, dtype))


@contextlib.contextmanager
def followed(whole: StepContext) -> Iterator[Lineage]:
    """Knows what tensors depend on, also where no other replica needs it."""
    if whole.state is not None:
        yield whole.lineage
        return
    lineage = whole.lineage = Lineage((whole.batch, whole.examples), lambda _: Source.SHARED)
    with lineage.watching():
        yield lineage


def written(model: Any, whole: StepContext) -> list[Any]:
    """The variables that a microbatch writes on this replica alone."""
    if whole.state is None:
        return [*model.metrics_variables, *own_variables(model)]
    metrics = [
        variable
        for variable in model.metrics_variables
        if isinstance(variable._value, tf.distribute.DistributedValues)
        and combination(variable) not in ("first", "mean")  # the same on all replicas by now
    ]
    return [*metrics, *moving_statistics(model)]


def merged_of_parts(logs: Logs, of_parts: list[tuple[Logs, Any]], known: Any) -> Logs:
    """Returns the last microbatch's logs: results of metrics, and means of other values."""
    flat = [(flat_logs(each), weight) for each, weight in of_parts]
    merged = dict(logs)
    for path in flat_logs(logs):
        if named_in(path, known) is not None:
            continue
        terms = [tf.cast(own[path], tf.float64) * tf.cast(w, tf.float64) for own, w in flat]
        place = merged
        for name in path[:-1]:
            place[name] = place = dict(place[name])
        place[path[-1]] = tf.add_n(terms)
    return merged


@contextlib.contextmanager
def only_examples_count(
    part: Microbatch, own: StepContext, whole: StepContext, kept: list[Any]
) -> Iterator[None]:
    """Surrounds a pass of a microbatch with its context.

    Args:
        part: The microbatch.
        own: Its context.
        whole: The context of the replica batch.
        kept: The variables that are left as they were if it has no examples; see `written`.
    """
    before = [tf.identity(variable.value) for variable in kept]
    with taking_step(own):
        yield
        if whole.state is not None and whole.state.is_owing_unknown:
            reduce_in_step([])  # with the weights of this microbatch
        for variable, value in zip(kept, before, strict=True):
            variable.assign(tf.where(part.examples > 0, variable.value, value))
