"""Builds an optimizer by name, as for a command-line flag."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from strategies.extension import number, one_of, truth
from tfscale.optimizers.lars import LARS

_CLASSES: dict[str, Any] = {
    "adadelta": keras.optimizers.Adadelta,
    "adafactor": keras.optimizers.Adafactor,
    "adagrad": keras.optimizers.Adagrad,
    "adam": keras.optimizers.Adam,
    "adamax": keras.optimizers.Adamax,
    "adamw": keras.optimizers.AdamW,
    "ftrl": keras.optimizers.Ftrl,
    "lamb": keras.optimizers.Lamb,
    "lars": LARS,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": keras.optimizers.SGD,
}

# Arguments that only some optimizers have, with the names of these optimizers.
_TAKERS = {
    "momentum": ("lars", "muon", "rmsprop", "sgd"),
    "nesterov": ("lars", "muon", "sgd"),
    "beta_1": ("adam", "adamax", "adamw", "lamb", "lion", "nadam"),
    "beta_2": ("adam", "adamax", "adamw", "lamb", "lion", "nadam"),
    "epsilon": (
        *("adadelta", "adagrad", "adam", "adamax", "adamw"),
        *("lamb", "muon", "nadam", "rmsprop"),
    ),
}

_RULES: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: 0 <= value < math.inf, "at least 0 or a LearningRateSchedule"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "at least 0 or None"),
    "clip_norm": (lambda value: 0 < value < math.inf, "positive or None"),
    "momentum": (lambda value: 0 <= value <= 1, "from 0 to 1 or None"),
    "beta_1": (lambda value: 0 <= value < 1, "at least 0, below 1, or None"),
    "beta_2": (lambda value: 0 <= value < 1, "at least 0, below 1, or None"),
    "epsilon": (lambda value: 0 < value < math.inf, "positive or None"),
    "ema_momentum": (lambda value: 0 <= value < 1, "at least 0, below 1, or None"),
}

OPTIMIZERS = tuple(_CLASSES)
"""The names that `optimizer_by_name` takes."""


def optimizer_by_name(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    momentum: float | None = None,
    nesterov: bool | None = None,
    beta_1: float | None = None,
    beta_2: float | None = None,
    epsilon: float | None = None,
    ema_momentum: float | None = None,
    gradient_accumulation_steps: int | None = None,
) -> keras.optimizers.Optimizer:
    """Builds one of Keras's optimizers, or LARS. Call it in the strategy's scope.

    If an argument is None, the optimizer's default is used.

    Args:
        name: One of `OPTIMIZERS`.
        learning_rate: A number, at least 0, or a `LearningRateSchedule`.
        weight_decay: Weight decay, at least 0. It is decoupled, as in AdamW, except in LARS, where
            it is part of the gradient.
        clip_norm: Largest global norm of all gradients; larger gradients are scaled. Positive.
        momentum: For sgd, rmsprop, lars and muon: from 0 to 1.
        nesterov: For sgd, lars and muon: whether to use Nesterov momentum.
        beta_1: For adam, adamax, adamw, lamb, lion and nadam: decay of the first moment, in [0, 1).
        beta_2: For the same optimizers: decay of the second moment, in [0, 1).
        epsilon: For optimizers with a denominator: the constant added to it. Positive.
        ema_momentum: Momentum of moving averages of the weights, in [0, 1). The averages replace
            the weights at the end of `fit`. None keeps no averages.
        gradient_accumulation_steps: Batches per update, at least 2.

    Returns:
        A `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If `name` is not one of `OPTIMIZERS`, the optimizer does not have an argument,
            or a number is out of range.

    Example:
        >>> optimizer = optimizer_by_name("sgd", 0.1, momentum=0.9, clip_norm=1.0)
        >>> type(optimizer).__name__, optimizer.momentum, optimizer.global_clipnorm
        ('SGD', 0.9, 1.0)
    """
    one_of("name", name, OPTIMIZERS)
    if nesterov is not None:
        nesterov = truth("nesterov", nesterov)
    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = _number("learning_rate", learning_rate)
    special = {
        "momentum": _number("momentum", momentum),
        "nesterov": nesterov,
        "beta_1": _number("beta_1", beta_1),
        "beta_2": _number("beta_2", beta_2),
        "epsilon": _number("epsilon", epsilon),
    }
    for argument, value in special.items():
        if value is not None and name not in _TAKERS[argument]:
            raise ValueError(
                f"`{argument}` must not be passed for {name}. Received: {argument}={value!r}. "
                f"Omit it, or choose one of {', '.join(_TAKERS[argument])}."
            )
    weight_decay = _number("weight_decay", weight_decay)
    arguments = {
        **special,
        "weight_decay": weight_decay,
        # Muon has a separate decay for the variables that it updates with AdamW.
        "adam_weight_decay": weight_decay if name == "muon" else None,
        "global_clipnorm": _number("clip_norm", clip_norm),
        "use_ema": None if ema_momentum is None else True,
        "ema_momentum": _number("ema_momentum", ema_momentum),
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    given = {argument: value for argument, value in arguments.items() if value is not None}
    return _CLASSES[name](learning_rate, **given)


def _number(argument: str, value: Any) -> float | None:
    """Returns a number that keeps its argument's rule as a float, as Keras demands; None as it is.

    Raises:
        ValueError: If it is no number or breaks the rule.
    """
    if value is None and argument != "learning_rate":
        return None
    is_right, rule = _RULES[argument]
    return number(argument, value, rule, is_right)
