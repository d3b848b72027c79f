"""Makes all workers read the same global batches, or raises an error if they would differ.

Every worker reads the same global batches and keeps the rows of its replicas. If each worker
shuffled with a different seed, some examples would be used twice and some not at all, without an
error.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from strategies.coordination.rendezvous import error_on_all_workers, exchange

UNSEEDED = (0, 0)


@contextlib.contextmanager
def agreed_seed(strategy: tf.distribute.Strategy) -> Iterator[bool]:
    """Gives the random ops that are built inside the same seed on all workers.

    Workers with the same seed (`keras.utils.set_random_seed`) keep it, and draw the same numbers as
    one device. Otherwise the first worker chooses a seed.

    Args:
        strategy: A strategy of several workers, all of which call this.

    Yields:
        Whether the first worker chose the seed.
    """
    outer = context.global_seed()
    choice = f"{outer} {secrets.randbits(31)}"  # Python's random state is the user's
    answers = exchange(strategy, "seed of the order of examples", choice)
    seeds = {answer.partition(" ")[0] for answer in answers}
    if len(seeds) == 1 and outer is not None:
        yield False
        return
    with _global_seed(int(answers[0].partition(" ")[2])):
        yield True


@contextlib.contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Sets TensorFlow's global seed, and puts back the user's with the draws that were taken.

    Not with `tf.random.set_seed`: it also removes every kernel from TensorFlow's cache. All traced
    functions would be instantiated again, which takes 0.7 s of processor for a two-layer
    transformer, and the user's own random operations would start again.
    """
    state = context.context()
    outer = (state._seed, getattr(state, "_rng", None))  # without a seed there may be no _rng
    state._seed, state._rng = seed, random.Random(seed)
    try:
        yield
    finally:
        state._seed, state._rng = outer


def refuse_disagreeing_shuffles(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> None:
    """Checks that all workers shuffle in the same order.

    Args:
        strategy: A strategy of several workers, all of which call this.
        dataset: The dataset of this worker.

    Raises:
        ValueError: If a shuffle has no seed, or other seeds on another worker.
    """
    seeds = shuffle_seeds(dataset)
    answers = exchange(strategy, "seeds of the dataset's shuffles", repr(seeds))
    if UNSEEDED in seeds or len(set(answers)) > 1:
        found = "; ".join(f"worker {i}: {answer}" for i, answer in enumerate(answers))
        raise error_on_all_workers(
            "`x` must be in the same order on every worker, because each trains on a part of every "
            f"batch. Received: shuffles with the seeds {found}, where (0, 0) means no seed. Give "
            "`shuffle` the same `seed` everywhere, call keras.utils.set_random_seed first, or use "
            "tfscale.data.input_pipeline."
        )


def refuse_disagreeing_lengths(
    strategy: tf.distribute.Strategy,
    num_batches: int | None,
    batch_size: int | None,
    last_batch_size: int | None,
    message: str = "",
) -> list[str]:
    """Checks that all workers have the same number of batches, of the same sizes.

    Args:
        strategy: A strategy of several workers, all of which call this.
        num_batches: Global batches per epoch, or None if unknown.
        batch_size: Examples of a global batch, or None if unknown.
        last_batch_size: Examples of the last batch, if it is smaller and known.
        message: Another message of this worker, sent in the same exchange.

    Returns:
        The messages of all workers.

    Raises:
        ValueError: If the numbers of the workers differ.
    """
    own = f"{num_batches} batches of {batch_size}"
    own += f" and a last one of {last_batch_size}" if last_batch_size else ""
    answers = exchange(strategy, "number of batches", f"{own}\n{message}")
    numbers = [answer.partition("\n")[0] for answer in answers]
    if len(set(numbers)) > 1:
        found = "; ".join(f"worker {i}: {number}" for i, number in enumerate(numbers))
        raise error_on_all_workers(
            "`x` must have the same number of batches on every worker, because each trains on a "
            f"part of every batch. Received: {found}. Pass all workers the same data, not sharded."
        )
    return [answer.partition("\n")[2] for answer in answers]


def shuffle_seeds(dataset: tf.data.Dataset) -> list[tuple[int, int]]:
    """Returns the pair of seeds of each `shuffle` in a dataset, nearest to the source first.

    Example:
        >>> shuffle_seeds(tf.data.Dataset.range(8).shuffle(4))
        [(0, 0)]
    """
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return [pair for nodes in bodies for pair in _seeds_of(nodes)]


def has_random_operations(dataset: tf.data.Dataset) -> bool:
    """Returns whether functions of a dataset draw random numbers, as in augmentation.

    Example:
        >>> has_random_operations(tf.data.Dataset.range(8).shuffle(4))
        False
    """
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    operations = (node.op for function in graph.library.function for node in function.node_def)
    return any("Random" in name for name in operations)


def _seeds_of(nodes: Any) -> Iterator[tuple[int, int]]:
    constants = {
        node.name: node.attr["value"].tensor
        for node in nodes
        if node.op == "Const" and node.attr["dtype"].type == tf.int64.as_datatype_enum
    }
    for node in nodes:
        if node.op.startswith(("ShuffleDataset", "ShuffleAndRepeatDataset")):
            pair = [constants.get(name.partition(":")[0]) for name in node.input[2:4]]
            if all(seed is not None for seed in pair):
                first, second = (int(tf.make_ndarray(seed)) for seed in pair)
                yield first, second
