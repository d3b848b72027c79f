"""A source that keeps some examples of another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.extension import function, text
from tfscale.data.composition.evaluation import evaluated
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.mixtures import Mixture
from tfscale.data.composition.requirements import one_order, random_access
from tfscale.data.sources import RandomAccessSource

Keep = Callable[[Any], tf.Tensor]


def filtered(
    source: Any,
    keep: Keep,
    *,
    version: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> RandomAccessSource:
    """Keeps the examples for which a function returns True.

    The function is evaluated once for all examples. With a `cache_dir` the result is stored there,
    one bit an example, and later starts evaluate the function for 1,000 random examples only, to
    notice that it or the data changed. Every worker evaluates it, unless all share the folder and
    find the result there.

    The result is found by a hash of the source and of `version`. Without a version, the hash is of
    the function: its bytecode, constants, and all values and functions that it refers to. If one of
    them has no stable hash, such as an object of your own class, nothing is cached. Arrays are
    hashed completely.

    A filtered mixture is a mixture of its filtered sources, with the same weights.

    Args:
        source: The examples: a source of `tfscale.data`, or arrays.
        keep: Maps a batch of n examples to bool [n]. Traced. It must depend on each example only.
        version: Text that you change whenever `keep` changes, or None for the hash of the function.
        cache_dir: Folder of cached results, or None to evaluate at every start.

    Returns:
        A source.

    Raises:
        ValueError: If no example is kept, `keep` returns another type or shape, or the cached
            result differs from what it returns.

    Example:
        >>> even = filtered(np.arange(10), lambda x: x % 2 == 0)
        >>> even.take(tf.range(even.num_examples, dtype=tf.int64)).numpy().tolist()
        [0, 2, 4, 6, 8]
    """
    function("keep", keep)
    if version is not None:
        text("version", version)
    examples = random_access(source)
    if isinstance(examples, Mixture):
        return examples.with_parts(
            filtered(part, keep, version=version, cache_dir=cache_dir) for part in examples.parts
        )
    examples = one_order(examples, "filtered", "Filter the source before it is bucketed.")
    key = function_key(keep) if version is None else f"version {version}"
    is_kept = evaluated(examples, keep, name="keep", dtype=tf.bool, key=key, cache_dir=cache_dir)
    kept = np.flatnonzero(is_kept).astype(np.int64)
    if not len(kept):
        raise ValueError(
            "`keep` must return True for at least one example. Received: False for all "
            f"{len(is_kept)} examples. Check the condition."
        )
    return Filtered(examples, kept)


class Filtered(RandomAccessSource):
    """Some examples of a source, in its order.

    Attributes:
        kept: int64 [num_examples], ascending indices of the source.
    """

    def __init__(self, source: RandomAccessSource, kept: np.ndarray) -> None:
        self.parts = (source,)
        self.num_examples = len(kept)
        digest = hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()
        self.fingerprint = f"{len(kept)} examples ({digest[:32]}) of [{source.fingerprint}]"
        with tf.device("CPU:0"):
            self.kept = tf.constant(kept)

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as a structure of [n, ...] tensors."""
        return self.parts[0].take(tf.gather(self.kept, indices))

    def take_encoded(self, indices: tf.Tensor) -> Any:
        """Reads the examples at `indices`, int64 [n], without decoding them."""
        return self.parts[0].take_encoded(tf.gather(self.kept, indices))

    @property
    def is_encoded(self) -> bool:  # type: ignore[override]
        """Whether the source's examples are."""
        return self.parts[0].is_encoded
