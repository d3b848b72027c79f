"""Gradients with respect to sharded parameters: what the tape is asked for, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.sharding.cuts import Cut
from strategies.keras_support.sharding.gathering import forget_rows, keeping_rows, rows_of
from strategies.keras_support.sharding.scattering import (
    ShardedGradient,
    sum_of_parts,
    sum_of_pieces,
)
from strategies.keras_support.sharding.sharded_value import is_sharded
from strategies.keras_support.sharding.stages import own_replica, stage_of


@dataclass(frozen=True)
class Pieces:
    """A replica's own gradient of a sharded parameter, in one piece for each replica."""

    tensors: tuple[tf.Tensor, ...]
    cut: Cut

    def whole(self) -> tf.Tensor:
        """Returns the gradient in one tensor."""
        return self.cut.joined(self.tensors)

    def times(self, factor: tf.Tensor) -> Pieces:
        """Returns the gradient times a scalar."""
        return Pieces(tuple(t * tf.cast(factor, t.dtype) for t in self.tensors), self.cut)


def expanded(sources: Sequence[Any]) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    """Returns what to ask a tape for, and the function that puts its answer together.

    Args:
        sources: Of `tape.gradient`, flat; sharded parameters become their parts.
    """
    asked: list[Any] = []
    counts: list[int] = []
    for source in sources:
        parts = _parts(source)
        asked += [source] if parts is None else parts
        counts.append(1 if parts is None else len(parts))

    def put_together(answer: Sequence[Any]) -> list[Any]:
        rest = iter(answer)
        whole = [
            _one(source, [next(rest) for _ in range(count)])
            for source, count in zip(sources, counts, strict=True)
        ]
        forget_rows()
        return whole

    return asked, put_together


def with_wholes(sources: Any, ask: Callable[[Any], Any]) -> Any:
    """Returns gradients that no step reduces: in your own loop, and outside of replicas.

    Replicas of one process get their own gradients of whole parameters, as of parameters that are
    not sharded. Between workers the gradient is a sum over the replicas already.

    Args:
        sources: Of `tape.gradient`.
        ask: Calls it with other sources.

    Raises:
        ValueError: If a parameter is sharded over workers, outside of a replica: what is read there
            is a value, with no way back to its parts.
    """
    flat = tf.nest.flatten(sources)
    in_parts = [source for source in flat if _is_in_parts(source)]
    if not in_parts:
        return ask(sources)
    strategy = in_parts[0]._value.distribute_strategy
    replica = tf.distribute.get_replica_context()
    is_on_replica = replica is not None and replica.strategy is strategy
    if is_multi_worker(strategy) and not is_on_replica:
        raise ValueError(
            f"`sources` of tape.gradient must not contain {in_parts[0].path!r} outside of a step, "
            "because it is sharded over workers. Received: such a call. Write it as train_step of "
            "a keras.Model, run it with strategy.run, or build the strategy with shard=2."
        )
    asked, put_together = expanded(flat)
    with keeping_rows():
        gradients = put_together(ask(asked))
    wholes = [g.whole() if isinstance(g, Pieces) else g for g in gradients]
    return tf.nest.pack_sequence_as(sources, wholes)


def are_reduced_as_they_come(sources: Sequence[Any]) -> bool:
    """Tells whether the tape's answer for one of `sources` is already reduced over the replicas."""
    return any(
        _is_in_parts(source) and is_multi_worker(source._value.distribute_strategy)
        for source in sources
    )


def _is_in_parts(source: Any) -> bool:
    return isinstance(source, keras.Variable) and is_sharded(source)


def divided(
    sources: Sequence[Any], gradients: Sequence[Any], devices: Sequence[int] | None = None
) -> dict[int, ShardedGradient]:
    """Returns, by place, the gradients of which each replica keeps its part.

    Args:
        sources: Of the gradients.
        gradients: This replica's own, or `Pieces`, or None. Rows of a lookup are not divided here:
            they are reduced like those of a whole table.
        devices: By whole gradient, on which of a replica's devices it is; None for the first.
    """
    if stage_of(tf.distribute.get_strategy()) < 2:
        return {}
    found: dict[int, ShardedGradient] = {}
    pieces = [i for i, g in enumerate(gradients) if isinstance(g, Pieces)]
    wholes = [
        i
        for i, (source, g) in enumerate(zip(sources, gradients, strict=True))
        if isinstance(g, tf.Tensor) and _cut_of(source) is not None
    ]
    sums = sum_of_pieces([gradients[i].tensors for i in pieces])
    for i, part in zip(pieces, sums, strict=True):
        found[i] = ShardedGradient(part, gradients[i].cut, sources[i].path)
    cuts = [_cut_of(sources[i]) for i in wholes]
    places = None if devices is None else [devices[i] for i in wholes]
    sums = sum_of_parts([gradients[i] for i in wholes], cuts, places)
    for i, part, cut in zip(wholes, sums, cuts, strict=True):
        found[i] = ShardedGradient(part, cut, sources[i].path)
    for i, gradient in enumerate(gradients):
        if isinstance(gradient, ShardedGradient):
            found[i] = gradient
    return found


def _cut_of(source: Any) -> Any:
    return getattr(source, "part_cut", None) if isinstance(source, keras.Variable) else None


def _parts(source: Any) -> list[Any] | None:
    if not _is_in_parts(source):
        return None
    value = source._value
    if is_multi_worker(value.distribute_strategy):
        return [value.parts[own_replica()[0]]]
    return list(value.parts)


def _one(source: Any, answers: list[Any]) -> Any:
    if not _is_in_parts(source):
        return answers[0]
    rows = rows_of(source._value)
    if all(answer is None for answer in answers):
        return rows
    cut: Cut = source._value.cut
    if is_multi_worker(source._value.distribute_strategy):
        part = tf.convert_to_tensor(answers[0])
        if rows is not None:
            part += sum_of_parts([tf.convert_to_tensor(rows)], [cut])[0]
        return ShardedGradient(part, cut, source.path)
    pieces = [
        tf.zeros(cut.part_shape(r), source._value.dtype) if answer is None else answer
        for r, answer in enumerate(answers)
    ]
    if rows is not None:
        whole = tf.convert_to_tensor(rows)
        pieces = [piece + cut.take(whole, r) for r, piece in enumerate(pieces)]
    return Pieces(tuple(tf.convert_to_tensor(piece) for piece in pieces), cut)
