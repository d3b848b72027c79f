"""Compares the first global batch of all workers, to detect data that is already sharded.

Every worker reads all global batches and keeps the rows of its replicas. Data that the user has
sharded, as for Horovod (`x[rank::size]`), would be sharded twice: half of it would silently not
be used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from strategies.coordination.rendezvous import error_on_all_workers

_MOST_ROWS = 20_000
"""Up to this many rows are compared regardless of their order."""


def batch_digest(batch: Any) -> str:
    """Returns a digest of a batch, as JSON.

    Args:
        batch: `x`, or a tuple `(x,)`, `(x, y)` or `(x, y, sample_weight)`, of arrays or tensors in
            any structure. The rows are those of the targets, or of inputs and targets if the
            targets do not distinguish rows.

    Example:
        >>> batch_digest(([[1.0]], [2])) == batch_digest(([[1.0]], [2]))
        True
    """
    parts = batch if isinstance(batch, tuple) else (batch,)
    inputs, targets = arrays_of(parts[0]), arrays_of(parts[1:])
    return digest_of_arrays(inputs, targets)


def digest_of_arrays(inputs: list[np.ndarray], targets: list[np.ndarray]) -> str:
    """Returns the `batch_digest` of arrays."""
    is_distinct = bool(targets) and _distinguish_rows(targets)
    compared = targets if is_distinct else [*inputs, *targets]
    return json.dumps(
        {
            "inputs": _digest(inputs),
            "targets": _digest(targets),
            "rows": _digest_of_rows(compared),
            "is_distinct": is_distinct,
        }
    )


def arrays_of(structure: Any) -> list[np.ndarray]:
    """Returns the arrays of a structure, with sparse and ragged tensors as their components."""
    leaves = tf.nest.flatten(structure, expand_composites=True)
    return [np.asarray(leaf) for leaf in leaves if is_data(leaf)]


def is_data(leaf: Any) -> bool:
    """Returns whether a part of a batch has values; None and its equivalent in tf.data do not."""
    if leaf is None or isinstance(leaf, tf.experimental.Optional):
        return False
    return getattr(leaf, "dtype", None) not in (tf.variant, tf.resource)


def refuse_other_batches(
    digests: list[str], is_augmented: Callable[[], bool] = lambda: False
) -> str:
    """Checks that the first global batch is the same on all workers.

    Args:
        digests: The `batch_digest` of each worker.
        is_augmented: Returns whether inputs come from random operations. Called if the targets do
            not distinguish rows; must return the same on all workers.

    Returns:
        A warning if only inputs differ, as with augmentation; else "".

    Raises:
        ValueError: If targets differ, or inputs whose targets do not distinguish rows.
    """
    found = [json.loads(digest) for digest in digests]

    def others(name: str) -> list[int]:
        return [i for i, one in enumerate(found) if one.get(name) != found[0].get(name)]

    targets, inputs = others("targets"), others("inputs")
    is_distinct = all(one.get("is_distinct", True) for one in found)
    if inputs and not targets and (is_distinct or is_augmented()):
        return (
            f"the first global batch has other inputs on {_workers(inputs)} than on worker 0, "
            "with the same targets. This is expected for augmentation without a seed, which "
            "differs between workers; results then depend on the number of workers."
        )
    if not targets and not inputs:
        return ""
    who = _workers(targets or inputs)
    if found[0].get("rows") and not others("rows"):
        raise error_on_all_workers(
            "`x` must come in the same order on every worker, because each trains on a part of "
            f"every batch. Received: on {who} the first global batch has the rows of worker 0 in "
            "another order. Shuffle with one seed on every worker "
            "(keras.utils.set_random_seed, np.random.default_rng(0)), or let `fit` shuffle."
        )
    raise error_on_all_workers(
        "`x` must be the whole data on every worker, because each trains on a part of every "
        f"global batch. Received: on {who} the first global batch has other rows than on worker "
        "0 (other targets, or other inputs if targets do not distinguish rows). Pass all data on "
        "every worker, with one seed for random parts (keras.utils.set_random_seed). Pass data "
        "that is already sharded (x[rank::size], .shard, a generator per worker) with "
        "strategy.distribute_datasets_from_function and `steps_per_epoch`."
    )


def _distinguish_rows(targets: list[np.ndarray]) -> bool:
    """Returns whether other rows would have other targets; not if one or two classes fill a batch.

    With c_k rows of target k there are n! / prod(c_k!) orders of them; 20 bits are a million.
    """
    rows = _rows(targets)
    if rows is None:
        return True
    counts = Counter(rows).values()
    if len(counts) >= 3 and 2 * len(counts) > len(rows):
        return True  # numbers, or many classes
    orders = math.lgamma(len(rows) + 1) - sum(math.lgamma(count + 1) for count in counts)
    return orders >= 20 * math.log(2)


def _workers(indices: list[int]) -> str:
    named = ", ".join(str(index) for index in indices[:3])
    return f"worker {named}" + (f" and {len(indices) - 3} more" if len(indices) > 3 else "")


def _digest(arrays: list[np.ndarray]) -> str:
    total = hashlib.blake2b(digest_size=8)
    for array in arrays:
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(_bytes(array))
    return total.hexdigest()


def _digest_of_rows(arrays: list[np.ndarray]) -> str | None:
    """Returns a digest that does not depend on the order of rows, or None if unknown."""
    rows = _rows(arrays)
    if rows is None:
        return None
    total = sum(
        int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little") for row in rows
    )
    return f"{total % 2**64:016x}"


def _rows(arrays: list[np.ndarray]) -> list[bytes] | None:
    """Returns the bytes of each row, or None if the arrays have no rows, or very many."""
    lengths = {len(array) if array.ndim else -1 for array in arrays}
    if len(lengths) != 1 or not 0 < max(lengths) <= _MOST_ROWS:
        return None
    return [b"".join(_bytes(np.asarray(part)) for part in row) for row in zip(*arrays, strict=True)]


def _bytes(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).tobytes()
