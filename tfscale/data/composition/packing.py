"""A source whose examples are token sequences packed to a fixed length."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from strategies.extension import one_of, whole_number
from tfscale.data.composition.bins import best_fit
from tfscale.data.composition.evaluation import evaluated
from tfscale.data.composition.requirements import batch_spec, one_order
from tfscale.data.sources import RandomAccessSource

Longer = Literal["error", "split", "truncate"]


def packed(
    source: Any,
    *,
    length: int,
    tokens: str | None = "tokens",
    seed: int = 0,
    longer: Longer = "error",
    cache_dir: str | os.PathLike[str] | None = None,
) -> RandomAccessSource:
    """Packs token sequences into examples of a fixed length.

    The lengths of all sequences are read once. Then the sequences are packed by best-fit
    decreasing, always in the same way for the same lengths and seed. An epoch has every sequence
    once, in a new order of the packed examples, but the same sequences stay together. Packing 10^6
    sequences takes 0.3 seconds and 45 bytes a sequence; 12 bytes a sequence are kept.

    An example is a dict: `tokens` [length]; `segment_ids`, int32 [length], which number the
    sequences of the example from 1, with 0 for padding; and `positions`, int32 [length], which
    count from 0 in each sequence. Padding has token 0 and position 0. Attention must be limited to
    equal segments: `segment_ids[:, :, None] == segment_ids[:, None, :]`.

    Args:
        source: The sequences: a source of `tfscale.data`, or a `tf.RaggedTensor`, or a dict of
            them. Empty sequences are omitted, and so are other parts of the examples.
        length: Tokens of a packed example. Positive.
        tokens: Key of the token sequence in an example, or None if the example is the sequence.
        seed: Seed of the packing, not of the order of the epochs. In `[0, 2**31)`.
        longer: What to do with a sequence of more than `length` tokens: "error"; "split" into
            pieces, each with a segment and positions of its own; or "truncate" to its first tokens.
        cache_dir: Folder of cached lengths, or None to read them at every start. See `filtered`.

    Returns:
        A source.

    Raises:
        ValueError: If an argument is out of range, the source has no such sequences, or one is
            longer than `length` with `longer="error"`.

    Example:
        >>> sequences = tf.ragged.constant([[1, 2, 3], [4, 5], [6]])
        >>> source = packed(sequences, length=6, tokens=None)
        >>> source.take(tf.constant([0], tf.int64))["segment_ids"].numpy().tolist()
        [[1, 2, 2, 3, 3, 3]]
    """
    length = whole_number("length", length, below=2**31, cure="Count tokens.")
    seed = whole_number("seed", seed, at_least=0, below=2**31)
    one_of("longer", longer, ("error", "split", "truncate"))
    cure = "Pack each source, and mix the packed ones."
    examples = one_order(source, "packed", cure)
    _require_sequences(examples, tokens)
    lengths = evaluated(
        examples,
        lambda batch: row_lengths(_sequences(batch, tokens)),
        name="tokens",
        dtype=tf.int64,
        key=f"lengths of {tokens!r}",
        cache_dir=cache_dir,
    )
    longest = int(np.argmax(lengths))
    if longer == "error" and lengths[longest] > length:
        raise ValueError(
            f"`length` must be at least {lengths[longest]}, the tokens of example {longest}. "
            f'Received: length={length}. Pass longer="split" or longer="truncate".'
        )
    if not lengths.any():
        raise ValueError(
            "`source` must have a sequence that is not empty. Received: "
            f"{len(lengths)} empty sequences. Check its tokens."
        )
    return Packed(examples, tokens, lengths, length, seed, splits=longer == "split")


class Packed(RandomAccessSource):
    """Sequences packed to a fixed length.

    Attributes:
        length: Tokens of an example.
        num_tokens: Tokens of an epoch, without padding.
    """

    def __init__(
        self,
        source: RandomAccessSource,
        tokens: str | None,
        lengths: np.ndarray,
        length: int,
        seed: int,
        *,
        splits: bool,
    ) -> None:
        self.parts = (source,)
        self.length = length
        self._tokens = tokens
        sequence, start, size = _pieces(lengths, length, splits=splits)
        self.num_tokens = int(size.sum())
        bins = best_fit(size, length, seed)
        self.num_examples = len(bins.splits) - 1
        # 12 bytes for each piece and 8 for each example; 8 more for each piece of split sequences.
        with tf.device("CPU:0"):
            self._splits = tf.constant(bins.splits)
            self._sequence = tf.constant(sequence[bins.pieces])
            self._size = tf.constant(size[bins.pieces].astype(np.int32))
            self._start = tf.constant(start[bins.pieces]) if splits else None
        digest = hashlib.sha256(lengths.astype("<i8").tobytes()).hexdigest()
        self.fingerprint = (
            f"{self.num_examples} packed examples of length {length}, seed {seed}, split: {splits},"
            f" lengths {digest[:32]} of {tokens!r} of [{source.fingerprint}]"
        )

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the packed examples at `indices`, int64 [n], a dict of [n, length] tensors."""
        first = tf.gather(self._splits, indices)
        pieces_of = tf.gather(self._splits, indices + 1) - first  # number of pieces, by example
        piece = _ranges(first, pieces_of)
        size = tf.cast(tf.gather(self._size, piece), tf.int64)
        sequences = _sequences(self.parts[0].take(tf.gather(self._sequence, piece)), self._tokens)
        if isinstance(sequences, tf.RaggedTensor):
            values, begin = sequences.values, tf.cast(sequences.row_starts(), tf.int64)
        else:
            values = tf.reshape(sequences, [-1])
            begin = tf.range(tf.size(piece, tf.int64)) * tf.shape(sequences, tf.int64)[1]
        if self._start is not None:
            begin += tf.gather(self._start, piece)
        number = tf.cast(_ranges(tf.ones_like(first), pieces_of), tf.int32)
        flat = {
            "tokens": tf.gather(values, _ranges(begin, size)),
            "segment_ids": tf.repeat(number, size),
            "positions": tf.cast(_ranges(tf.zeros_like(size), size), tf.int32),
        }
        of_piece = tf.RaggedTensor.from_row_lengths(size, pieces_of, validate=False)
        lengths = tf.reduce_sum(of_piece, axis=1)
        return {name: self._padded(part, lengths, indices) for name, part in flat.items()}

    def _padded(self, flat: tf.Tensor, lengths: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        rows = tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)
        return tf.ensure_shape(
            rows.to_tensor(shape=[None, self.length]), [indices.shape[0], self.length]
        )


def row_lengths(part: Any) -> tf.Tensor:
    """Returns the lengths of the rows of a tensor [n, length, ...] or ragged tensor, int64 [n]."""
    if isinstance(part, tf.RaggedTensor):
        return tf.cast(part.row_lengths(), tf.int64)
    rows, length = tf.unstack(tf.shape(part, tf.int64)[:2])
    return tf.fill([rows], length)


def _ranges(starts: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Returns `start, start + 1, ...`, `size` numbers for each pair, one after the other."""
    before = tf.cumsum(sizes, exclusive=True)
    return tf.range(tf.reduce_sum(sizes)) + tf.repeat(starts - before, sizes)


def _pieces(
    lengths: np.ndarray, length: int, *, splits: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns sequence, first token and number of tokens of each piece."""
    if not splits:
        sequence = np.flatnonzero(lengths)
        return sequence, np.zeros_like(sequence), np.minimum(lengths[sequence], length)
    counts = -(-lengths // length)
    sequence = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * length
    return sequence, start, np.minimum(lengths[sequence] - start, length)


def _sequences(batch: Any, tokens: str | None) -> Any:
    return batch if tokens is None else batch[tokens]


def _require_sequences(source: RandomAccessSource, tokens: str | None) -> None:
    spec = batch_spec(source)
    if tokens is not None:
        if not isinstance(spec, dict) or tokens not in spec:
            keys = sorted(spec) if isinstance(spec, dict) else f"no dict, but {spec}"
            raise ValueError(
                "`tokens` must be a key of the examples, or None if an example is a sequence. "
                f"Received: tokens={tokens!r}; the keys are: {keys}."
            )
        spec = spec[tokens]
    is_one = isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec)) and spec.shape.rank == 2
    if not is_one:
        raise ValueError(
            "`tokens` must be one sequence of tokens for each example. Received: "
            f"{spec}. Choose a part that is [n, length], or ragged with n rows."
        )
