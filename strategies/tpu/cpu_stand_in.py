"""A strategy on the CPU that stands in for a TPU strategy, to trace the steps a TPU would run.

    strategy = support(TpuStandIn(num_replicas=4))

It claims replicas on TPU cores, so batches are split, precision is chosen and steps are built as on
the TPU. But only the first replica exists. A sum over replicas is this replica's value, so its
numbers are no training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.one_device_strategy import OneDeviceExtended

# What TPUMirroredVariable raises NotImplementedError for (TensorFlow 2.21).
_VERBS = ("add", "sub", "mul", "div", "min", "max", "update")
_ROW_BY_ROW = tuple(f"scatter_{verb}" for verb in _VERBS)


class TpuStandIn(tf.distribute.Strategy):
    """A strategy under which a step can be traced and compiled, but should not run.

    Args:
        num_replicas: Replicas it claims to have. Positive.

    Example:
        >>> TpuStandIn(num_replicas=4).num_replicas_in_sync
        4
    """

    def __init__(self, num_replicas: int) -> None:
        super().__init__(_OneOfMany(self, num_replicas))


class _OneOfMany(OneDeviceExtended):
    """TensorFlow's one-device strategy, which claims to be one replica of many."""

    def __init__(self, strategy: tf.distribute.Strategy, num_replicas: int) -> None:
        super().__init__(strategy, "CPU:0")
        self._claimed = num_replicas

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._claimed

    @property
    def worker_devices(self) -> tuple[str, ...]:
        """The cores of the TPU; nothing is placed on them."""
        core = "/job:localhost/replica:0/task:0/device:TPU:"
        return tuple(f"{core}{index}" for index in range(self._claimed))

    def _create_variable(self, next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        variable = super()._create_variable(next_creator, **kwargs)
        # Variables of one device are plain and have no strategy; those of a TPU have one.
        variable.distribute_strategy = self._container_strategy()
        for name in _ROW_BY_ROW:
            setattr(variable, name, functools.partial(_refuse_rows, name))
        return variable


def _refuse_rows(name: str, *_: Any, **__: Any) -> None:
    raise NotImplementedError(
        f"a variable of TPUStrategy has no {name}. Write the whole variable: assign, assign_add, "
        "assign_sub."
    )
