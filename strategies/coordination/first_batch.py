"""The first global batch of each worker: the same on all, or the data was cut before.

Every worker reads all global batches and keeps its share of each. Data that the user has cut for
the workers, as for Horovod (`x[rank::size]`), would be cut twice: half of it trains, silently.
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

from strategies.coordination.rendezvous import refusal_by_all

_MOST_ROWS = 20_000
"""Rows up to which it is looked whether they are the same in another order."""


def batch_digest(batch: Any) -> str:
    """Returns as JSON what tells one batch from another.

    Args:
        batch: `x`, or a tuple `(x,)`, `(x, y)` or `(x, y, sample_weight)`, of arrays or tensors in
            any structure. Inputs are judged with the targets where these do not tell rows apart.

    Example:
        >>> batch_digest(([[1.0]], [2])) == batch_digest(([[1.0]], [2]))
        True
    """
    parts = batch if isinstance(batch, tuple) else (batch,)
    inputs, targets = arrays_of(parts[0]), arrays_of(parts[1:])
    return digest_of_arrays(inputs, targets)


def digest_of_arrays(inputs: list[np.ndarray], targets: list[np.ndarray]) -> str:
    """Like `batch_digest`, of what is arrays already."""
    is_telling = bool(targets) and _tell_rows(targets)
    judged = targets if is_telling else [*inputs, *targets]
    return json.dumps(
        {
            "inputs": _digest(inputs),
            "targets": _digest(targets),
            "rows": _digest_of_rows(judged),
            "is_telling": is_telling,
        }
    )


def arrays_of(structure: Any) -> list[np.ndarray]:
    """Returns the arrays of a structure; sparse and ragged tensors as their parts."""
    leaves = tf.nest.flatten(structure, expand_composites=True)
    return [np.asarray(leaf) for leaf in leaves if is_data(leaf)]


def is_data(leaf: Any) -> bool:
    """Tells whether a part of a batch holds values; None and its stand-in in tf.data do not."""
    if leaf is None or isinstance(leaf, tf.experimental.Optional):
        return False
    return getattr(leaf, "dtype", None) not in (tf.variant, tf.resource)


def refuse_other_batches(
    digests: list[str], is_augmented: Callable[[], bool] = lambda: False
) -> str:
    """Checks that all workers were given the same first global batch.

    Args:
        digests: `batch_digest` of each worker's.
        is_augmented: Tells whether inputs come from random operations. Asked where targets say
            too little; must answer alike on all workers.

    Returns:
        What to report where only inputs differ, as by augmentation; else "".

    Raises:
        ValueError: If targets differ, or inputs whose targets do not tell one row from another.
    """
    said = [json.loads(digest) for digest in digests]

    def others(name: str) -> list[int]:
        return [i for i, one in enumerate(said) if one.get(name) != said[0].get(name)]

    targets, inputs = others("targets"), others("inputs")
    is_telling = all(one.get("is_telling", True) for one in said)
    if inputs and not targets and (is_telling or is_augmented()):
        return (
            f"the first global batch has other inputs on {_workers(inputs)} than on worker 0, "
            "with the same targets. That is right for augmentation without a seed, of which each "
            "worker draws its own; results then depend on the number of workers."
        )
    if not targets and not inputs:
        return ""
    who = _workers(targets or inputs)
    if said[0].get("rows") and not others("rows"):
        raise refusal_by_all(
            "`x` must come in the same order on every worker, each of which trains on its "
            f"share of every batch. Received: on {who} the first global batch holds the rows "
            "of worker 0 in another order. Shuffle with one seed on every worker "
            "(keras.utils.set_random_seed, np.random.default_rng(0)), or let `fit` shuffle."
        )
    raise refusal_by_all(
        "`x` must be the whole data on every worker, each of which trains on its share of "
        f"every global batch. Received: on {who} the first global batch has other rows than on "
        "worker 0 (other targets, or other inputs where targets do not tell rows apart). Pass "
        "all of it on every worker, and what is random in it with one seed "
        "(keras.utils.set_random_seed). Data that is cut for the workers already "
        "(x[rank::size], .shard, a generator for each) is passed with "
        "strategy.distribute_datasets_from_function and `steps_per_epoch`."
    )


def _tell_rows(targets: list[np.ndarray]) -> bool:
    """Tells whether other rows would have other targets: not where a class or two fill a batch.

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
    """Returns a digest that no order of rows changes, or None where that is not known."""
    rows = _rows(arrays)
    if rows is None:
        return None
    total = sum(
        int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little") for row in rows
    )
    return f"{total % 2**64:016x}"


def _rows(arrays: list[np.ndarray]) -> list[bytes] | None:
    """Returns the bytes of each row, or None where the arrays have no rows, or very many."""
    lengths = {len(array) if array.ndim else -1 for array in arrays}
    if len(lengths) != 1 or not 0 < max(lengths) <= _MOST_ROWS:
        return None
    return [b"".join(_bytes(np.asarray(part)) for part in row) for row in zip(*arrays, strict=True)]


def _bytes(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).tobytes()
