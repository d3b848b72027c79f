"""Sparse gradients: which rows of several replicas are one row on one device.

The gradient of a table that is looked up is a list of rows and their indices (`tf.IndexedSlices`).
One device that looks up an example's ids twice has two rows of that id, and Keras's Adam, Adagrad
and RMSprop square them one by one; so rows of ids that were cut from the batch are gathered as they
are. But not every index comes from an example:

* indices that do not depend on the batch (positions) are the same on all replicas, and one device
  has each of their rows once: the replicas' rows are averaged like a dense gradient;
* indices that TensorFlow made unique (a SparseTensor times a matrix) are unique in the whole batch
  on one device: rows of one index are added up.

The origin of the indices decides, not their values. A table that is looked up in several
places has rows of each.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.lineage import OWN, Lineage
from strategies.keras_support.context.weighted_gradients import concatenated
from strategies.keras_support.gradients.gradient_reduce import Gradient


class Rows(enum.Enum):
    """What the rows of a sparse gradient belong to."""

    EXAMPLES = enum.auto()
    POSITIONS = enum.auto()
    UNIQUE = enum.auto()


@dataclass(frozen=True)
class SparsePart:
    """Rows of one lookup.

    Attributes:
        kind: What they belong to.
        slices: The rows.
    """

    kind: Rows
    slices: tf.IndexedSlices


def parts_of(gradient: tf.IndexedSlices, lineage: Lineage) -> list[SparsePart]:
    """Splits a table's gradient into the rows of each of its lookups."""
    pieces = lineage.joined(gradient.indices)
    if len(pieces) == 1:
        return [SparsePart(_kind(gradient.indices, lineage), gradient)]
    kinds = [_kind(piece, lineage) for piece in pieces]
    if all(kind is Rows.EXAMPLES for kind in kinds):
        return [SparsePart(Rows.EXAMPLES, gradient)]
    sizes = [tf.size(piece) for piece in pieces]
    values = tf.split(gradient.values, sizes)
    indices = tf.split(gradient.indices, sizes)
    return [
        part
        for piece, value, index in zip(pieces, values, indices, strict=True)
        for part in _nested(piece, value, index, gradient.dense_shape, lineage)
    ]


def _nested(
    piece: Any, values: tf.Tensor, indices: tf.Tensor, shape: Any, lineage: Lineage
) -> list[SparsePart]:
    inner = lineage.joined(piece)
    if len(inner) == 1:
        return [SparsePart(_kind(piece, lineage), tf.IndexedSlices(values, indices, shape))]
    sizes = [tf.size(each) for each in inner]
    return [
        part
        for each, value, index in zip(
            inner, tf.split(values, sizes), tf.split(indices, sizes), strict=True
        )
        for part in _nested(each, value, index, shape, lineage)
    ]


def _kind(indices: Any, lineage: Lineage) -> Rows:
    if not lineage.of(indices) & OWN:
        return Rows.POSITIONS
    is_unique = any(lineage.comes_from(indices, kind) for kind in ("Unique", "UniqueV2"))
    return Rows.UNIQUE if is_unique else Rows.EXAMPLES


def sent(parts: Sequence[SparsePart]) -> list[Gradient]:
    """Returns what is reduced for the parts: rows, or only their values where indices agree."""
    return [p.slices.values if p.kind is Rows.POSITIONS else p.slices for p in parts]


def received(parts: Sequence[SparsePart], reduced: Sequence[Gradient]) -> tf.IndexedSlices:
    """Puts the reduced rows of a table's lookups together."""
    rows = []
    for part, found in zip(parts, reduced, strict=True):
        if part.kind is Rows.POSITIONS:
            rows.append(tf.IndexedSlices(found, part.slices.indices, part.slices.dense_shape))
        elif part.kind is Rows.UNIQUE:
            rows.append(added_up(found))
        else:
            rows.append(found)
    return concatenated(rows)


def added_up(slices: tf.IndexedSlices) -> tf.IndexedSlices:
    """Returns slices in which each index occurs once, with the sum of its rows."""
    indices, places = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, places, tf.size(indices))
    return tf.IndexedSlices(values, indices, slices.dense_shape)
