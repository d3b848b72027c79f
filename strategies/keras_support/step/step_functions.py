"""The function patch: the train, test and predict functions, owned."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from strategies.cluster.chief import is_chief
from strategies.half_precision_outputs import warn_of_half_outputs
from strategies.keras_support.asynchronous.train_function import asynchronous_or
from strategies.keras_support.model.checks import refuse_parts_of_ours
from strategies.keras_support.patching.ownership import is_owned
from strategies.keras_support.patching.patch import Patch
from strategies.keras_support.state.batch_norm import moving_statistics
from strategies.keras_support.step.predict_function import predict_function
from strategies.keras_support.step.replica_step import none_written
from strategies.keras_support.step.train_function import Logs, step_function
from strategies.progress import phase


def _owned(
    attribute: str,
    build: Callable[[Any], Any],
    check_others: Callable[[Any], None] | None = None,
) -> Callable[[Any], Any]:
    """Returns the wrapper of a `make_..._function` that keeps what it made in `attribute`.

    Models that are not ours go to Keras's own, after `check_others`.
    """

    def wrap(make_function: Any) -> Any:
        @functools.wraps(make_function)
        def make(self: Any, force: bool = False) -> Any:
            if not is_owned(self.distribute_strategy):
                if check_others is not None:
                    check_others(self)
                return make_function(self, force=force)
            if getattr(self, attribute) is None or force:
                setattr(self, attribute, build(self))
            return getattr(self, attribute)

        return make

    return wrap


def _train_function(model: Any) -> Callable[[Any], Logs]:
    if is_chief(model.distribute_strategy):
        warn_of_half_outputs(model)
    in_step = functools.partial(step_function, model, model.train_step, moving_statistics)
    function = asynchronous_or(in_step, model)

    def train(iterator: Any) -> Logs:
        with phase("step"):
            return function(iterator)

    return train


_train = _owned("train_function", _train_function, refuse_parts_of_ours)
_test = _owned("test_function", lambda model: step_function(model, model.test_step, none_written))
_predict = _owned("predict_function", predict_function)

_TRAINER = "keras.src.backend.tensorflow.trainer:TensorFlowTrainer"
TRAIN = Patch(f"{_TRAINER}.make_train_function", frozenset({"e37a0521985e"}), _train)
TEST = Patch(f"{_TRAINER}.make_test_function", frozenset({"e2dacd0f1f49"}), _test)
PREDICT = Patch(f"{_TRAINER}.make_predict_function", frozenset({"a54b452442b3"}), _predict)
