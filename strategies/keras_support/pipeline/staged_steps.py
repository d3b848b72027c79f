"""`evaluate` and `predict` of a pipeline: one stage after another, each on its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from strategies.keras_support.pipeline.pipeline_step import PipelineStep
from strategies.keras_support.pipeline.pipelined_model import PipelinedModel, pipeline_of
from strategies.keras_support.placement.replica_devices import devices_of_this_replica
from strategies.keras_support.step.microbatch_count import microbatches_of
from strategies.keras_support.step.microbatches import is_standard, train_step_of

Step = Callable[[Any], Any]


def training_step_of(model: Any) -> Step:
    """Returns the training step of a model: as a pipeline if it is one.

    Raises:
        ValueError: If it is a pipeline and cannot be trained as one.
    """
    pipeline = pipeline_of(model)
    if pipeline is None:
        return train_step_of(model)
    if not is_standard(model.train_step):
        raise ValueError(
            "`model` must have Keras's own `train_step` to be trained as a pipeline, because "
            "another one decides itself what it does with a batch. Received: "
            f"{model.name!r} of class {type(model).__name__}. Override compute_loss instead."
        )
    if model.jit_compile and not model.run_eagerly:
        raise ValueError(
            "`jit_compile` must be False for a pipeline, because XLA compiles a program for one "
            'device. Received: jit_compile=True, perhaps chosen by Keras for "auto". Call '
            "model.compile(..., jit_compile=False)."
        )
    count = microbatches_of(model)
    if count != 1:
        raise ValueError(
            "`Microbatches` must be left out for a pipeline, which has its own microbatches. "
            f"Received: Microbatches({count}). Pass microbatches= to Pipeline."
        )
    return PipelineStep(model, pipeline)


def test_step_of(model: Any) -> Step:
    """Returns the step of `evaluate`, stage by stage if the model is a pipeline."""
    pipeline = _pipeline_of_own(model, "test_step")
    if pipeline is None:
        step: Step = model.test_step
        return step
    return _StagedTestStep(model, pipeline)


def predict_step_of(model: Any) -> Step:
    """Returns the step of `predict`, stage by stage if the model is a pipeline."""
    pipeline = _pipeline_of_own(model, "predict_step")
    if pipeline is None:
        step: Step = model.predict_step
        return step

    def predict_step(data: Any) -> Any:
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        return pipeline.forward(x, devices_of_this_replica())

    return predict_step


def _pipeline_of_own(model: Any, name: str) -> PipelinedModel | None:
    """Returns how a model is computed in stages; None if it is not, or has a step of its own."""
    is_own = getattr(getattr(model, name), "__func__", None) is getattr(keras.Model, name)
    return pipeline_of(model) if is_own else None


class _StagedTestStep:
    """Stands in for Keras's `test_step`.

    Args:
        model: A compiled Keras model.
        pipeline: How it is computed.

    Attributes:
        is_like_own: See `MicrobatchStep`.
    """

    is_like_own = True

    def __init__(self, model: Any, pipeline: PipelinedModel) -> None:
        self.__name__ = "test_step"
        self._model, self._pipeline = model, pipeline

    def __call__(self, data: Any) -> dict[str, Any]:
        """Computes loss and metrics of a replica batch; see Keras's `test_step`."""
        model, devices = self._model, devices_of_this_replica()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        predicted = self._pipeline.forward(x, devices)
        with tf.device(devices[-1]):
            loss = model._compute_loss(
                x=x, y=y, y_pred=predicted, sample_weight=sample_weight, training=False
            )
            rows = tf.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
            # As Keras's own, whose losses a step of this package does not scale.
            model._loss_tracker.update_state(loss, sample_weight=rows)
            logs: dict[str, Any] = model.compute_metrics(
                x, y, predicted, sample_weight=sample_weight
            )
        return logs
