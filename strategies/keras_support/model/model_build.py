"""The build patch: builds a model from the specification of its input, never from a batch.

Keras pulls a batch to learn the shapes: it averages the replicas' parts, which fails for strings
(C6), uneven parts (C5) and several workers (C1), and the batches an iterator had read ahead are
lost with it (S6). A dataset knows its shapes.

Without a strategy Keras builds nothing ahead: variables are made while the first step is traced.
The same is allowed for a model with its own step whose `call` takes other inputs than the data, or
is missing (VAEs, GANs); the variables of its first step are made for all replicas at once (C17).
"""

from __future__ import annotations

import functools
from typing import Any

import keras

from strategies.batch_parts import without_wrapper_specs, without_wrappers
from strategies.keras_support.model.checks import refuse_impossible
from strategies.keras_support.model.model_parts import has_unbuilt_layers
from strategies.keras_support.patching.ownership import is_asynchronous, is_owned

_STEPS = ("train_step", "test_step", "predict_step")


def built_from_spec(maybe_symbolic_build: Any) -> Any:
    """Replaces `_maybe_symbolic_build`: builds from a specification, never from a batch."""

    @functools.wraps(maybe_symbolic_build)
    def build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if not is_owned(self._distribute_strategy):
            maybe_symbolic_build(self, iterator=iterator, data_batch=data_batch)
            return
        refuse_impossible(self)  # Keras builds the optimizer here, and says less
        leaves_to_workers = is_asynchronous(self._distribute_strategy)
        if has_no_call(self) and not (leaves_to_workers and has_unbuilt_layers(self)):
            return
        if iterator is not None:
            data_batch = without_wrapper_specs(iterator.replica_spec())
        elif data_batch is not None:
            data_batch = without_wrappers(data_batch)
        try:
            with self._distribute_strategy.scope():
                self._symbolic_build(data_batch=data_batch)
        except Exception:
            if not has_own_step(self) or leaves_to_workers:
                raise

    return build


def has_no_call(model: Any) -> bool:
    """Tells whether `model` is a subclass without a `call`."""
    return type(model).call is keras.Model.call


def has_own_step(model: Any) -> bool:
    """Tells whether `model` has a custom step, which may call the model in any way."""
    return any(getattr(type(model), name) is not getattr(keras.Model, name) for name in _STEPS)
