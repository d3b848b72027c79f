"""One training of a language model, and what was measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from absl import flags

import strategies
import tfscale
from recipes import common_flags
from recipes.images.training_log import TrainingLog
from recipes.language.build import Corpus, flagged_model, pipelines
from recipes.language.flops import flops_per_token
from recipes.language.rounds import Rounds
from recipes.language.sizes import ModelSize
from recipes.language.stages import flagged_pipeline
from recipes.language.throughput import Throughput
from tfscale.monitor import measured_peak
from tfscale.report import Stages

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Trained:
    """A trained model and its measures.

    Attributes:
        model: The model.
        log: Its metrics, by round.
        num_parameters: Its parameters.
        num_tokens: Tokens that it was trained on, padding included.
        bits_per_byte: Of the validation text.
        training_seconds: Of `fit`, with validation and compilation.
        seconds_per_step: Without them; None after a single round.
        tokens_per_second: The same.
        peak_flops: Operations a second that the devices can do.
        flops_utilization: Operations of the model, of all that the devices can do. The same.
        stages: A step of the pipeline, if it was timed.
    """

    model: keras.Model
    log: TrainingLog
    num_parameters: int
    num_tokens: int
    bits_per_byte: float
    training_seconds: float
    seconds_per_step: float | None
    tokens_per_second: float | None
    peak_flops: float
    flops_utilization: float | None
    stages: Stages | None


def train(
    corpus: Corpus,
    size: ModelSize,
    strategy: tf.distribute.Strategy,
    *,
    steps_of_a_round: int,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """Trains a model as the flags say.

    Args:
        corpus: The text.
        size: The size of the model.
        strategy: The strategy to train under.
        steps_of_a_round: Steps between two validations; divides those of the training.
        callbacks: More callbacks.
    """
    # Before and after, because another program may use the cores for a while.
    peaks = [FLAGS.peak_flops or measured_peak(strategy)]
    train_rows, validation = pipelines(corpus, strategy)
    rounds = Rounds(train_rows, steps_of_a_round)
    log, throughput = TrainingLog(common_flags.schedule(FLAGS.train_steps)), Throughput()
    keras.utils.set_random_seed(FLAGS.seed)
    with strategy.scope():
        model = flagged_model(corpus, size)
    pipeline = flagged_pipeline(model)
    # A pipeline has its own.
    parts = tfscale.callbacks.Microbatches(FLAGS.microbatches if pipeline is None else 1)
    began = time.monotonic()
    model.fit(
        rounds,
        epochs=FLAGS.train_steps // steps_of_a_round,
        validation_data=validation,
        verbose=2 if strategies.is_chief(strategy) else 0,
        callbacks=[log, throughput, parts, tfscale.callbacks.ReportTrial(), *callbacks],
    )
    training_seconds = time.monotonic() - began
    peaks.append(FLAGS.peak_flops or measured_peak(strategy))
    tokens_of_a_step = FLAGS.global_batch_size * FLAGS.context
    seconds = throughput.seconds_per_step
    tokens_per_second = None if seconds is None else tokens_of_a_step / seconds
    num_parameters = model.count_params()
    flops = flops_per_token(size, num_parameters=num_parameters, context=FLAGS.context)
    return Trained(
        model=model,
        log=log,
        num_parameters=num_parameters,
        num_tokens=FLAGS.train_steps * tokens_of_a_step,
        bits_per_byte=log.history["val_bits_per_byte"][-1],
        training_seconds=training_seconds,
        seconds_per_step=seconds,
        tokens_per_second=tokens_per_second,
        peak_flops=max(peaks),
        flops_utilization=None
        if tokens_per_second is None
        else flops * tokens_per_second / max(peaks),
        stages=Stages.of(pipeline) if pipeline and FLAGS.pipeline_timed else None,
    )
