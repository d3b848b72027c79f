"""The data that the stages of a chain train on: what `fit` is passed, and how many steps it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import whole_number
from tfscale.data import Pipeline

_ROWS = 512
_BATCH = 32  # Keras's own default


@dataclass(frozen=True)
class TrainingData:
    """What the stages train on.

    Attributes:
        arguments: Of `fit`.
        steps: Batches of an epoch.
        examples: Some inputs for calibration, as `quantization_aware` takes them.
        can_be_resumed: Whether a `Checkpoint` can continue within a stage.
    """

    arguments: dict[str, Any]
    steps: int
    examples: Any
    can_be_resumed: bool = True


def training_data(
    train: Any, *, batch_size: int | None, steps_per_epoch: int | None, several_workers: bool
) -> TrainingData:
    """Finds out how many steps an epoch of the data has.

    Args:
        train: `(x, y)` or `(x, y, sample_weight)` of arrays, a `Pipeline`, a `tf.data.Dataset` of
            batches, or a `keras.utils.PyDataset`.
        batch_size: Of arrays; None for 32.
        steps_per_epoch: Of a dataset that does not know its length; None for a whole pass.
        several_workers: Whether several workers train.

    Raises:
        ValueError: If the data are something else, or their length is unknown.
    """
    if steps_per_epoch is not None:
        whole_number("steps_per_epoch", steps_per_epoch)
    if isinstance(train, tuple) and len(train) in (2, 3):
        size = _BATCH if batch_size is None else whole_number("batch_size", batch_size)
        rows = len(keras.tree.flatten(train[0])[0])
        if rows == 0:
            raise ValueError("`train` must have a row at least. Received: 0 rows. Pass more data.")
        named = dict(zip(("x", "y", "sample_weight"), train, strict=False))
        examples = keras.tree.map_structure(lambda array: array[:_ROWS], train[0])
        return TrainingData(
            {**named, "batch_size": size, "steps_per_epoch": steps_per_epoch},
            steps_per_epoch or -(-rows // size),
            examples,
        )
    if batch_size is not None:
        raise ValueError(
            "`batch_size` must be left out unless `train` is arrays. Received: "
            f"batch_size={batch_size} with a {type(train).__name__}, which has batches already."
        )
    arguments = {"x": train, "steps_per_epoch": steps_per_epoch}
    if isinstance(train, Pipeline):
        batches = -(-_ROWS // train.global_batch_size) * train.local_replicas
        own = train.local(0).take(max(1, batches))
        return TrainingData(arguments, steps_per_epoch or train.steps_per_epoch, own)
    if isinstance(train, keras.utils.PyDataset):
        steps = steps_per_epoch or len(train)
        return TrainingData(arguments, steps, train[0][0], can_be_resumed=False)
    if isinstance(train, tf.data.Dataset):
        length = int(train.cardinality())
        if length < 1 and steps_per_epoch is None:
            raise ValueError(
                "`steps_per_epoch` must be given for a dataset of unknown length. Received: "
                f"cardinality {length}. Pass it, or dataset.apply(tf.data.experimental."
                "assert_cardinality(n))."
            )
        # Workers may read different batches, and must find equal ranges.
        examples = train.take(8) if not several_workers else None
        return TrainingData(arguments, steps_per_epoch or length, examples)
    raise ValueError(
        "`train` must be (x, y) or (x, y, sample_weight) of arrays, a Pipeline, a tf.data.Dataset "
        f"or a PyDataset. Received: {type(train).__name__}. A generator ends after one stage."
    )
