"""The graph of a training step, in which its operations and collectives are counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from strategies.extension import (
    all_layers,
    recomputation_of,
    refuse_model_outside,
    restore_recomputation,
    traced_train_step,
    training_step_of,
)


def step_graph(model: Any, batch: Any, user: str) -> Any:
    """Traces the step of a model once more; nothing is computed.

    The replicas of this process are in the graph. Layers that are computed twice to save memory are
    in it once.

    Args:
        model: A compiled model under a tfscale strategy. One that is not built is built.
        batch: One replica's batch as `train_step` takes it, of known shapes.
        user: What needs the graph, for errors.

    Raises:
        ValueError: If the model is not under a tfscale strategy, or a shape is not known.
    """
    refuse_model_outside(model, user)
    spec = tf.nest.map_structure(_spec, batch)
    for part in tf.nest.flatten(spec):
        if isinstance(part, tf.TensorSpec) and not part.shape.is_fully_defined():
            raise ValueError(
                "`batch` must have known shapes to count the operations of its step. Received: "
                f"{part}. Pass a batch, or tf.TensorSpec with the number of rows."
            )
    step = training_step_of(model)
    with _computed_once(model):
        return traced_train_step(model, spec, for_xla=False, train_step=step).graph


def _spec(part: Any) -> Any:
    if part is None or isinstance(part, tf.TypeSpec):
        return part
    return tf.type_spec_from_value(tf.convert_to_tensor(part))


@contextlib.contextmanager
def _computed_once(model: Any) -> Iterator[None]:
    """Lets no layer of a model compute its first pass again, as `recompute` has them do."""
    modes = [(layer, recomputation_of(layer)) for layer in all_layers(model)]
    modes = [(layer, mode) for layer, mode in modes if mode is not None]
    for layer, _ in modes:
        restore_recomputation(layer, None)
    try:
        yield
    finally:
        for layer, mode in modes:
            restore_recomputation(layer, mode)
