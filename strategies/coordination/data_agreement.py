"""The same global batches for all workers: what would differ is agreed on, or refused.

Every worker reads the same global batches and keeps its share. With a shuffle that each worker
seeds for itself, the shares overlap and miss examples, and no error says so.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from strategies.coordination.rendezvous import exchange, refusal_by_all

UNSEEDED = (0, 0)


@contextlib.contextmanager
def agreed_seed(strategy: tf.distribute.Strategy) -> Iterator[bool]:
    """Makes the random ops that are built inside draw alike on all workers.

    Workers that were seeded alike (`keras.utils.set_random_seed`) are left alone and draw what one
    device would; otherwise the first worker chooses.

    Args:
        strategy: A strategy of several workers, all of which are here.

    Yields:
        Whether the first worker chose.
    """
    outer = context.global_seed()
    choice = f"{outer} {secrets.randbits(31)}"  # Python's own state is the user's
    answers = exchange(strategy, "seed of the order of examples", choice)
    seeds = {answer.partition(" ")[0] for answer in answers}
    if len(seeds) == 1 and outer is not None:
        yield False
        return
    draws = getattr(context.context(), "_rng", None)  # what unseeded ops draw their seeds from
    tf.random.set_seed(int(answers[0].partition(" ")[2]))
    try:
        yield True
    finally:
        tf.random.set_seed(outer)
        context.context()._rng = draws  # to set a seed is to begin its draws again


def refuse_disagreeing_shuffles(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> None:
    """Checks that all workers shuffle alike.

    Args:
        strategy: A strategy of several workers, all of which are here.
        dataset: The dataset that each of them was given.

    Raises:
        ValueError: If a shuffle has no seed, or not the same seeds on all workers.
    """
    seeds = shuffle_seeds(dataset)
    answers = exchange(strategy, "seeds of the dataset's shuffles", repr(seeds))
    if UNSEEDED in seeds or len(set(answers)) > 1:
        said = "; ".join(f"worker {i}: {answer}" for i, answer in enumerate(answers))
        raise refusal_by_all(
            "`x` must be in the same order on every worker, each of which trains on its share of "
            f"every batch. Received: shuffles with the seeds {said}, where (0, 0) is none. Give "
            "`shuffle` the same `seed` everywhere, call keras.utils.set_random_seed first, or use "
            "tfscale.data.input_pipeline."
        )


def refuse_disagreeing_lengths(
    strategy: tf.distribute.Strategy,
    num_batches: int | None,
    batch_size: int | None,
    last_batch_size: int | None,
    words: str = "",
) -> list[str]:
    """Checks that all workers were given the same batches, as far as numbers tell.

    Args:
        strategy: A strategy of several workers, all of which are here.
        num_batches: Global batches an epoch, or None where that is not known.
        batch_size: Examples of a global batch, or None where that is not known.
        last_batch_size: Examples of the last one, where it is smaller and that is known.
        words: What else this worker has to say, so that one exchange does for both.

    Returns:
        The words of all workers.

    Raises:
        ValueError: If the workers' numbers differ.
    """
    own = f"{num_batches} batches of {batch_size}"
    own += f" and a last one of {last_batch_size}" if last_batch_size else ""
    answers = exchange(strategy, "number of batches", f"{own}\n{words}")
    numbers = [answer.partition("\n")[0] for answer in answers]
    if len(set(numbers)) > 1:
        said = "; ".join(f"worker {i}: {number}" for i, number in enumerate(numbers))
        raise refusal_by_all(
            "`x` must hold the same number of batches on every worker, each of which trains on its "
            f"share of every batch. Received: {said}. Pass all workers the same data, uncut."
        )
    return [answer.partition("\n")[2] for answer in answers]


def shuffle_seeds(dataset: tf.data.Dataset) -> list[tuple[int, int]]:
    """Returns the pair of seeds of each `shuffle` in a dataset, the one nearest the source first.

    Example:
        >>> shuffle_seeds(tf.data.Dataset.range(8).shuffle(4))
        [(0, 0)]
    """
    graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    return [pair for nodes in bodies for pair in _seeds_of(nodes)]


def has_random_operations(dataset: tf.data.Dataset) -> bool:
    """Tells whether a dataset's functions draw random numbers, as augmentation does.

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
