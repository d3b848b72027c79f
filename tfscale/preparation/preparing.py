"""Prepares a Keras model for a strategy: scope, precision, learning rate, optimizer.

model = tfscale.prepare(build_model, strategy, learning_rate=schedule)
model.fit(train, epochs=10)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies import is_chief
from strategies.extension import (
    all_layers,
    announce,
    compile_arguments,
    train_in_microbatches,
    warn_of_half_precision,
    whole_number,
)
from tfscale.precision import set_precision
from tfscale.preparation.checks import (
    check_arguments,
    check_compiled,
    check_same_on_all_workers,
)
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under, state_of
from tfscale.preparation.policy_followers import policy_followers
from tfscale.preparation.recompilation import (
    continue_optimizer,
    own_compile_arguments,
    own_optimizer,
    parts_made_again,
    refuse_own_compile,
)
from tfscale.recomputation import recompute as recompute_layers


def prepare(
    model: keras.Model | Callable[[], keras.Model],
    strategy: tf.distribute.Strategy,
    *,
    precision: str = "auto",
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    metrics: Any = None,
    recompute: Any = None,
    microbatches: int = 1,
) -> keras.Model:
    """Returns a compiled Keras model in the strategy's scope, under the precision's dtype policy.

    Preferably pass a function. It takes no arguments, is called in the scope after `set_precision`,
    and returns a model, compiled or not.

    An existing model is copied: the result is a new model of the same class, made from its config,
    with its weights, trainable flags, random seeds, loss, metrics and other arguments of `compile`.
    Layers get the new policy, except those that were made with a `dtype`. A file does not record
    this, so in a loaded model layers whose policy is not the most common one keep theirs. The
    optimizer continues with its slots and its step count, at which a schedule then starts. The
    arguments are not changed.

    With several workers, each must pass the same weights.

    The global policy is set as by `set_precision`.

    Args:
        model: A function that returns a model, or a model.
        strategy: The strategy for training.
        precision: One of `tfscale.precision.POLICIES`; "auto" follows the devices.
        learning_rate: A positive rate or a schedule that replaces that of the optimizer.
        optimizer: A new optimizer, or a name, that replaces the model's; the old slots are dropped.
            Pass a rate either in the optimizer or as `learning_rate`.
        loss: A loss, as for `compile`, that replaces the model's.
        metrics: Metrics, as for `compile`, that replace the model's.
        recompute: Layers that recompute their activations, as for `tfscale.recompute`. None leaves
            them as they are.
        microbatches: Parts in which each replica computes its part of a batch, in every `fit`; see
            `tfscale.callbacks.Microbatches`. Positive.

    Returns:
        A plain, compiled `keras.Model`, ready for `fit`.

    Raises:
        ValueError: If an argument is invalid, the model is not compiled and `optimizer` or `loss`
            is missing, it cannot be made from its config, or the workers' models differ.

    Example:
        >>> model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> strategy = strategies.one_device_strategy()
        >>> schedule = keras.optimizers.schedules.CosineDecay(1e-2, decay_steps=100)
        >>> prepared = prepare(model, strategy, precision="float32", learning_rate=schedule)
        >>> prepared.optimizer.get_config()["learning_rate"]["class_name"]
        'CosineDecay'
    """
    check_arguments(model, strategy, learning_rate, optimizer)
    microbatches = whole_number(
        "microbatches", microbatches, cure="Pass 1 to compute a batch at once."
    )
    given = {"loss": loss, "metrics": metrics}
    request = _Request(
        precision,
        learning_rate,
        optimizer,
        {name: part for name, part in given.items() if part is not None},
        keras.DTypePolicy(keras.config.floatx()),
    )
    is_function = not isinstance(model, keras.Model)
    if not is_function:
        check_compiled(model, optimizer, loss)
        refuse_own_compile(model)
        check_same_on_all_workers(model, strategy)
    with _policy_restored_after_an_error():
        prepared = (_built if is_function else _copied)(model, strategy, request)
    if recompute is not None:
        recompute_layers(prepared, recompute)
    train_in_microbatches(prepared, microbatches)
    if is_chief(strategy):
        warn_of_half_precision(prepared)
    return prepared


@dataclass(frozen=True)
class _Request:
    """The arguments of `prepare` without the model and the strategy.

    Attributes:
        arguments: Arguments of `compile` that replace the model's.
        default: Policy with the default float type of their losses and metrics.
    """

    precision: str
    learning_rate: Any
    optimizer: Any
    arguments: dict[str, Any]
    default: keras.DTypePolicy


def _copied(model: keras.Model, strategy: tf.distribute.Strategy, request: _Request) -> keras.Model:
    followers = policy_followers(model)  # needs the old global policy
    compiled = compile_arguments(model) if model.compiled else {}
    custom_objects = custom_objects_in(
        [*all_layers(model), *parts_made_again(compiled), *parts_made_again(request.arguments)]
    )
    policy = set_precision(request.precision, strategy)
    if is_chief(strategy):
        _announce_kept(model, followers, policy)
    with strategy.scope(), keras.saving.custom_object_scope(custom_objects):
        twin, twins = copy_under(policy, model, followers, custom_objects)
        _compile(twin, strategy, request, compiled, model.dtype_policy, policy)
        if request.optimizer is None:
            continue_optimizer(model.optimizer, twin.optimizer, twins)
    return twin


def _announce_kept(model: keras.Model, followers: list[Any], policy: keras.DTypePolicy) -> None:
    kept = ", ".join(
        f"{layer.name} {layer.dtype_policy.name}"
        for layer in all_layers(model)
        if not isinstance(layer, keras.layers.InputLayer)
        and not any(layer is one for one in followers)
        and layer.dtype_policy.name != policy.name
    )
    if kept:
        announce(f"layers of {model.name!r} that keep their own dtype: {kept}.")


def _built(
    build: Callable[[], keras.Model], strategy: tf.distribute.Strategy, request: _Request
) -> keras.Model:
    policy = set_precision(request.precision, strategy)
    with strategy.scope():
        model = build()
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a function that returns a keras.Model. Received: a function that "
            f"returned {model!r}. Return the model."
        )
    if model.distribute_strategy is not strategy or keras.config.dtype_policy() != policy:
        raise ValueError(
            "`model` must be a function that builds its model when called, and does not change "
            f"the dtype policy. Received: a function that returned {model.name!r}, made outside "
            "or under another policy. Build the model inside the function, and pass the precision "
            "to `prepare`."
        )
    check_compiled(model, request.optimizer, request.arguments.get("loss"))
    if (
        model.compiled
        and (request.learning_rate, request.optimizer) == (None, None)
        and not request.arguments
    ):
        return model
    refuse_own_compile(model)
    compiled = compile_arguments(model) if model.compiled else {}
    before = model.optimizer if model.compiled and request.optimizer is None else None
    custom_objects = custom_objects_in(
        [*parts_made_again(compiled), *parts_made_again(request.arguments)]
    )
    with strategy.scope(), keras.saving.custom_object_scope(custom_objects):
        _compile(model, strategy, request, compiled, policy, policy)
        if before is not None:  # the function may have loaded a trained model
            continue_optimizer(before, model.optimizer, [(v, v) for v in state_of(model)])
    return model


def _compile(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    request: _Request,
    compiled: dict[str, Any],
    old: keras.DTypePolicy,
    new: keras.DTypePolicy,
) -> None:
    """Compiles `model` with its arguments, replaced by those of `prepare`."""
    own = own_compile_arguments(compiled, old, new)
    if own.get("jit_compile") and strategy.num_replicas_in_sync > 1:
        # "auto" had become True on one device, but XLA cannot compile several replicas.
        own["jit_compile"] = "auto"
    given = own_compile_arguments(request.arguments, request.default, new)
    # The optimizer as passed to `compile`, because for float16 Keras wraps it in loss scaling.
    before = request.optimizer if request.optimizer is not None else compiled["optimizer"]
    model.compile(own_optimizer(before, request.learning_rate), **{**own, **given})


@contextlib.contextmanager
def _policy_restored_after_an_error() -> Iterator[None]:
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        yield
    except BaseException:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        raise
