"""What needs which symbols of Keras and TensorFlow, and so is refused if one of them changed.

If a release changes a symbol, only the features that need it should be refused. Each patch and each
private symbol has a `Need`:

    of a strategy    refused when a strategy is built: `TRAINING`, `WORKERS`, `PARAMETER_SERVERS`
    of a feature     refused when it is used: `PREDICT`, `CSV_LOGGER`, ...

`tfscale doctor` shows each need and whether it works with the installed releases.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.patching.ownership import (
    is_asynchronous,
    is_multi_worker,
    is_owned,
)


class Need(enum.Enum):
    """What needs a symbol, as messages name it."""

    TRAINING = "all strategies"
    WORKERS = "several workers"
    PARAMETER_SERVERS = "parameter servers"

    EVALUATE = "evaluate and validation data"
    PREDICT = "predict"
    CLASS_WEIGHT = "class_weight of a pipeline or under parameter servers"
    RANDOM_LAYERS = "random layers and SeedGenerator"
    ADDED_LOSSES = "add_loss and regularizers"
    SYNCHRONIZED_BATCH_NORM = "BatchNormalization(synchronized=True)"
    RECOMPUTATION = "keras.remat, RematScope and recomputation"
    STATE_DTYPE = "optimizer slots in bfloat16"
    LOSS_SCALING = "LossScaleOptimizer"
    INNER_FUNCTIONS = "tf.function inside of a step"
    CLEAR_SESSION = "clear_session in a scope"
    SAVING_IN_SCOPE = "saving in a scope with several workers"
    MODEL_CHECKPOINT = "ModelCheckpoint with several workers or parameter servers"
    BACKUP = "BackupAndRestore"
    CSV_LOGGER = "CSVLogger with several workers"
    TENSORBOARD = "TensorBoard with several workers"
    LOCAL_UPDATES = "LocalUpdates"
    PRUNING = "Prune"
    MICROBATCHES = "microbatches"
    SHARDING = "shard=1, 2 or 3"
    PIPELINES = "pipelines"
    TENSOR_PARALLEL = "tensor_parallel"
    COPIES = "copies of a model"
    """tfscale.prepare and resharding copy models."""
    FINDERS = "find_learning_rate"
    REPORTS = "reports"
    """Used by tools that train nothing. `tfscale doctor` names the change; nothing is refused."""

    @property
    def is_of_strategy(self) -> bool:
        """Whether it is refused when a strategy is built."""
        return self in (Need.TRAINING, Need.WORKERS, Need.PARAMETER_SERVERS)

    @property
    def is_checked(self) -> bool:
        """Whether the code that uses the feature calls `require`, or nothing is refused.

        Other features are refused only by their replaced symbols: see `refused`.
        """
        return self in _CHECKED


_CHECKED = {
    Need.CLASS_WEIGHT,
    Need.MODEL_CHECKPOINT,
    Need.BACKUP,
    Need.CSV_LOGGER,
    Need.TENSORBOARD,
    Need.LOCAL_UPDATES,
    Need.PRUNING,
    Need.MICROBATCHES,
    Need.STATE_DTYPE,
    Need.SHARDING,
    Need.PIPELINES,
    Need.TENSOR_PARALLEL,
    Need.COPIES,
    Need.FINDERS,
    Need.REPORTS,
}
_OF_SEVERAL_TASKS = {
    Need.SAVING_IN_SCOPE,
    Need.MODEL_CHECKPOINT,
    Need.CSV_LOGGER,
    Need.TENSORBOARD,
}

Changes = Mapping[Need, Sequence[str]]
"""The changed symbols by what needs them."""

_CHANGES: dict[Need, tuple[str, ...]] = {}


def note_changes(changes: Changes) -> None:
    """Notes which symbols the installed releases have changed, for `require`."""
    _CHANGES.update({need: tuple(targets) for need, targets in changes.items()})


def require(need: Need, strategy: tf.distribute.Strategy | None = None) -> None:
    """Checks a feature that is about to be used.

    Args:
        need: The feature.
        strategy: What it is used under, if it may need nothing there. None always checks.

    Raises:
        RuntimeError: If a symbol that it needs changed.
    """
    if need in _CHANGES and (strategy is None or _exists_under(need, strategy)):
        raise RuntimeError(refusal(need, _CHANGES[need]))


def refusal(need: Need, targets: Sequence[str]) -> str:
    """Returns the message that refuses a need because symbols changed."""
    otherwise = (
        "build the strategy with tf.distribute and train without the fixes"
        if need.is_of_strategy
        else "leave it out: `tfscale doctor` lists what works"
    )
    return (
        f"Keras and TensorFlow must be releases that tfscale supports for {need.value}. "
        f"Received: Keras {keras.__version__} and TensorFlow {tf.__version__}, in which "
        f"{', '.join(targets)} changed. Install releases that this tfscale supports (`pip install "
        f"--upgrade tfscale` pins them), or {otherwise}."
    )


def refused(need: Need, original: Any, is_used: Callable[..., bool] | None = None) -> Any:
    """Returns what replaces a function or method while `need` is refused.

    Under a strategy of this package it raises; otherwise it calls `original`.

    Args:
        need: Of the patch that cannot be installed.
        original: What the installed release defines.
        is_used: Receives the arguments of a call, and tells whether it needs the patch. None for
            every call.
    """

    @functools.wraps(original)
    def refusing(*arguments: Any, **options: Any) -> Any:
        for strategy in _strategies_of(arguments):
            if is_used is None or is_used(*arguments, **options):
                require(need, strategy)
        return original(*arguments, **options)

    return refusing


def _exists_under(need: Need, strategy: Any) -> bool:
    is_distributed = is_asynchronous(strategy) or is_multi_worker(strategy)
    return is_distributed or need not in _OF_SEVERAL_TASKS


def _strategies_of(arguments: Sequence[Any]) -> list[Any]:
    """Returns the strategies of this package that a call may be under.

    Args:
        arguments: Positional arguments of the call; the first may be a model or a callback.
    """
    first = arguments[0] if arguments else None
    candidates = [
        getattr(first, "distribute_strategy", None),
        getattr(getattr(first, "model", None), "distribute_strategy", None),
        tf.distribute.get_strategy() if tf.distribute.has_strategy() else None,
    ]
    return [strategy for strategy in candidates if is_owned(strategy)]
