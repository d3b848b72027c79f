"""Trains with Keras 3 inside of Ray Train. Import it before TensorFlow, Keras and Ray.

    import tfscale.ray_train
    from ray.train.tensorflow import TensorflowTrainer

Ray sets TF_USE_LEGACY_KERAS, which asks for the package tf_keras, and the strategies of TensorFlow
fail under Keras 3 (https://github.com/ray-project/ray/issues/47464). Unlike all others, **this
module acts when it is imported**, so that a program for Ray needs one more line:

* TF_USE_LEGACY_KERAS is removed from this process, and from that of each worker.
* `ray.train.tensorflow.TensorflowTrainer` becomes the one below.
* The training loops of such a trainer begin with a random seed that follows from the name of the
  run, so that all workers shuffle alike; set another one with `keras.utils.set_random_seed`.
* In such a loop `tf.distribute.MultiWorkerMirroredStrategy()` builds
  `strategies.multi_worker_mirrored_strategy()`.

Needs `pip install "ray[train]"`; tested with Ray 2.60.
"""

from __future__ import annotations

import functools
import inspect
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

LEGACY_VARIABLE = "TF_USE_LEGACY_KERAS"
os.environ.pop(LEGACY_VARIABLE, None)  # TensorFlow reads it when `tf.keras` is first used

import keras  # noqa: E402
import ray.train  # noqa: E402
import ray.train.tensorflow  # noqa: E402
import tensorflow as tf  # noqa: E402

import strategies  # noqa: E402
from tfscale.callbacks import Checkpoint  # noqa: E402


class TensorflowTrainer(ray.train.tensorflow.TensorflowTrainer):
    """Ray's `TensorflowTrainer`, whose workers have Keras 3 and strategies of tfscale.

    If a worker or a node fails, Ray starts all workers again, up to
    `FailureConfig(max_failures=N)` times. With `tfscale.callbacks.Checkpoint` in a folder that all
    nodes share, each start continues where the last one was.

    Args:
        train_loop_per_worker: The training loop, with or without an argument.
        *arguments: As for Ray's `TensorflowTrainer`.
        **keywords: As for Ray's `TensorflowTrainer`.

    Source: https://docs.ray.io/en/latest/train/distributed-tensorflow-keras.html
    """

    def __init__(
        self, train_loop_per_worker: Callable[..., Any], *arguments: Any, **keywords: Any
    ) -> None:
        # A function of this module: unpickling it in a worker imports this module first.
        takes_config = _takes_config(train_loop_per_worker)
        loop = _with_config if takes_config else _without_config
        super().__init__(functools.partial(loop, train_loop_per_worker), *arguments, **keywords)


class Report(keras.callbacks.Callback):
    """Reports the metrics of each epoch to Ray, and the checkpoint beside them.

    Every worker has to have it, because `ray.train.report` waits for all. The chief attaches the
    checkpoint, which Ray copies to its `storage_path`.

    Args:
        checkpoint: The `Checkpoint` of the same `fit`, with `asynchronous=False`: Ray copies its
            folder, into which nothing may be written at that time. None reports metrics only.

    Raises:
        ValueError: If `checkpoint` is something else.

    Example:
        checkpoint = tfscale.callbacks.Checkpoint("/shared/run", asynchronous=False)
        model.fit(train, epochs=9, callbacks=[checkpoint, tfscale.ray_train.Report(checkpoint)])
    """

    comes_last = True  # behind the checkpoint, if it is listed behind it

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        super().__init__()
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise ValueError(
                "`checkpoint` must be a tfscale.callbacks.Checkpoint, or None. Received: "
                f"checkpoint={checkpoint!r}. Pass the one that is in the callbacks of the same fit."
            )
        if checkpoint is not None and checkpoint.asynchronous:
            raise ValueError(
                "`checkpoint` must not write in the background: Ray copies its folder at the end "
                "of each epoch. Received: a Checkpoint with asynchronous=True. Pass "
                "asynchronous=False to it."
            )
        self._checkpoint = checkpoint

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Reports the logs, as plain numbers, with the number of the epoch, from 0."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        attached = None
        if self._checkpoint is not None and ray.train.get_context().get_world_rank() == 0:
            attached = ray.train.Checkpoint.from_directory(str(self._checkpoint.directory.path))
        ray.train.report({**metrics, "epoch": epoch}, checkpoint=attached)


def _takes_config(loop: Callable[..., Any]) -> bool:
    return bool(inspect.signature(loop).parameters)


def _with_config(loop: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    _prepare_worker()
    return loop(config)


def _without_config(loop: Callable[..., Any]) -> Any:
    _prepare_worker()
    return loop()


_OWNERS = (tf.distribute, tf.distribute.experimental)
_NAME = "MultiWorkerMirroredStrategy"
_STOCK = tuple(getattr(owner, _NAME) for owner in _OWNERS)


class _BuildsOurs(type):
    """The type of what a training loop finds under TensorFlow's name of the strategy."""

    def __call__(cls, *arguments: Any, **keywords: Any) -> tf.distribute.Strategy:
        if arguments or keywords:
            raise ValueError(
                f"`tf.distribute.{_NAME}` must have no arguments in a loop of "
                f"tfscale.ray_train. Received: {arguments or keywords}. Call "
                "strategies.multi_worker_mirrored_strategy(...) with its own."
            )
        _put(_STOCK)  # the factory builds upon it
        try:
            return strategies.multi_worker_mirrored_strategy()
        finally:
            _put((_Ours,) * len(_OWNERS))

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _STOCK)


class _Ours(metaclass=_BuildsOurs):
    """Stands for TensorFlow's class."""


def _put(classes: tuple[Any, ...]) -> None:
    for owner, found in zip(_OWNERS, classes, strict=True):
        setattr(owner, _NAME, found)


def _prepare_worker() -> None:
    os.environ.pop(LEGACY_VARIABLE, None)  # Ray sets it once it has started the worker
    # Ray's examples shuffle without a seed, and all workers have to read in the same order.
    run = ray.train.get_context().get_experiment_name()
    keras.utils.set_random_seed(zlib.crc32(run.encode()) % 2**31)
    _put((_Ours,) * len(_OWNERS))


ray.train.tensorflow.TensorflowTrainer = TensorflowTrainer
