"""LARS: stochastic gradient descent with layer-wise adaptive rate scaling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import number, sequence, text, truth

EXCLUDED = ("bias", "beta", "gamma")
"""Default names of variables that LARS updates without decay and trust ratio."""

# TensorFlow calls a variable "sequential/dense/kernel:0", and its second replica's copy
# "sequential/dense/kernel/replica_1:0".
_LAST_NAME = re.compile(r"([^/:]+)(/replica_\d+)?(:\d+)?$")


@keras.saving.register_keras_serializable(package="tfscale")
class LARS(keras.optimizers.SGD):
    """Stochastic gradient descent with layer-wise adaptive rate scaling.

    Choose it for very large global batches of images, where a common learning rate makes some
    layers diverge. For a variable w with gradient g, rate gamma, momentum m, weight decay beta and
    trust coefficient eta:

        trust = eta * |w| / (|g| + beta * |w|)
        v = m * v + gamma * trust * (g + beta * w)
        w = w - v

    With `nesterov` the last line subtracts `m * v + gamma * trust * (g + beta * w)` instead. If |w|
    or |g| + beta * |w| is 0, the trust ratio is 1, because a variable that starts with zeros would
    otherwise never change. Biases and the variables of normalization layers have no decay and a
    trust ratio of 1. Weight decay is part of the gradient and of the trust ratio; it is not Keras's
    decoupled decay.

    Args:
        learning_rate: gamma, as a float, a `LearningRateSchedule` or a callable without arguments.
            It is much larger than for SGD.
        momentum: m, from 0 to 1.
        nesterov: Whether to use Nesterov momentum.
        weight_decay: beta, at least 0.
        trust_coefficient: eta, positive.
        exclude: Names of variables that are updated as by SGD with momentum. These are complete
            names of variables, not of layers. Default: `EXCLUDED`.
        clipnorm: As in Keras optimizers: clips each variable's gradient, before the formula above.
        clipvalue: As in Keras optimizers: clips each element.
        global_clipnorm: As in Keras optimizers: clips by the norm of all gradients.
        use_ema: Whether to keep moving averages of the weights.
        ema_momentum: Momentum of the averages.
        ema_overwrite_frequency: Steps after which the averages overwrite the weights, or None.
        loss_scale_factor: Factor of the loss, or None.
        gradient_accumulation_steps: Batches per update, at least 2, or None.
        name: The optimizer's name.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> optimizer = LARS(1.0, momentum=0.0, trust_coefficient=0.1, exclude=())
        >>> weights = keras.Variable([3.0, 4.0])
        >>> optimizer.apply([keras.ops.array([0.0, 2.0])], [weights])
        >>> weights.numpy().round(6).tolist()
        [3.0, 3.5]

    Source: You, Gitman and Ginsburg 2017, arXiv:1708.03888, equation 6 and algorithm 1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float | None = None,
        trust_coefficient: float = 0.001,
        exclude: Sequence[str] = EXCLUDED,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "lars",
    ) -> None:
        if isinstance(learning_rate, (int, float)):
            learning_rate = number(
                "learning_rate", learning_rate, "at least 0 and finite", lambda rate: rate >= 0
            )
        momentum = number("momentum", momentum, "from 0 to 1", lambda m: 0 <= m <= 1)
        rule = "at least 0, or None for no decay"
        cure = "The paper uses 0.0005."
        if weight_decay is not None:
            weight_decay = number("weight_decay", weight_decay, rule, lambda d: d >= 0, cure=cure)
        cure = "The paper uses 0.001."
        trust_coefficient = number(
            "trust_coefficient", trust_coefficient, "positive", lambda c: c > 0, cure=cure
        )
        if isinstance(exclude, str):
            raise ValueError(
                f"`exclude` must be a sequence of names. Received: exclude={exclude!r}. "
                f"Pass exclude=({exclude!r},)."
            )
        exclude = [text("exclude", each) for each in sequence("exclude", exclude)]
        super().__init__(
            learning_rate=learning_rate,
            # Keras converts a Python float to float32 first, even in float64 models.
            momentum=np.float64(momentum),
            nesterov=truth("nesterov", nesterov),
            # Keras's decay is decoupled and would be added to that in `update_step`.
            weight_decay=None,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.inner_weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self.exclude = tuple(exclude)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, or one replica's copy of it, with the gradient of the batch."""
        # Rows of an embedding may be repeated. Only the dense gradient has the right norm.
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if not self.excludes(variable):
            gradient = self._trusted(gradient, tf.convert_to_tensor(variable))
        super().update_step(gradient, variable, learning_rate)

    def _trusted(self, gradient: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Returns the decayed gradient times the trust ratio (equation 6)."""
        decay = tf.constant(self.inner_weight_decay or 0.0, weights.dtype)
        coefficient = tf.constant(self.trust_coefficient, weights.dtype)
        norm = tf.norm(weights)
        divisor = tf.norm(gradient) + decay * norm
        is_measurable = tf.logical_and(norm > 0, divisor > 0)
        trust = tf.where(
            is_measurable,
            coefficient * tf.math.divide_no_nan(norm, divisor),
            tf.ones_like(norm),
        )
        return trust * (gradient + decay * weights)

    def excludes(self, variable: Any) -> bool:
        """Returns whether a variable is updated without weight decay and trust ratio."""
        found = _LAST_NAME.search(variable.name)
        return found is not None and found[1] in self.exclude

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Raises an error. Use `exclude`, which is saved in the configuration.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "`exclude_from_weight_decay` must not be called on LARS. Received: "
            f"var_list={var_list!r}, var_names={var_names!r}. Pass the names to LARS(exclude=...)."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "momentum": float(self.momentum),
            "weight_decay": self.inner_weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "exclude": list(self.exclude),
        }
