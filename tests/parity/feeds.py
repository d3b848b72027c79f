"""How examples are passed to `fit`: the kinds of input that Keras takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tests.parity.beside import with_parts
from tests.parity.configuration import Configuration
from tests.parity.examples import Examples
from tests.parity.kinds import kind_of


class Batches(keras.utils.PyDataset):
    """Global batches as a PyDataset."""

    def __init__(self, examples: Examples, batch: int) -> None:
        super().__init__()
        self.batches = list(_batches(examples, batch))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.batches[index]


def feed(
    configuration: Configuration,
    examples: Examples,
    strategy: tf.distribute.Strategy,
    is_ours: bool,
) -> dict[str, Any]:
    """Returns the arguments of `fit` that pass the examples, in order.

    Args:
        configuration: `data` decides their kind.
        examples: Of one epoch.
        strategy: For which a pipeline is built.
        is_ours: Whether the strategy is of `strategies`.
    """
    kind, batch, epochs = configuration.data, configuration.batch, configuration.epochs
    endless = {"epochs": epochs, "steps_per_epoch": configuration.steps_per_epoch}
    if kind == "arrays":
        return _arrays(configuration, examples)
    if kind == "dataset":
        return {"x": _dataset(configuration, examples, is_ours), "epochs": epochs}
    if kind == "unknown_length":
        dataset = _dataset(configuration, examples, is_ours)
        return {"x": dataset.filter(lambda *_: True), "epochs": epochs}
    if kind == "endless":
        return {"x": _dataset(configuration, examples, is_ours).repeat(), **endless}
    if kind == "pydataset":
        return {"x": Batches(examples, batch), "epochs": epochs, "shuffle": False}
    if kind == "generator":
        return {"x": (b for _ in range(epochs) for b in _batches(examples, batch)), "epochs": 1}
    if kind == "endless_generator":
        return {"x": _forever(examples, batch), **endless}
    return {"x": _pipeline(examples, batch, strategy), "epochs": epochs}


def reference_feed(configuration: Configuration, examples: Examples) -> dict[str, Any]:
    """Returns the same global batches in the simplest form for stock Keras on one device.

    Stock Keras counts one step too many per epoch of data of unknown length, also on one device
    (defect S7), so the length is known to the reference.
    """
    if configuration.data == "arrays":
        return _arrays(configuration, examples)
    dataset = _dataset(configuration, examples, is_ours=False)
    if configuration.data == "generator":
        return {"x": dataset.repeat(configuration.epochs), "epochs": 1}
    return {"x": dataset, "epochs": configuration.epochs}


def validation_feed(
    configuration: Configuration, examples: Examples, is_ours: bool
) -> dict[str, Any]:
    """Returns the arguments of `fit` that concern validation."""
    if configuration.validation == "none":
        return {}
    if configuration.validation == "dataset" or not kind_of(configuration.model).takes_arrays:
        return {"validation_data": _dataset(configuration, examples, is_ours)}
    return {"validation_data": examples.parts(), "validation_batch_size": configuration.batch}


def rows_feed(
    configuration: Configuration, examples: Examples, part: str, is_ours: bool
) -> dict[str, Any]:
    """Returns the arguments of `evaluate` (`part` "test") or `predict` (`part` "x")."""
    if not kind_of(configuration.model).takes_arrays:
        dataset = _dataset(configuration, examples, is_ours)
        return {"x": dataset.map(lambda x, *_: (x,)) if part == "x" else dataset}
    arrays = {"x": examples.x, "batch_size": configuration.batch}
    if part == "x":
        return arrays
    return {**arrays, "y": examples.y, "sample_weight": examples.weights}


def _arrays(configuration: Configuration, examples: Examples) -> dict[str, Any]:
    return {
        "x": examples.x,
        "y": examples.y,
        "sample_weight": examples.weights,
        "batch_size": configuration.batch,
        "epochs": configuration.epochs,
        "shuffle": False,
    }


def _dataset(configuration: Configuration, examples: Examples, is_ours: bool) -> tf.data.Dataset:
    parts = _tensors(examples)
    if kind_of(configuration.model).inputs == "sparse":
        parts = (tf.sparse.from_dense(parts[0]), *parts[1:])
    rows = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])
    return with_parts(configuration, rows.batch(configuration.batch), is_ours)


def _tensors(examples: Examples) -> Any:
    return tf.nest.map_structure(tf.convert_to_tensor, examples.parts())


def _batches(examples: Examples, batch: int) -> Iterator[tuple[Any, ...]]:
    for first in range(0, len(examples.x), batch):
        yield examples.take(slice(first, first + batch)).parts()  # type: ignore[arg-type]


def _forever(examples: Examples, batch: int) -> Iterator[tuple[Any, ...]]:
    while True:
        yield from _batches(examples, batch)


def _pipeline(examples: Examples, batch: int, strategy: tf.distribute.Strategy) -> Any:
    # Imported here: the reference process does not call this, and must not import tfscale.
    from tfscale.data import input_pipeline

    return input_pipeline(_tensors(examples), strategy, batch, shuffle=False)
