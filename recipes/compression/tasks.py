"""The model, the data and the measure of a run, by the recipe that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from absl import flags

import strategies
from recipes import common_flags
from recipes.compression.run_folder import RunFolder
from recipes.images import build as images
from recipes.language import build as language
from recipes.language.rounds import steps_of_a_round
from recipes.ratings import build as ratings
from recipes.ratings.model import with_plain_tables
from tfscale.data import Pipeline

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Task:
    """What is compressed, and how good it is.

    Attributes:
        model: Trained, and compiled under the strategy.
        train: Rows to train on.
        test: Rows to measure on, as `evaluate` takes them.
        metric: What `evaluate` calls the measure.
        higher_is_better: Whether a larger one is better.
        epoch_steps: Steps of an epoch; None for a whole pass.
    """

    model: keras.Model
    train: Pipeline
    test: Any
    metric: str
    higher_is_better: bool
    epoch_steps: int | None = None

    def measured(self, model: keras.Model, rows: Any) -> float:
        """Returns the metric of a model on rows in a form of `test`."""
        given = {"x": rows} if isinstance(rows, Pipeline) else dict(zip("xy", rows, strict=True))
        return float(model.evaluate(**given, verbose=0, return_dict=True)[self.metric])


def task_of(run: RunFolder, strategy: tf.distribute.Strategy) -> Task:
    """Builds the model and the data of a run, whose flags are set.

    Args:
        run: The run.
        strategy: The strategy to train under.

    Raises:
        ValueError: If the run is of a recipe without a model to compress, or its model is another
            one than its flags describe.
    """
    if run.recipe not in _TASKS:
        known = ", ".join(_TASKS)
        raise ValueError(
            f"`--run` must be a run of {known}. Received: --run={run.path}, a run of {run.recipe}. "
            "Choose another folder."
        )
    trained = keras.models.load_model(run.model_file, compile=False)
    return _TASKS[run.recipe](strategy, trained)


def _take_weights(model: keras.Model, trained: keras.Model) -> None:
    shapes = [tuple(weight.shape) for weight in model.weights]
    found = [tuple(weight.shape) for weight in trained.weights]
    if shapes != found:
        raise ValueError(
            "`--run` must have the model that its flags describe. Received: "
            f"{FLAGS.run}, whose model has {len(found)} weights of other shapes. A compressed "
            "model is not compressed again: start from the run it came from."
        )
    model.set_weights(trained.get_weights())


def _of_images(strategy: tf.distribute.Strategy, trained: keras.Model) -> Task:
    image_set = images.flagged_image_set()
    image_set.prepare(shows_progress=strategies.is_chief(strategy))
    train, test = images.pipelines(image_set, strategy)
    with strategy.scope():
        model = images.flagged_model(image_set, common_flags.train_steps(train.steps_per_epoch))
    _take_weights(model, trained)
    return Task(model, train, test, "accuracy", higher_is_better=True)


def _of_language(strategy: tf.distribute.Strategy, trained: keras.Model) -> Task:
    corpus = language.flagged_corpus(strategy)
    train, validation = language.pipelines(corpus, strategy)
    with strategy.scope():
        model = language.flagged_model(corpus, language.flagged_size())
    _take_weights(model, trained)
    return Task(
        model,
        train,
        validation,
        "bits_per_byte",
        higher_is_better=False,
        epoch_steps=steps_of_a_round(FLAGS.train_steps, FLAGS.steps_per_validation),
    )


def _of_ratings(strategy: tf.distribute.Strategy, trained: keras.Model) -> Task:
    rows = ratings.flagged_ratings()
    train = ratings.batches_of(rows, strategy)
    num_steps = FLAGS.train_epochs * train.steps_per_epoch
    with strategy.scope():
        sharded = ratings.flagged_model(rows, num_steps)
        _take_weights(sharded, trained)
        # Other runtimes know no tables in parts.
        model = with_plain_tables(sharded)
        ratings.compile_flagged(model, num_steps)
    users, items, clicks = rows.test_rows()
    return Task(model, train, ([users, items], clicks), "loss", higher_is_better=False)


_TASKS: dict[str, Callable[[tf.distribute.Strategy, keras.Model], Task]] = {
    "recipes.image_classification": _of_images,
    "recipes.language_model": _of_language,
    "recipes.recommendation": _of_ratings,
}
