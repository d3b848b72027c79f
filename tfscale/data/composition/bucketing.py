"""A source whose global batches have examples of similar length, padded to a common length."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from strategies.extension import function, one_of, sequence, text, whole_number
from tfscale.data.composition.evaluation import evaluated
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.packing import row_lengths
from tfscale.data.composition.requirements import batch_spec, one_order
from tfscale.data.order import Order
from tfscale.data.sources import Division, RandomAccessSource

LengthOf = Callable[[Any], tf.Tensor]


def bucketed(
    source: Any,
    *,
    boundaries: list[int] | tuple[int, ...],
    length_of: LengthOf | None = None,
    pad_value: float = 0,
    longer: Literal["error", "truncate"] = "error",
    version: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> RandomAccessSource:
    """Pads sequences, in global batches of similar lengths.

    An example is in the bucket of the smallest boundary that is not below its length. Each global
    batch has examples of one bucket, and its ragged parts are padded to the boundary, so that all
    replicas have the same shapes. Each epoch permutes the examples of each bucket, and then the
    batches. The last batch of each bucket may be smaller: an epoch has as many steps as the sum of
    `ceil(examples / global_batch_size)` over the buckets.

    With one boundary this is plain padding, with static shapes. It must be the last composition:
    filter or mix the source before.

    Args:
        source: The examples: a source of `tfscale.data`, or arrays with a `tf.RaggedTensor`.
        boundaries: Ascending, positive lengths.
        length_of: Maps a batch of n examples to integers [n], the lengths. Traced. By default the
            longest of an example's ragged parts.
        pad_value: The value after the end of a sequence, converted to the type of the part. Parts
            of strings are padded with the empty string.
        longer: What to do with an example that is longer than the last boundary: "error", or
            "truncate" its ragged parts.
        version: Text that you change whenever `length_of` changes. See `filtered`.
        cache_dir: Folder of cached lengths, or None to read them at every start. See `filtered`.

    Returns:
        A source.

    Raises:
        ValueError: If an argument is out of range, the examples have no ragged part, or one is
            longer than the last boundary with `longer="error"`.

    Example:
        >>> words = tf.ragged.constant([[1], [1, 2, 3], [1, 2], [4, 5, 6, 7]])
        >>> source = bucketed(words, boundaries=[2, 4])
        >>> source.take(tf.constant([1, 3], tf.int64)).numpy().tolist()
        [[1, 2, 3, 0], [4, 5, 6, 7]]
    """
    limits = [whole_number("boundaries", limit) for limit in sequence("boundaries", boundaries)]
    if not limits or any(a >= b for a, b in itertools.pairwise(limits)):
        raise ValueError(
            "`boundaries` must be ascending lengths, at least one. Received: "
            f"boundaries={boundaries!r}. Pass for instance [64, 128, 256]."
        )
    one_of("longer", longer, ("error", "truncate"))
    if version is not None:
        text("version", version)
    key: str | None = "longest ragged part"
    if length_of is not None:
        function("length_of", length_of)
        key = function_key(length_of) if version is None else f"version {version}"
    cure = "Bucket the source, or mix packed sources."
    examples = one_order(source, "bucketed", cure)
    spec = batch_spec(examples)
    ragged = [part for part in tf.nest.flatten(spec) if isinstance(part, tf.RaggedTensorSpec)]
    if not ragged or any(part.ragged_rank != 1 for part in ragged):
        raise ValueError(
            "`source` must have examples with parts of one unknown dimension, the length. "
            f"Received: {spec}. Pass a tf.RaggedTensor with ragged_rank=1."
        )
    lengths = evaluated(
        examples,
        length_of or _longest_part,
        name="length_of",
        dtype=tf.int64,
        key=key,
        cache_dir=cache_dir,
    )
    longest = int(np.argmax(lengths))
    if longer == "error" and lengths[longest] > limits[-1]:
        raise ValueError(
            f"`boundaries` must end at {lengths[longest]} or above, the length of example "
            f'{longest}. Received: boundaries={boundaries!r}. Pass longer="truncate" to cut it.'
        )
    bucket_of = np.searchsorted(limits, np.minimum(lengths, limits[-1]))
    return Bucketed(examples, limits, bucket_of, pad_value, truncates=longer == "truncate")


class Bucketed(RandomAccessSource):
    """Examples in buckets of similar length.

    Attributes:
        boundaries: Lengths that the buckets are padded to.
        sizes: Number of examples of each bucket.
    """

    def __init__(
        self,
        source: RandomAccessSource,
        boundaries: list[int],
        bucket_of: np.ndarray,
        pad_value: float,
        *,
        truncates: bool,
    ) -> None:
        self.parts = (source,)
        self.num_examples = len(bucket_of)
        self.boundaries = boundaries
        self.sizes = [int(n) for n in np.bincount(bucket_of, minlength=len(boundaries))]
        self._pad_value, self._truncates = pad_value, truncates
        with tf.device("CPU:0"):
            self._by_bucket = tf.constant(np.argsort(bucket_of, kind="stable").astype(np.int64))
            self._bucket_of = tf.constant(bucket_of.astype(np.int32))
        digest = hashlib.sha256(bucket_of.astype("<i8").tobytes()).hexdigest()
        self.fingerprint = (
            f"buckets {boundaries} ({digest[:32]}, padded with {pad_value!r}) of "
            f"[{source.fingerprint}]"
        )

    def division(self, batch_size: int, *, drop_remainder: bool) -> Division:
        """Returns batches of one bucket each; see `RandomAccessSource`.

        Raises:
            ValueError: If no bucket has a full batch, with `drop_remainder`.
        """
        division = BucketBatches(tuple(self.sizes), batch_size, drop_remainder)
        if not division.steps:
            raise ValueError(
                f"`global_batch_size` must be at most {max(self.sizes)}, the examples of the "
                f"largest bucket, with drop_remainder=True. Received: "
                f"global_batch_size={batch_size}. Use a smaller batch or fewer boundaries."
            )
        return division

    def indices(self, positions: tf.Tensor, epochs: tf.Tensor, order: Order) -> tf.Tensor:
        """Returns which examples are at positions of epochs; see `RandomAccessSource`."""
        place = positions
        first = 0
        for bucket, size in enumerate(self.sizes):
            if size:
                within = tf.clip_by_value(positions - first, 0, size - 1)
                permuted = first + order.of_part(bucket).indices(within, epochs, size)
                is_here = tf.logical_and(positions >= first, positions < first + size)
                place = tf.where(is_here, permuted, place)
            first += size
        return tf.gather(self._by_bucket, place)

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], which must be of one bucket, padded."""
        # With no index, any bucket.
        bucket = tf.reduce_max(tf.gather(self._bucket_of, indices))
        boundary = tf.gather(self.boundaries, tf.maximum(bucket, 0))
        is_last = tf.equal(boundary, self.boundaries[-1])
        fixed = self.boundaries[0] if len(self.boundaries) == 1 else None

        def padded(part: Any) -> Any:
            if not isinstance(part, tf.RaggedTensor):
                return part
            longest = tf.cast(tf.reduce_max(part.row_lengths()), tf.int32)
            check = tf.debugging.Assert(
                (longest <= boundary) | (is_last if self._truncates else False),
                [
                    "`length_of` must not be below the length of a ragged part. Received: a part "
                    "of length",
                    longest,
                    "in the bucket of",
                    boundary,
                ],
            )
            is_text = part.dtype == tf.string
            value = "" if is_text else tf.cast(self._pad_value, part.dtype)
            inner = part.values.shape[1:]
            with tf.control_dependencies([] if check is None else [check]):
                rows = part.to_tensor(value, shape=tf.stack([-1, boundary, *[-1] * len(inner)]))
            return tf.ensure_shape(rows, [indices.shape[0], fixed, *inner])

        return tf.nest.map_structure(padded, self.parts[0].take(indices))


@dataclass(frozen=True)
class BucketBatches(Division):
    """Global batches of one bucket each, in random order.

    The positions of an epoch are those of the first bucket, of the second, and so on.

    Attributes:
        sizes: Examples of each bucket.
        batch_size: Examples of a full batch.
        drop_remainder: Whether batches that are not full are omitted.
    """

    sizes: tuple[int, ...]
    batch_size: int
    drop_remainder: bool

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Global batches of an epoch."""
        return len(self._bounds)

    @property
    def is_even(self) -> bool:  # type: ignore[override]
        """Whether all batches are full."""
        return self.drop_remainder or all(size % self.batch_size == 0 for size in self.sizes)

    def bounds(self, steps: tf.Tensor, epoch: tf.Tensor, order: Order) -> Any:
        """Returns the first position of global batches, and the position after their last."""
        # The buckets have the orders of parts 0, 1, ...
        batches = Order(order.of_part(len(self.sizes)).seed).indices(steps, epoch, self.steps)
        bounds = tf.gather(tf.constant(self._bounds), batches)
        return bounds[:, 0], bounds[:, 1]

    @functools.cached_property
    def _bounds(self) -> np.ndarray:
        """First position and position after the last of each batch, int64 [steps, 2]."""
        pairs = []
        first = 0
        for size in self.sizes:
            end = first + size
            whole = end - size % self.batch_size if self.drop_remainder else end
            starts = np.arange(first, whole, self.batch_size, dtype=np.int64)
            pairs.append(np.stack([starts, np.minimum(starts + self.batch_size, end)], axis=1))
            first = end
        return np.concatenate(pairs)


def _longest_part(batch: Any) -> tf.Tensor:
    ragged = [part for part in tf.nest.flatten(batch) if isinstance(part, tf.RaggedTensor)]
    return tf.reduce_max(tf.stack([row_lengths(part) for part in ragged]), axis=0)
