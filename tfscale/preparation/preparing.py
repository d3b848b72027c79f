"""A model of yours, made ready for a strategy: in its scope, in its precision, with a schedule.

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
from strategies.extension import all_layers, announce, compile_arguments, warn_of_half_outputs
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


def prepare(
    model: keras.Model | Callable[[], keras.Model],
    strategy: tf.distribute.Strategy,
    *,
    precision: str = "auto",
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    metrics: Any = None,
) -> keras.Model:
    """Returns a compiled Keras model in the strategy's scope, under the precision's policy.

    A function is the better thing to pass: it is called in the scope, after `set_precision`, and
    builds the model there. It takes no arguments and returns a model, compiled or not.

    A model that exists already is copied: a new model of the same class, from its config, with its
    weights, trainable flags, random states, loss, metrics and other arguments of `compile`. Layers
    follow the new policy except those that were given a `dtype`; in a model loaded from a file,
    which does not keep the difference, those whose policy is not the commonest count as given one.
    The optimizer goes on where it was, with its slots and its count of steps, at which a schedule
    then starts. What was passed stays as it is.

    Under several workers each must hand in the same weights.

    The policy stays in force afterwards, as `set_precision` leaves it.

    Args:
        model: A function that returns a model, or a model.
        strategy: The strategy it will train under.
        precision: One of `tfscale.precision.POLICIES`; "auto" follows the devices.
        learning_rate: A positive rate or a schedule, in place of the optimizer's own.
        optimizer: A new optimizer, or the name of one, in place of the model's own; the old one's
            slots are dropped. A rate is given to it or to `learning_rate`, not to both.
        loss: The loss, as for `compile`, in place of the model's own.
        metrics: The metrics, as for `compile`, in place of the model's own.

    Returns:
        A plain, compiled `keras.Model`, ready for `fit`.

    Raises:
        ValueError: If an argument is none of the above, the model is not compiled and no optimizer
            and loss are given, it cannot be made from its config, or workers disagree.

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
    given = {"loss": loss, "metrics": metrics}
    wish = _Wish(
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
        prepared = (_built if is_function else _copied)(model, strategy, wish)
    if is_chief(strategy):
        warn_of_half_outputs(prepared)
    return prepared


@dataclass(frozen=True)
class _Wish:
    """What `prepare` was asked for, beside the model.

    Attributes:
        arguments: Those of `compile` that replace the model's own.
        default: The default float that their losses and metrics were made under.
    """

    precision: str
    learning_rate: Any
    optimizer: Any
    arguments: dict[str, Any]
    default: keras.DTypePolicy


def _copied(model: keras.Model, strategy: tf.distribute.Strategy, wish: _Wish) -> keras.Model:
    followers = policy_followers(model)  # before the policy changes: it is told from the old one
    compiled = compile_arguments(model) if model.compiled else {}
    custom_objects = custom_objects_in(
        [*all_layers(model), *parts_made_again(compiled), *parts_made_again(wish.arguments)]
    )
    policy = set_precision(wish.precision, strategy)
    if is_chief(strategy):
        _announce_kept(model, followers, policy)
    with strategy.scope(), keras.saving.custom_object_scope(custom_objects):
        twin, twins = copy_under(policy, model, followers, custom_objects)
        _compile(twin, strategy, wish, compiled, model.dtype_policy, policy)
        if wish.optimizer is None:
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
        announce(f"layers of {model.name!r} that keep the dtype they were given: {kept}.")


def _built(
    build: Callable[[], keras.Model], strategy: tf.distribute.Strategy, wish: _Wish
) -> keras.Model:
    policy = set_precision(wish.precision, strategy)
    with strategy.scope():
        model = build()
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a function that returns a keras.Model. Received: a function that "
            f"returned {model!r}. Let it return the model it builds."
        )
    if model.distribute_strategy is not strategy or keras.config.dtype_policy() != policy:
        raise ValueError(
            "`model` must be a function that builds its model when it is called, and leaves the "
            f"dtype policy alone. Received: a function that returned {model.name!r}, made "
            "elsewhere or under another policy. Build the model inside of it, and give the "
            "precision to `prepare`."
        )
    check_compiled(model, wish.optimizer, wish.arguments.get("loss"))
    if (
        model.compiled
        and (wish.learning_rate, wish.optimizer) == (None, None)
        and not wish.arguments
    ):
        return model
    refuse_own_compile(model)
    compiled = compile_arguments(model) if model.compiled else {}
    before = model.optimizer if model.compiled and wish.optimizer is None else None
    custom_objects = custom_objects_in(
        [*parts_made_again(compiled), *parts_made_again(wish.arguments)]
    )
    with strategy.scope(), keras.saving.custom_object_scope(custom_objects):
        _compile(model, strategy, wish, compiled, policy, policy)
        if before is not None:  # the function may have loaded a model that has trained
            continue_optimizer(before, model.optimizer, [(v, v) for v in state_of(model)])
    return model


def _compile(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    wish: _Wish,
    compiled: dict[str, Any],
    old: keras.DTypePolicy,
    new: keras.DTypePolicy,
) -> None:
    """Compiles `model` with its own arguments, and over them what `prepare` was given."""
    own = own_compile_arguments(compiled, old, new)
    if own.get("jit_compile") and strategy.num_replicas_in_sync > 1:
        # What one device's "auto" came to; replicas cannot be compiled by XLA.
        own["jit_compile"] = "auto"
    given = own_compile_arguments(wish.arguments, wish.default, new)
    # What the model was compiled with: for float16 Keras puts the loss scale around it.
    before = wish.optimizer if wish.optimizer is not None else compiled["optimizer"]
    model.compile(own_optimizer(before, wish.learning_rate), **{**own, **given})


@contextlib.contextmanager
def _policy_restored_after_an_error() -> Iterator[None]:
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        yield
    except BaseException:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        raise
