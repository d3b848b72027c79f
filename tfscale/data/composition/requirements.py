"""What a composition requires of the sources that it is made of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfscale.data.sources import RandomAccessSource, as_source


def random_access(source: Any) -> RandomAccessSource:
    """Returns what `input_pipeline` accepts as a source with random access.

    Raises:
        ValueError: If it is a `tf.data.Dataset`.
    """
    found = as_source(source)
    if isinstance(found, RandomAccessSource):
        return found
    raise ValueError(
        "`source` must have random access. Received: a tf.data.Dataset. Pass arrays or a source of "
        "tfscale.data, or use the methods of the dataset, such as Dataset.filter."
    )


def one_order(source: Any, composition: str, cure: str) -> RandomAccessSource:
    """Returns a source whose epochs all have the same examples, in the order of the pipeline.

    Raises:
        ValueError: If it is not one, such as a mixture.
    """
    found = random_access(source)
    if is_plain(found):
        return found
    raise ValueError(
        f"`source` of {composition} must not be a mixture or bucketed. Received: a "
        f"{type(found).__name__}. {cure}"
    )


def is_plain(source: RandomAccessSource) -> bool:
    """Whether a source has no order and no division of its own."""
    kind, plain = type(source), RandomAccessSource
    return kind.indices is plain.indices and kind.division is plain.division


def batch_spec(source: RandomAccessSource) -> Any:
    """Returns the structure of `tf.TypeSpec` of a batch of any number of examples."""
    return tf.data.Dataset.range(1).batch(1).map(source.take).element_spec
