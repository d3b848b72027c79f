"""A source whose examples are those of another, changed by a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from strategies.extension import function, text
from tfscale.data.batches import same_rows
from tfscale.data.composition.function_key import function_key
from tfscale.data.composition.mixtures import Mixture
from tfscale.data.composition.requirements import one_order, random_access
from tfscale.data.sources import RandomAccessSource

MapBatch = Callable[[Any], Any]


def mapped(source: Any, fn: MapBatch, *, version: str | None = None) -> RandomAccessSource:
    """Changes batches of a source by a function.

    It does what `preprocess` of `input_pipeline` does, but as a source, which can be mixed,
    filtered and, above all, cached: `cached(mapped(source, fn), folder)` is a snapshot of the
    examples after `fn`. A mapped mixture is a mixture of its mapped sources.

    Args:
        source: The examples: a source of `tfscale.data`, or arrays.
        fn: Maps a batch of n examples to a batch of n examples. Traced. An example of the result
            must depend on that of the source only, so it must not be random: use `augment`.
        version: Text that you change whenever `fn` changes, or None for a hash of the function. It
            is part of the key of a cache.

    Returns:
        A source.

    Raises:
        ValueError: If `source` is bucketed, or `fn` returns another number of examples.

    Example:
        >>> source = mapped(tf.range(5), lambda x: x * x)
        >>> source.take(tf.constant([4, 1], tf.int64)).numpy().tolist()
        [16, 1]
    """
    function("fn", fn)
    if version is not None:
        text("version", version)
    key = function_key(fn) if version is None else f"version {version}"
    examples = random_access(source)
    if isinstance(examples, Mixture):
        return examples.with_parts(mapped(part, fn, version=version) for part in examples.parts)
    examples = one_order(examples, "mapped", "Map the source before it is bucketed.")
    return Mapped(examples, fn, key)


class Mapped(RandomAccessSource):
    """Examples of a source, changed by a function.

    Attributes:
        key: Text that differs if the function does; "" if that cannot be known.
    """

    def __init__(self, source: RandomAccessSource, fn: MapBatch, key: str | None) -> None:
        self.parts = (source,)
        self.num_examples = source.num_examples
        self.key = key or ""
        self.fingerprint = f"mapped by {self.key or 'a function'} of [{source.fingerprint}]"
        self._fn = fn

    def take(self, indices: tf.Tensor) -> Any:
        """Returns the examples at `indices`, int64 [n], as `fn` returns them."""
        return same_rows("fn", self._fn(self.parts[0].take(indices)), indices)

    is_encoded = True

    def take_encoded(self, indices: tf.Tensor) -> Any:
        """Reads the examples at `indices`, int64 [n], before they are decoded and changed."""
        return self.parts[0].take_encoded(indices)
