"""What is known to train another model on N replicas, looked for before the training."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfscale.inspect.verify.layers import layers_of


@dataclass(frozen=True)
class Suspect:
    """A part of the model that may be why N replicas differ from one.

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


def suspects_of(
    model: keras.Model, strategy: tf.distribute.Strategy, drawing: Sequence[str]
) -> list[Suspect]:
    """Looks a compiled model over, before it trains.

    Args:
        model: A compiled model made under `strategy`.
        strategy: The strategy.
        drawing: Names of the layers that draw random numbers.

    Returns:
        The suspects; none on a single replica.
    """
    if strategy.num_replicas_in_sync == 1:
        return []
    return [
        *_normalizing_alone(model),
        *(Suspect(f"layer {name!r}", _DRAWS, _DRAWS_CURE) for name in drawing),
        *_made_outside(model, strategy),
        *_raw_sums(model),
    ]


_DRAWS = "draws random numbers of its own on each replica, which differ from one device's by nature"
_DRAWS_CURE = "leave it out of the function for this comparison, or move it into the data"
_LOCAL = "normalises with each replica's own rows, as the layer says, so N replicas train another"
_OUTSIDE = "was made outside the scope, so its state is not kept replica by replica"
_SUM = "sums over examples, which a replica cannot tell from a mean, so it counts 1/N"
_DIVIDES = "mentions `num_replicas_in_sync`: under tfscale a loss is written as for one device"


def _normalizing_alone(model: keras.Model) -> Iterator[Suspect]:
    for layer in layers_of(model):
        if (
            isinstance(layer, keras.layers.BatchNormalization)
            and layer.trainable
            and not layer.synchronized
        ):
            yield Suspect(
                f"layer {layer.name!r} (BatchNormalization)",
                f"{_LOCAL} model",
                "BatchNormalization(synchronized=True)",
            )


def _made_outside(model: keras.Model, strategy: tf.distribute.Strategy) -> Iterator[Suspect]:
    for metric in model.metrics:
        for part in getattr(metric, "metrics", None) or [metric]:  # compile keeps them in one
            variables = [v.value for v in part.variables]
            if any(not strategy.extended.variable_created_in_scope(v) for v in variables):
                yield Suspect(
                    f"metric {part.name!r}", _OUTSIDE, "make it inside the function, at each call"
                )


def _raw_sums(model: keras.Model) -> Iterator[Suspect]:
    for where, function in _own_functions(model):
        called, mentioned = _read(function)
        if called:
            cure = "a mean over the examples, or a Keras loss with reduction='sum'"
            yield Suspect(where, f"`{called}` without an axis {_SUM}", cure)
        if "num_replicas_in_sync" in mentioned:
            yield Suspect(where, _DIVIDES, "do not divide or multiply by the replicas")


def _own_functions(model: keras.Model) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields the losses and steps that are the user's own code."""
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


def _is_of_keras(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "keras"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _read(function: Callable[..., Any]) -> tuple[str, set[str]]:
    """Returns the first sum over everything that `function` calls, and all names it reads."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # made at run time, or a lambda inside an expression
        return "", set()
    called, mentioned = "", set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            mentioned.add(node.attr)
        if isinstance(node, ast.Call) and not called and _sums_everything(node):
            called = ast.unparse(node.func)
    return called, mentioned


def _sums_everything(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        is_sum = call.func.attr in ("reduce_sum", "sum")
    else:
        is_sum = isinstance(call.func, ast.Name) and call.func.id == "reduce_sum"
    return is_sum and len(call.args) <= 1 and all(word.arg != "axis" for word in call.keywords)
