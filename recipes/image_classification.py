r"""Trains a small convolutional network on an image set of TensorFlow Datasets.

    python -m recipes.image_classification --dataset=digits \
        --distribution_strategy=mirrored --num_replicas=2

    tfscale launch --num_workers=2 -- python -m recipes.image_classification \
        --dataset=digits --distribution_strategy=multi_worker_mirrored

    python -m recipes.image_classification --flagfile=recipes/flags/laptop.flags

The digits (1,797 images of 8x8) come with the recipe. TFDS downloads other sets,
such as mnist and cifar10 (not yet tested: needs access to their server), or
finds them prepared in --data_dir. A --data_dir with a folder of images for each
class, or with such folders train and test, is a set too. Training uses the split
"train" (without the rows of --validation); the split "test" is used once, at the
end.

A run writes to --model_dir: model.keras (for predicting, loads in plain Keras),
report.html (open it in a browser), run.json and summary.json (for programs) and
metrics.csv (one line per epoch). With --checkpoint_every=epoch an interrupted run
resumes when it is started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

# TensorFlow's start-up lines would hide those of the recipe. Set before it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from absl import flags

import strategies
import tfscale
from recipes import (
    checkpoint_flag,
    common_flags,
    entry_point,
    flag_sections,
    found_batch_flag,
    found_rate_flag,
    number_flags,
    results,
)
from recipes.images import run_report, validation
from recipes.images.build import (
    flagged_image_set,
    flagged_model,
    model_and_data,
    pipelines,
    validation_pipeline,
)
from recipes.images.predictions import predict_split
from recipes.images.training_log import TrainingLog, tensorboard_log
from recipes.number_flags import PART
from tfscale.cli import NOT_NEGATIVE, floats
from tfscale.data import Pipeline
from tfscale.report import REPORT_FILE, Timing

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Defines this recipe's flags."""
    with flag_sections.section("this recipe"):
        flags.DEFINE_string(
            "dataset",
            None,
            "TFDS name of a set of images with class labels and the splits train and test. "
            "Default: the images of --data_dir if it has a folder for each class, else digits.",
        )
        number_flags.define_integer(
            "image_size",
            None,
            "Height and width that the images of a folder are resized to. Default: all have one "
            "size.",
        )
        number_flags.define_float(
            "dropout", 0.4, "Fraction of the features dropped in training, below 1.", PART
        )
        number_flags.define_float(
            "augmentation",
            1.0,
            "Strength, 0 to 4: every training image is shifted by up to this many eighths of its "
            "size, at least one pixel. 0 for none.",
            floats("in [0, 4]", "1", lambda strength: 0 <= strength <= 4),
        )
        flags.DEFINE_bool(
            "flips",
            False,
            "Mirror half of the training images left to right: right for photographs, wrong for "
            "digits.",
        )
        number_flags.define_float(
            "label_smoothing",
            0.0,
            "Fraction of a training label spread over all classes, below 1; 0.1 is usual. The "
            "test loss is computed without it.",
            PART,
        )
        number_flags.define_float(
            "weight_decay",
            None,
            "Fraction of every weight that an update subtracts, times the learning rate. Default: "
            "that of the optimizer, 0.004 for adamw.",
            NOT_NEGATIVE,
        )
        number_flags.define_float(
            "momentum",
            None,
            "Momentum of sgd, rmsprop, lars or muon, 0 to 1. Default: that of the optimizer, 0 "
            "for sgd.",
            floats("in [0, 1]", "0.9", lambda momentum: 0 <= momentum <= 1),
        )
        found_rate_flag.define()
        found_batch_flag.define()
        validation.define()
    common_flags.define()
    with flag_sections.section("results"):
        flags.DEFINE_bool(
            "tensorboard",
            False,
            "Write metrics and the learning rate, epoch by epoch, for TensorBoard, to a new folder "
            "in tensorboard/ of --model_dir.",
        )
        flags.DEFINE_string(
            "predictions",
            None,
            "CSV file for the predictions of the split test: row, label, prediction, probability; "
            "one line per image, in order.",
        )
    entry_point.define(__doc__)


def fit(
    model: keras.Model,
    train: Pipeline,
    num_steps: int,
    callbacks: list[Any],
    held_out: Pipeline | None = None,
) -> None:
    """Trains for whole epochs, and for a shorter last one if `num_steps` is not a multiple.

    Args:
        model: A compiled model.
        train: The training input.
        num_steps: Optimizer updates. Positive.
        callbacks: Keras's callbacks.
        held_out: What is evaluated after each epoch; None for nothing.
    """
    verbose = 2 if strategies.is_chief(train.strategy) else 0
    epochs, rest = divmod(num_steps, train.steps_per_epoch)
    if epochs:
        model.fit(
            train,
            epochs=epochs,
            validation_data=held_out,
            verbose=verbose,
            callbacks=callbacks,
        )
    if rest:
        model.fit(
            train.at(epochs),
            initial_epoch=epochs,
            epochs=epochs + 1,
            steps_per_epoch=rest,
            validation_data=held_out,
            verbose=verbose,
            callbacks=callbacks,
        )


def model_and_data_of_size(batch_size: int) -> tuple[keras.Model, Pipeline]:
    """Builds model and training input in a process that tries a batch size."""
    found_batch_flag.parse(define_flags, batch_size)
    return model_and_data()


def main(_: Sequence[str]) -> None:
    """Trains and evaluates according to the flags, and writes the results."""
    started = time.monotonic()
    image_set = flagged_image_set()
    found_batch = None
    if FLAGS.find_batch_size is not None:
        image_set.prepare(shows_progress=False)
        found_batch = found_batch_flag.find(
            "recipes.image_classification:model_and_data_of_size",
            largest=image_set.num_examples("train") - validation.held_out(image_set),
        )
    strategy = common_flags.strategy()
    is_chief = strategies.is_chief(strategy)
    if is_chief and found_batch is not None:
        print(found_batch, flush=True)
    tfscale.set_precision(FLAGS.precision, strategy)
    model_dir = FLAGS.model_dir or f"runs/{image_set.name}"
    if is_chief:
        results.make_writable(model_dir, "metrics.csv")
        if FLAGS.predictions:
            results.make_file_writable(FLAGS.predictions, flag="predictions")
    callbacks = [tensorboard_log(model_dir)] if FLAGS.tensorboard else []

    image_set.prepare(shows_progress=is_chief)
    train, test = pipelines(image_set, strategy)
    held_out = validation_pipeline(image_set, strategy)
    num_steps = common_flags.train_steps(train.steps_per_epoch)
    found_rate_flag.find(lambda: flagged_model(image_set, num_steps), train)
    log = TrainingLog(common_flags.schedule(num_steps))
    checkpoint = checkpoint_flag.callback(
        model_dir, steps_per_epoch=train.steps_per_epoch, num_steps=num_steps
    )
    callbacks.append(tfscale.callbacks.Microbatches(FLAGS.microbatches))
    callbacks.append(tfscale.callbacks.ReportTrial())
    callbacks += [log] if checkpoint is None else [log, checkpoint]
    # Not earlier: a task that waits for another one to prepare the set draws random numbers.
    keras.utils.set_random_seed(FLAGS.seed)
    with strategy.scope():
        model = flagged_model(image_set, num_steps)
    training_started = time.monotonic()
    fit(model, train, num_steps, callbacks, held_out)
    training_seconds = time.monotonic() - training_started
    loss, accuracy = model.evaluate(test, verbose=0)
    classes = image_set.num_classes if image_set.num_classes <= run_report.MOST_CLASSES else None
    confusion, failure = None, None
    if classes or FLAGS.predictions:
        try:
            confusion = predict_split(
                model,
                image_set.read("test"),
                num_classes=classes,
                batch_size=test.global_batch_size,
                path=FLAGS.predictions if is_chief else None,
            )
        except OSError as error:
            if not is_chief:
                raise
            failure = error  # The trained model is written first.
    plain = results.predictor(model)  # on every worker: with --shard=3 each has a part of it
    if not is_chief:
        return
    measured = {"test_accuracy": accuracy, "test_loss": loss}
    timing = Timing(
        total_seconds=time.monotonic() - started,
        startup_seconds=None if log.first_step_ended is None else log.first_step_ended - started,
        training_seconds=training_seconds,
        seconds_per_step=run_report.seconds_per_step(log),
        num_steps=num_steps,
        global_batch_size=FLAGS.global_batch_size,
    )
    record = run_report.image_record(
        strategy, image_set, log, results=measured, confusion=confusion, timing=timing
    )
    summary = {
        **measured,
        "training_seconds": training_seconds,
        "total_seconds": timing.total_seconds,
        "num_replicas": strategy.num_replicas_in_sync,
        "flags": flag_sections.values(),
        "history": log.history,
    }
    results.write(model_dir, plain, summary, record, {"metrics.csv": log.csv()})
    if checkpoint is not None:
        checkpoint.directory.clear()  # a finished run is not resumed
    print(f"test accuracy: {accuracy:.4f}")
    print(f"training time: {training_seconds:.1f} s")
    print(f"model directory: {model_dir}")
    print(f"report: {model_dir}/{REPORT_FILE}")
    if failure is not None:
        raise failure


if __name__ == "__main__":
    define_flags()
    entry_point.run(main)
