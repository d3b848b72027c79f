"""The arguments of `compile` of a configuration: optimizer, schedule, losses and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tests.parity.configuration import Configuration
from tests.parity.kinds import kind_of

_RATES = {
    "adadelta": 1.0,
    "adafactor": 0.05,
    "ftrl": 0.1,
    "lion": 0.003,
    "sgd": 0.1,
    "nesterov": 0.03,
}
_RATE = 0.01
_CLIPS = {"clipnorm": 0.05, "global_clipnorm": 0.1, "clipvalue": 0.01}
"""So small that most steps are clipped."""

optimizers = keras.optimizers
_OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": optimizers.SGD,
    "nesterov": lambda rate, **options: optimizers.SGD(rate, 0.9, nesterov=True, **options),
    "adam": optimizers.Adam,
    "amsgrad": lambda rate, **options: optimizers.Adam(rate, amsgrad=True, **options),
    "adamw": optimizers.AdamW,
    "schedule_free_adamw": optimizers.ScheduleFreeAdamW,
    "adagrad": optimizers.Adagrad,
    "adadelta": optimizers.Adadelta,
    "adamax": optimizers.Adamax,
    "nadam": optimizers.Nadam,
    "rmsprop": optimizers.RMSprop,
    "ftrl": optimizers.Ftrl,
    "lion": optimizers.Lion,
    "lamb": optimizers.Lamb,
    "adafactor": optimizers.Adafactor,
    "muon": optimizers.Muon,
}


def build_optimizer(configuration: Configuration) -> Any:
    """Returns the configuration's optimizer; must be called in the strategy's scope."""
    options: dict[str, Any] = {}
    if configuration.clip != "none":
        options[configuration.clip] = _CLIPS[configuration.clip]
    if configuration.accumulation > 1:
        options["gradient_accumulation_steps"] = configuration.accumulation
    if configuration.ema != "none":
        options |= {"use_ema": True, "ema_momentum": 0.9}
    if configuration.ema == "overwrite":
        options["ema_overwrite_frequency"] = 5
    if configuration.weight_decay:
        options["weight_decay"] = 0.01
    optimizer = _OPTIMIZERS[configuration.optimizer](_learning_rate(configuration), **options)
    if configuration.loss_scaling:
        optimizer = optimizers.LossScaleOptimizer(
            optimizer, initial_scale=256.0, dynamic_growth_steps=6
        )
    return optimizer


def _learning_rate(configuration: Configuration) -> Any:
    rate = _RATES.get(configuration.optimizer, _RATE)
    if configuration.reduction in ("sum", "none"):
        rate /= configuration.batch
    schedules = optimizers.schedules
    if configuration.schedule == "cosine":
        return schedules.CosineDecay(rate, decay_steps=30, warmup_target=2 * rate, warmup_steps=4)
    if configuration.schedule == "exponential":
        return schedules.ExponentialDecay(rate, decay_steps=3, decay_rate=0.9)
    if configuration.schedule == "piecewise":
        return schedules.PiecewiseConstantDecay([4, 9], [rate, rate / 2, rate / 5])
    return rate


_LOSSES: dict[str, Callable[..., Any]] = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
    "log_cosh": keras.losses.LogCosh,
    "cosine": keras.losses.CosineSimilarity,
    "hinge": keras.losses.SquaredHinge,
    "binary": lambda reduction: keras.losses.BinaryCrossentropy(
        from_logits=True, reduction=reduction
    ),
    "focal": lambda reduction: keras.losses.BinaryFocalCrossentropy(
        from_logits=True, reduction=reduction
    ),
    "categorical": lambda reduction: keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1, reduction=reduction
    ),
    "sparse": lambda reduction: keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=reduction
    ),
    "dice": keras.losses.Dice,
}


def build_losses(configuration: Configuration) -> dict[str, Any]:
    """Returns the losses and metrics, as arguments of `compile`."""
    reduction = _keras_reduction(configuration.reduction)
    if not kind_of(configuration.model).has_compiled_loss:
        return {}
    if configuration.model == "two_outputs":
        other = "mean_with_sample_weight" if configuration.reduction == "sum" else "sum"
        return {
            "loss": {
                "value": keras.losses.MeanSquaredError(reduction=reduction),
                "label": _LOSSES["sparse"](reduction=other),
            },
            "loss_weights": {"value": 1.0, "label": 0.3},
            "metrics": {"value": ["mae"], "label": ["accuracy"]},
        }
    is_weighted = configuration.weights != "none"
    return {
        "loss": _LOSSES[configuration.loss](reduction=reduction),
        "metrics": _metrics(configuration),
        "weighted_metrics": _metrics(configuration) if is_weighted else None,
    }


def _metrics(configuration: Configuration) -> list[Any]:
    """A mean, and a square root, which is not the mean of the replicas' square roots."""
    if configuration.loss in ("sparse", "categorical"):
        return ["accuracy"]
    return ["mae", keras.metrics.RootMeanSquaredError()]


def _keras_reduction(reduction: str) -> str:
    return "sum_over_batch_size" if reduction == "mean" else reduction
