"""What `tfscale data bench` measures: files, a TFDS name, or what a user's function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from strategies import one_device_strategy
from tfscale.data import Pipeline, input_pipeline
from tfscale.data.sources import as_source
from tfscale.data_tools.named_source import named_source
from tfscale.verify.user_model import UserModel, WrongUsage, described


@dataclass(frozen=True)
class Subject:
    """An input, and perhaps a model that trains on it.

    Attributes:
        data: A pipeline, or a dataset of global batches.
        model: Compiled, or None.
    """

    data: Pipeline | tf.data.Dataset
    model: Any = None


def subject_of(
    source: str, model: str | None, *, batch_size: int, image_size: tuple[int, int] | None
) -> Subject:
    """Returns the input and the model that the arguments of the tool name.

    Args:
        source: See `named_source.SYNTAX`. A function may also return a `Pipeline`, a
            `tf.data.Dataset` of batches, or `(model, input)`.
        model: MODULE:FUNCTION that returns a compiled model, built under the strategy of the
            pipeline; None for that of `source`, if it returns one.
        batch_size: Examples of a global batch, if `source` does not say.
        image_size: `(height, width)` of the images of a folder, or None.

    Raises:
        ValueError: If an argument names nothing that can be measured.
    """
    try:
        return _subject(source, model, batch_size, image_size)
    except (WrongUsage, OSError, ImportError) as error:
        raise ValueError(str(error)) from error


def _subject(
    source: str, model: str | None, batch_size: int, image_size: tuple[int, int] | None
) -> Subject:
    found = named_source(source, image_size=image_size)
    built = None
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], keras.Model):
        built, found = found
    if isinstance(found, (Pipeline, tf.data.Dataset)):
        pipeline = _batched(found, source, batch_size)
    else:
        strategy = one_device_strategy() if built is None else built.distribute_strategy
        pipeline = _pipeline(found, strategy, batch_size)
    if model is not None:
        built = _model(model, pipeline)
    if built is not None and not built.compiled:
        raise ValueError(
            f"`model` must be compiled. Received: {built.name!r} of {model or source}. Call "
            "model.compile(...) in the function."
        )
    return Subject(pipeline, built)


def _batched(found: Any, source: str, batch_size: int) -> Pipeline | tf.data.Dataset:
    if isinstance(found, tf.data.Dataset):
        specs = tf.nest.flatten(found.element_spec)
        if not specs or any(getattr(spec, "shape", None) == [] for spec in specs):
            return found.batch(batch_size)  # a part is a number: these are single examples
    return found


def _pipeline(found: Any, strategy: Any, batch_size: int) -> Pipeline:
    source = as_source(found)
    return input_pipeline(source, strategy, min(batch_size, source.num_examples))


def _model(name: str, pipeline: Pipeline | tf.data.Dataset) -> Any:
    strategy = pipeline.strategy if isinstance(pipeline, Pipeline) else one_device_strategy()
    with strategy.scope():
        built = UserModel(name).call()
    if not isinstance(built, keras.Model):
        raise ValueError(
            f"`--model` must return a compiled keras.Model. Received: {described(built)} of "
            f"{name}. Return the model only."
        )
    return built
