"""Trainings of sharded models, and the optimizers that they are tried with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from tests.unit.strategies.keras_support.beside_one_device import Found, Program, found
from tests.unit.strategies.keras_support.sharding.small_models import Build

OPTIMIZERS = keras.optimizers
Optimizer = Callable[[], Any]
Sharded = Callable[[int, int], tf.distribute.Strategy]
Compared = Callable[[object, Program, tf.distribute.Strategy], None]


def trained(
    strategy: tf.distribute.Strategy, build: Build, optimizer: Optimizer, epochs: int = 2
) -> Found:
    """Three steps an epoch, of 8, 8 and 6 examples: on three replicas 3, 3, 2 and 2, 2, 2."""
    with strategy.scope():
        work = build()
        model = work.model
        model.compile(optimizer(), work.loss, metrics=list(work.metrics), auto_scale_loss=False)
    history = model.fit(
        work.inputs, work.labels, batch_size=8, epochs=epochs, shuffle=False, verbose=0
    )
    slots = {f"slot {i}": v.numpy() for i, v in enumerate(model.optimizer.variables)}
    evaluated = model.evaluate(work.inputs, work.labels, batch_size=8, verbose=0)
    predicted = model.predict(work.inputs, batch_size=8, verbose=0)
    return found(model, history, evaluated=evaluated, predicted=predicted, **slots)


def clipped_adamw() -> Any:
    return OPTIMIZERS.AdamW(0.01, weight_decay=0.02, global_clipnorm=0.1)


def accumulated_adam() -> Any:
    return OPTIMIZERS.Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=0.1)


def averaged_lamb() -> Any:
    return OPTIMIZERS.Lamb(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4)


def averaged_adam() -> Any:
    return OPTIMIZERS.Adam(0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4)


def scaled() -> Any:
    return OPTIMIZERS.LossScaleOptimizer(
        OPTIMIZERS.Adam(0.01, global_clipnorm=0.1), dynamic_growth_steps=2
    )


OFTEN_USED: dict[str, Optimizer] = {
    "SGD": lambda: OPTIMIZERS.SGD(0.05, momentum=0.9, nesterov=True),
    "Adam": lambda: OPTIMIZERS.Adam(0.01),
    "clipped AdamW": clipped_adamw,
    "LAMB": lambda: OPTIMIZERS.Lamb(0.01),
    "Muon": lambda: OPTIMIZERS.Muon(0.01),
    "averages": averaged_adam,
    "accumulation": accumulated_adam,
}
OTHERS: dict[str, Optimizer] = {
    "clipped by variable": lambda: OPTIMIZERS.Adam(0.01, clipnorm=0.05),
    "clipped by value": lambda: OPTIMIZERS.Adam(0.01, clipvalue=0.01),
    "loss scaling": scaled,
    "LAMB and averages": averaged_lamb,
    "Adafactor": lambda: OPTIMIZERS.Adafactor(0.01),
    "Nadam": lambda: OPTIMIZERS.Nadam(0.01),
    "Lion": lambda: OPTIMIZERS.Lion(0.001),
    "RMSprop": lambda: OPTIMIZERS.RMSprop(0.01, centered=True),
    "Ftrl": lambda: OPTIMIZERS.Ftrl(0.01),
    "Adagrad": lambda: OPTIMIZERS.Adagrad(0.01),
    "Adadelta": lambda: OPTIMIZERS.Adadelta(0.5),
    "Adamax": lambda: OPTIMIZERS.Adamax(0.01),
}


def thirty_steps(strategy: tf.distribute.Strategy, build: Build, optimizer: Optimizer) -> Found:
    """Ten epochs of three steps; returns weights, slots and history."""
    with strategy.scope():
        work = build()
        work.model.compile(optimizer(), work.loss, auto_scale_loss=False)
    history = work.model.fit(
        work.inputs, work.labels, batch_size=8, epochs=10, shuffle=False, verbose=0
    )
    slots = {f"slot {i}": v.numpy() for i, v in enumerate(work.model.optimizer.variables)}
    return found(work.model, history, **slots)


def at_all_stages(optimizers: dict[str, Optimizer], turn: int) -> list[Any]:
    """Each optimizer at each stage, on 2, 3 and 4 replicas in turn.

    Args:
        optimizers: By name.
        turn: Where the replicas begin: of three models each begins with another number.
    """
    return [
        pytest.param(optimizer, stage, replicas, id=f"{name}, shard={stage}, {replicas} replicas")
        for i, (name, optimizer) in enumerate(optimizers.items())
        for stage in (1, 2, 3)
        for replicas in [2 + (i + turn + stage) % 3]
    ]
