"""The order of examples in an epoch: a permutation that is a pure function of the position.

Nothing is shuffled in memory. The example at position `p` of epoch `e` is a function of
`(seed, e, p)` and the number of examples. So every worker knows its rows without communication, and
a run resumes in mid-epoch at any step.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import tensorflow as tf

from strategies.extension import whole_number

# With TensorFlow's default of 4, adjacent positions correlate: with 60,000 examples batches are too
# uniform (0.75 of the variance of a random draw). 8 rounds pass all our tests and cost an eighth
# more.
_ROUNDS = 8
_PRIMES = (0x9E3779B1, 0x85EBCA6B)


@dataclass(frozen=True)
class BlockShuffle:
    """Shuffles blocks of neighbouring examples, then examples within a window of blocks.

    An epoch reads whole blocks, so that a slow disk or a remote file reads long pieces. The blocks
    are in random order. The examples of `window` consecutive blocks are in random order too. A
    batch has examples of up to `window` blocks, so that it is less mixed than with a full
    permutation; docs/concepts/input_order.md has measurements.

    Attributes:
        block: Neighbouring examples of a block. Positive.
        window: Blocks whose examples are mixed. Positive.

    Raises:
        ValueError: If one is not a positive integer.

    Example:
        >>> BlockShuffle(block=256, window=16)
        BlockShuffle(block=256, window=16)
    """

    block: int = 256
    window: int = 64

    def __post_init__(self) -> None:
        whole_number("block", self.block, cure="Count examples.")
        whole_number("window", self.window, cure="Count blocks.")


@dataclass(frozen=True)
class Order:
    """The order of the examples in each epoch, a pure function of the position.

    Attributes:
        seed: Seed of the epochs' orders, in `[0, 2**31)`, or None for the order of the source.
        blocks: How blocks are shuffled, or None for a permutation of all examples.
    """

    seed: int | None
    blocks: BlockShuffle | None = None

    def indices(self, positions: tf.Tensor, epochs: tf.Tensor, num_examples: int) -> tf.Tensor:
        """Returns the indices of the examples at positions of epochs.

        Args:
            positions: int64 [n], each in `[0, num_examples)`.
            epochs: int64, a scalar or [n]; not negative.
            num_examples: Examples of an epoch. Positive.

        Returns:
            int64 [n]. Over all positions of an epoch, each example occurs once.

        Example:
            >>> order = Order(seed=3)
            >>> indices = order.indices(tf.range(7, dtype=tf.int64), tf.constant(0, tf.int64), 7)
            >>> sorted(indices.numpy().tolist())
            [0, 1, 2, 3, 4, 5, 6]
        """
        if self.seed is None:
            return positions
        keys = _epoch_keys(epochs, self.seed)
        if self.blocks is None:
            return _permuted(positions, keys, (num_examples,))
        return _block_permuted(positions, keys, num_examples, self.blocks)

    def of_part(self, part: int) -> Order:
        """Returns the order of a part of a source, so that equal parts have different orders.

        Args:
            part: Number of the part. Not negative.
        """
        if self.seed is None:
            return self
        digest = hashlib.sha256(f"{self.seed}, part {part}".encode()).digest()
        return dataclasses.replace(self, seed=int.from_bytes(digest[:4], "little") % 2**31)

    @property
    def description(self) -> str:
        """Text that two orders share only if they are equal."""
        if self.seed is None:
            return "order of the source"
        kind = "permutation" if self.blocks is None else repr(self.blocks)
        return f"{kind}, seed {self.seed}"


def _permuted(
    positions: tf.Tensor, keys: tf.Tensor, sizes: tuple[int, ...], size: tf.Tensor | None = None
) -> tf.Tensor:
    """Permutes positions with a cipher.

    TensorFlow's op is no permutation of 4**k + 1 numbers, for k from 8: its cipher has 2k bits, one
    too few for the largest number. (TensorFlow 2.21, `ceil(log2(max_index))` in index_shuffle.cc.)
    Then one number more is permuted, and the position that gets it gets what it would have had.

    Args:
        positions: int64 [n].
        keys: uint32 [3], or [n, 3] for each position.
        sizes: The numbers of examples that occur.
        size: int64 [n], which of them it is for each position. None if there is only one.

    Source: Beaulieu et al. 2013, "The SIMON and SPECK Families of Lightweight Block Ciphers",
    IACR eprint 2013/404 (the cipher of TensorFlow's op).
    """

    def permuted(index: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.RandomIndexShuffle(
            index=index, seed=keys, max_index=of - 1, rounds=_ROUNDS
        )

    wanted = tf.constant(sizes[0], tf.int64) if size is None else size
    short = [one for one in sizes if _is_too_large_by_one(one)]
    if not short:
        return permuted(positions, wanted)
    is_short = tf.reduce_any([wanted == one for one in short], axis=0)
    more = wanted + tf.cast(is_short, tf.int64)
    found = permuted(positions, more)
    extra = tf.broadcast_to(wanted, tf.shape(positions))
    return tf.where(found == extra, permuted(tf.minimum(extra, more - 1), more), found)


def _is_too_large_by_one(size: int) -> bool:
    """Whether a size is 4**k + 1 with k from 8."""
    last = size - 1
    return last >= 2**16 and last.bit_count() == 1 and last.bit_length() % 2 == 1


def _block_permuted(
    positions: tf.Tensor, keys: tf.Tensor, num_examples: int, blocks: BlockShuffle
) -> tf.Tensor:
    block, window = blocks.block, min(blocks.block * blocks.window, num_examples)
    # First within a window of positions; the last window may be shorter.
    number = positions // window
    size = tf.minimum(tf.constant(window, tf.int64), num_examples - number * window)
    within = _permuted(
        positions % window, _mixed(keys, number + 1), (window, num_examples % window), size
    )
    positions = number * window + within
    # Then the blocks. The last block of the source may be short; it has a random place.
    num_full = -(-num_examples // block) - 1
    block_keys = _mixed(keys, tf.zeros_like(positions))
    last_size = num_examples - num_full * block
    last_place = tf.cast(block_keys[:, 0], tf.int64) % (num_full + 1)
    is_before, first = positions < last_place * block, last_place * block
    is_last = tf.logical_and(~is_before, positions < first + last_size)
    shifted = tf.where(is_before, positions, positions - last_size)
    full = _permuted(
        tf.where(is_last, tf.zeros_like(shifted), shifted // block), block_keys, (max(num_full, 1),)
    )
    of_last = num_full * block + positions - first
    return tf.where(is_last, of_last, full * block + shifted % block)


def _mixed(keys: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Returns uint32 [n, 3], hashes of keys [3] or [n, 3] and of numbers, int64 [n]."""
    mask = 0xFFFFFFFF
    mixed = tf.cast(keys, tf.int64) + (numbers[:, tf.newaxis] * _PRIMES[0] & mask)
    for prime in _PRIMES:  # the last step of MurmurHash3
        mixed = mixed & mask
        mixed = tf.bitwise.bitwise_xor(mixed, mixed // 2**16) * prime & mask
    mixed = tf.bitwise.bitwise_xor(mixed, mixed // 2**15)
    return tf.cast(mixed, tf.uint32)


def _epoch_keys(epochs: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns `epoch_key` for a scalar, uint32 [3], or for int64 [n], uint32 [n, 3]."""
    if epochs.shape.rank == 0:
        return epoch_key(epochs, seed)
    distinct, where = tf.unique(epochs)
    keys = tf.map_fn(lambda epoch: epoch_key(epoch, seed), distinct, fn_output_signature=tf.uint32)
    return tf.gather(tf.ensure_shape(keys, [None, 3]), where)


def epoch_key(epoch: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns uint32 [3], a hash of an epoch and a seed.

    The permutation uses only as many low bits of its key as an index has, without mixing them. With
    keys (seed, epoch), orders would repeat after 256 epochs of 1,000 examples, and consecutive
    epochs would have nearly the same order.

    Args:
        epoch: int64 scalar, not negative.
        seed: Seed of the run. In `[0, 2**31)`.
    """
    return tf.random.stateless_uniform(
        [3],
        seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
        minval=None,
        maxval=None,
        dtype=tf.uint32,
        alg="philox",  # "auto" differs on TPUs, and all hosts need the same
    )


def example_seeds(positions: tf.Tensor, epoch: tf.Tensor, seed: int) -> tf.Tensor:
    """Returns a random seed for each example, for instance for its augmentation.

    Args:
        positions: int64 [n], positions in the epoch's order.
        epoch: int64, a scalar or [n]; not negative.
        seed: Seed of the run. In `[0, 2**31)`.

    Returns:
        int64 [n, 2] for TensorFlow's stateless random ops, different for every example of every
        epoch and the same for any number of replicas.

    Example:
        >>> seeds = example_seeds(tf.range(2, dtype=tf.int64), tf.constant(5, tf.int64), seed=0)
        >>> seeds.numpy().tolist()
        [[2246822512, 0], [2246822512, 1]]
    """
    key = tf.constant(seed * _PRIMES[0] + _PRIMES[1], tf.int64) + epoch
    return tf.stack([tf.broadcast_to(key, tf.shape(positions)), positions], axis=1)
