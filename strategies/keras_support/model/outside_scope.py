"""Models that were built under no strategy of this package.

What needs a strategy refuses them. `fit` trains them, because such a model may be a reference
beside the distributed one, but says once that it uses one device: a forgotten scope shows no other
sign, and with several workers each of them trains a different model.
"""

from __future__ import annotations

import inspect
import threading
from typing import Any

import tensorflow as tf

from strategies.announcement import announce
from strategies.global_batches import GlobalBatches
from strategies.keras_support.model.checks import refuse_owned_parts, refuse_parts_outside
from strategies.keras_support.patching.ownership import described, is_owned, what_was_built

_IS_ANNOUNCED = threading.Event()


def refuse_model_outside(
    model: Any, user: str, factory: str = "strategies.one_device_strategy()"
) -> None:
    """Checks that a model was built under a strategy of this package.

    Args:
        model: A Keras model.
        user: What needs such a model, such as "Checkpoint".
        factory: A call that builds a strategy for it, for programs that built none.

    Raises:
        ValueError: If it was not, or this is the scope of another strategy.
    """
    strategy = model.distribute_strategy
    if is_owned(strategy):
        if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not strategy:
            raise ValueError(
                f"`model` must be in the scope of its own strategy, or in none, to use {user}. "
                f"Received: model {model.name!r}, in the scope of another strategy. Leave that "
                "scope first, or build the model in it."
            )
        refuse_parts_outside(model)
        return
    of_others = f"a {described(model.distribute_strategy)} that tfscale did not build"
    scope = "strategy" if what_was_built() else factory
    raise ValueError(
        f"`model` must be built and compiled under a tfscale strategy to use {user}. Received: "
        f"model {model.name!r}, built under {'no strategy' if _is_outside(model) else of_others}. "
        f"Build and compile it under `with {scope}.scope():`."
    )


def check_model_outside(
    model: Any, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Checks a call of a model that is under no strategy of this package; announces a `fit`.

    Args:
        model: A Keras model.
        call: `fit`, `evaluate` or `predict`.
        args: What it was called with, without the model.
        kwargs: And by name.

    Raises:
        ValueError: If its data is a pipeline, which needs a strategy, or if parts of a model to
            train were made under one.
    """
    try:
        given = inspect.signature(call).bind(model, *args, **kwargs).arguments
    except TypeError:
        return  # the call itself will say what is wrong
    for name in ("x", "validation_data"):
        if _is_pipeline(given.get(name)):
            refuse_model_outside(model, f"a pipeline as `{name}`")
    if call.__name__ != "fit" or not _is_outside(model):
        return
    refuse_owned_parts(model)
    built = what_was_built()
    if built and any(one.trains_on_several for one in built) and not _IS_ANNOUNCED.is_set():
        _IS_ANNOUNCED.set()
        each = ", separately on each worker" if any(one.is_multi_worker for one in built) else ""
        announce(
            f"model {model.name!r} was built outside of `strategy.scope()`, so it trains on one "
            f"device{each}. To train it on all replicas, build and compile it under `with "
            "strategy.scope():`."
        )


def _is_pipeline(data: Any) -> bool:
    # The strategy first: to test for the protocol reads every attribute.
    strategy = getattr(data, "strategy", None)
    return isinstance(strategy, tf.distribute.Strategy) and isinstance(data, GlobalBatches)


def _is_outside(model: Any) -> bool:
    return model._distribute_strategy is None and not tf.distribute.has_strategy()
