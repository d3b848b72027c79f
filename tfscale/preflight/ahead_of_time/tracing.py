"""The training step of one replica, traced with the all-reduces of all, as a chip's program."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import all_layers, traced_train_step
from tfscale.preflight.ahead_of_time.layer_scopes import layer_scopes
from tfscale.preflight.ahead_of_time.modules import arrays_made
from tfscale.preflight.ahead_of_time.program import (
    BATCH,
    METRICS,
    OPTIMIZER_STATE,
    PARAMETERS,
    Argument,
    Program,
)

_LARGEST = 8
_NUMBERED = re.compile(r"(_inference_\w+?)_\d+__")
_SOURCE = re.compile(r' source_\w+=("[^"]*"|\d+)')


def traced_program(model: Any, batch: Any, rows: int, *, rows_vary: bool = False) -> Program:
    """Traces the training step of one replica of `model`, with TensorFlow's XLA.

    Args:
        model: A compiled Keras model made under a `ReplicaOfMany`.
        batch: Structure of `tf.TypeSpec` of one replica's batch, as `traced_train_step` takes it.
        rows: Examples to trace it for, whatever `batch` says. Positive.
        rows_vary: See `traced_train_step`.

    Raises:
        tf.errors.OpError, ValueError: If XLA refuses the step.
    """
    strategy = model.distribute_strategy
    with strategy.scope(), layer_scopes(all_layers(model)) as scopes:
        step = traced_train_step(model, with_rows(batch, rows), rows_vary=rows_vary)
    concrete = step.function.get_concrete_function(*step.specs)
    kinds = dict(_kinds(model))
    given = [Argument(BATCH)] * len(step.specs)
    captured = [kinds.get(id(handle), Argument(METRICS)) for handle in concrete.captured_inputs]
    text = step.compiled("hlo")
    return Program(
        hlo=step.compiled("hlo_serialized"),
        fingerprint=_fingerprint(text),
        num_replicas=strategy.num_replicas_in_sync,
        rows=rows,
        arguments=(*given, *captured),
        scopes=dict(scopes),
        optimizer=model.optimizer.name,
        largest=_largest(text),
    )


def with_rows(batch: Any, rows: int) -> Any:
    """Returns the specification of a batch with another number of examples.

    Args:
        batch: Structure of `tf.TensorSpec`, None for a part that is not there.
        rows: Positive.

    Example:
        >>> with_rows(tf.TensorSpec([8, 3]), 2).shape
        TensorShape([2, 3])
    """

    def change(part: Any) -> Any:
        return part if part is None else tf.TensorSpec([rows, *part.shape[1:]], part.dtype)

    return tf.nest.map_structure(change, batch)


def program_maker(
    model: Any, batch: Any, say: Callable[[str], None], *, rows_vary: bool = False
) -> Callable[[int], Program]:
    """Returns what traces the step of `model` anew for so many examples of one replica."""

    def make(rows: int) -> Program:
        say(f"tracing the step of one replica, {rows} examples")
        return traced_program(model, batch, rows, rows_vary=rows_vary)

    return make


def _fingerprint(text: str) -> str:
    """Hashes a step, without the number TensorFlow gives a function for those traced before it.

    Nor where TensorFlow is installed, which stands in the text too, as the source of operations.
    Large constants are not in the text. Their values take no more memory than others.
    """
    return hashlib.sha256(_SOURCE.sub("", _NUMBERED.sub(r"\1", text)).encode()).hexdigest()


def _largest(text: str) -> tuple[tuple[str, int], ...]:
    """Returns the operations that make the largest arrays, each once: nothing is fused yet."""
    sizes: dict[str, int] = {}
    for made in arrays_made(text):
        sizes[made.operation] = max(sizes.get(made.operation, 0), made.array.written_bytes)
    ordered = sorted(sizes.items(), key=lambda item: item[1], reverse=True)
    return tuple(ordered[:_LARGEST])


def _kinds(model: Any) -> Iterator[tuple[int, Argument]]:
    """Yields what the variable behind each resource handle is for."""
    for variable in model.variables:
        yield _handle(variable), Argument(PARAMETERS, variable.path.rpartition("/")[0])
    for variable in model.metrics_variables:
        yield _handle(variable), Argument(METRICS)
    for variable in model.optimizer.variables:
        yield _handle(variable), Argument(OPTIMIZER_STATE)


def _handle(variable: keras.Variable) -> int:
    return id(variable.value.handle)
