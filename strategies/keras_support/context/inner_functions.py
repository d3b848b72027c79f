"""Calls inside a step: other `tf.function`s, and the `merge_call` of the replicas.

A `tf.function` that a `train_step` calls (or is) gets its own graph, in which replicas cannot
communicate: TensorFlow refuses an optimizer's update there. In a step, which is a graph anyway, it
is traced in place, with the conversion of Python's control flow that it asked for. A function for
XLA (`jit_compile=True`) stays a function.

While one replica waits for the others in a `merge_call`, TensorFlow traces the next one up to the
same place, through the same layers. A layer keeps what `add_loss` and activity regularizers added
until the losses are summed, so the one that waited would find the other's penalties; each gets its
own back afterwards.
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api

from strategies.keras_support.context.step_context import current_step


def is_traced_in_place(function: Any, *_: Any, **__: Any) -> bool:
    """Tells whether a call of a `tf.function` is inside of the step of one of several replicas."""
    step = current_step()
    if step is None or function._jit_compile or not step.is_in_main_graph():
        return False
    replica = tf.distribute.get_replica_context()
    return replica is not None and replica.num_replicas_in_sync > 1


def traced_in_place(call: Any) -> Any:
    """Wraps `tf.function`'s call."""

    @functools.wraps(call)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_traced_in_place(self):
            return call(self, *args, **kwargs)
        if not self._autograph or tf.executing_eagerly():
            return self._python_function(*args, **kwargs)
        features = self._experimental_autograph_options
        convert = api.convert(recursive=True, optional_features=features, user_requested=True)
        with ag_ctx.ControlStatusCtx(ag_ctx.Status.UNSPECIFIED):  # Keras has switched it off
            return convert(self._python_function)(*args, **kwargs)

    return called


def losses_kept_by_replica(merge_call: Any) -> Any:
    """Wraps the replicas' `merge_call`."""

    @functools.wraps(merge_call)
    def merged(self: Any, merge_fn: Any, args: Any = (), kwargs: Any = None) -> Any:
        step = current_step()
        layers = step.layers if step is not None else ()
        losses = [list(layer._losses) for layer in layers]
        result = merge_call(self, merge_fn, args=args, kwargs=kwargs)
        for layer, own in zip(layers, losses, strict=True):
            layer._losses[:] = own
        return result

    return merged
