"""Injects one of `injections` after the signal: in a callback, a step, the graph or the input."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.faults import injections
from tests.faults.lines import INJECTED_LINE

_TOO_LARGE = 1 << 46
"""Elements: no process has so many addresses."""


class Injector(keras.callbacks.Callback):
    """Slows training down, and does a fault after the signal.

    Args:
        kind: One of `injections`.
        pace_seconds: Pause after each step.
    """

    def __init__(self, kind: str, pace_seconds: float) -> None:
        super().__init__()
        self._kind, self._pace = kind, pace_seconds
        self._asked = threading.Event()
        injections.leave_no_core()
        signal.signal(injections.SIGNAL, lambda *_: self._ask())

    def _ask(self) -> None:
        print(f"{INJECTED_LINE}{self._kind}", flush=True)
        if self._kind == injections.HANDLER:
            injections.raise_exception()
        self._asked.set()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Begins a fault in the step."""
        if self._kind in injections.IN_STEP and self._asked.is_set():
            self._asked.clear()
            threading.Thread(target=self._do_in_step, daemon=True).start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Pauses, or does a fault between two steps."""
        if self._asked.wait(self._pace) and self._kind in injections.IN_CALLBACK:
            injections.IN_CALLBACK[self._kind]()

    def _do_in_step(self) -> None:
        time.sleep(injections.IN_STEP_SECONDS)
        injections.IN_STEP[self._kind]()

    @property
    def preprocess(self) -> Callable[[Any], Any] | None:
        """The function for `tf.data` to map if the fault is in the input; else None."""
        in_input = (injections.INPUT_STALLS, injections.INPUT_RAISES)
        return self._in_input if self._kind in in_input else None

    def _in_input(self, batch: Any) -> Any:
        x, y = batch
        passed = tf.numpy_function(self._pass_or_not, [x], x.dtype)
        passed.set_shape(x.shape)
        return passed, y

    def _pass_or_not(self, values: np.ndarray) -> np.ndarray:
        if self._asked.is_set():
            if self._kind == injections.INPUT_RAISES:
                injections.raise_exception()
            threading.Event().wait(injections.STALL_SECONDS)
        return values

    def layers(self) -> list[keras.layers.Layer]:
        """Returns a layer that makes the large tensor, or none."""
        return [_Large(self._asked)] if self._kind == injections.LARGE_TENSOR else []


class Slow(keras.layers.Layer):
    """Returns its inputs; in training, this takes time in the graph.

    Args:
        seconds: Of each step.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Takes any tensor."""
        if not training:
            return inputs
        slept = tf.numpy_function(self._sleep, [inputs], inputs.dtype)  # after its inputs
        return tf.ensure_shape(slept, inputs.shape)

    def _sleep(self, values: np.ndarray) -> np.ndarray:
        time.sleep(self._seconds)
        return values


class _Large(keras.layers.Layer):
    """Returns its inputs; after the signal, in training, it first makes too large a tensor."""

    def __init__(self, asked: threading.Event) -> None:
        super().__init__()
        self._asked_for = asked

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Takes any tensor."""
        if not training:
            return inputs
        elements = tf.numpy_function(self._elements, [], tf.int64)
        # Random numbers, because TensorFlow does not make zeros that nothing reads.
        with tf.control_dependencies([tf.random.uniform([elements], seed=1)]):
            return tf.identity(inputs)

    def _elements(self) -> np.int64:
        return np.int64(_TOO_LARGE if self._asked_for.is_set() else 0)
