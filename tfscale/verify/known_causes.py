"""Finds known causes of differences on several replicas by inspecting a model, without a step."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfscale.verify.layers import layers_of, metrics_of


@dataclass(frozen=True)
class Cause:
    """A part of the model that may cause a difference on several replicas.

    Attributes:
        where: The layer, metric or function, such as "layer 'bn'".
        why: What it does on several replicas.
        cure: What to change.
    """

    where: str
    why: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}. Cure: {self.cure}."


def known_causes(
    model: keras.Model, strategy: tf.distribute.Strategy, drawing: Sequence[str]
) -> list[Cause]:
    """Inspects a compiled model before training.

    Args:
        model: A compiled model that was made under `strategy`.
        strategy: The strategy.
        drawing: Names of the layers that draw random numbers.

    Returns:
        The causes; none on a single replica.
    """
    if strategy.num_replicas_in_sync == 1:
        return []
    return [
        *_normalizing_alone(model),
        *(Cause(f"layer {name!r}", DRAWS, DRAWS_CURE) for name in drawing),
        *_trackers_outside(model, strategy),
        *_dividing(model),
    ]


DRAWS = "draws random numbers separately on each replica, so they differ from one device's"
DRAWS_CURE = "set the noise to 0 in the function for this comparison, or move it into the data"
_LOCAL = "normalises with the rows of each replica, as configured, so N replicas train another"
_OUTSIDE = "was made outside the scope, so its state is not kept per replica"
_DIVIDES = "mentions `num_replicas_in_sync`; under tfscale a loss is written as for one device"


def _normalizing_alone(model: keras.Model) -> Iterator[Cause]:
    for layer in layers_of(model):
        if (
            isinstance(layer, keras.layers.BatchNormalization)
            and layer.trainable
            and not layer.synchronized
        ):
            yield Cause(
                f"layer {layer.name!r} (BatchNormalization)",
                f"{_LOCAL} model",
                "BatchNormalization(synchronized=True)",
            )


def normalizing_microbatches(model: keras.Model) -> list[Cause]:
    """Returns the layers of a pipeline that normalise with the statistics of a microbatch."""
    return [
        Cause(
            f"layer {layer.name!r} (BatchNormalization)",
            "normalises with the rows of each microbatch, so a pipeline trains another model",
            "--microbatches=1 for this comparison, or another normalization",
        )
        for layer in layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def _dividing(model: keras.Model) -> Iterator[Cause]:
    for where, source in own_sources(model):
        if "num_replicas_in_sync" in names_read(source):
            yield Cause(where, _DIVIDES, "do not divide or multiply by the number of replicas")


def _trackers_outside(model: keras.Model, strategy: tf.distribute.Strategy) -> Iterator[Cause]:
    """Yields module-level metrics that a custom step uses and that were made outside the scope."""
    for where, source in own_sources(model):
        values = vars(sys.modules.get(source.__module__, object()))
        for name in sorted(names_read(source) & {*values}):
            metric = values[name]
            is_kept = any(metric is each for each in metrics_of(model))  # then Keras resets it
            if (
                isinstance(metric, keras.Metric)
                and not is_kept
                and not _is_inside(metric, strategy)
            ):
                yield Cause(
                    f"metric {name} at the top of {source.__module__}, used in {where}",
                    _OUTSIDE,
                    "make it in the function that makes the model, and list it in the model's "
                    "`metrics`",
                )


def _is_inside(metric: keras.Metric, strategy: tf.distribute.Strategy) -> bool:
    values = [variable.value for variable in metric.variables]
    return all(strategy.extended.variable_created_in_scope(value) for value in values)


def own_functions(model: keras.Model) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields the names and functions of the user's losses and steps."""
    for name in ("train_step", "compute_loss", "test_step"):
        method = getattr(type(model), name)
        if not _is_of_keras(method):
            yield f"{type(model).__name__}.{name}", method
    for loss in keras.tree.flatten(model.loss):
        if isinstance(loss, keras.losses.Loss):
            if not _is_of_keras(type(loss).call):
                yield f"loss {type(loss).__name__}.call", type(loss).call
            inner = getattr(loss, "fn", None)
            if callable(inner) and not _is_of_keras(inner):
                yield f"loss {_name(inner)}", inner
        elif callable(loss) and not _is_of_keras(loss):
            yield f"loss {_name(loss)}", loss


def own_sources(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the user's classes of the model and its losses, and the functions that they use."""
    losses = [each for each in keras.tree.flatten(model.loss) if callable(each)]
    found: list[Any] = [
        each
        for value in (model, *losses)
        for each in (inspect.getmro(type(value)) if not inspect.isfunction(value) else [value])
        if not _is_of_keras(each) and each.__module__ != "builtins"
    ]
    seen: set[Any] = set()
    for source in found:  # the loop appends to it
        if source in seen:
            continue
        seen.add(source)
        yield _name(source), source
        values = vars(sys.modules.get(source.__module__, object()))
        for name in sorted(names_read(source) & {*values}):
            if inspect.isfunction(values[name]) and values[name].__module__ == source.__module__:
                found.append(values[name])


def _is_of_keras(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "keras"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def names_read(source: Any) -> set[str]:
    """Returns the names and attributes in the source code of a class or function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(source)))
    except (OSError, TypeError, SyntaxError):  # made at run time, or a lambda inside an expression
        return set()
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
