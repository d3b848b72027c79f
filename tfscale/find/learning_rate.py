"""Finds a learning rate by a range test: training at a rate that grows from step to step."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from strategies.extension import (
    RandomState,
    is_asynchronous,
    number,
    schedule_of,
    whole_number,
)
from tfscale.find.found_rate import FoundRate, found_rate
from tfscale.find.fresh_data import fresh_data
from tfscale.find.kept_state import kept_notes, kept_state
from tfscale.find.range_test import GivenRate, RangeTest
from tfscale.find.rate_curve import growing_rates

_LEAST_STEPS = 20


def find_learning_rate(
    model: Any,
    data: Any,
    *,
    batch_size: int | None = None,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> FoundRate:
    """Finds a learning rate: trains while the rate grows, and looks where the loss falls and rises.

    Call it on a compiled model before `fit`, with the data and the batch size of `fit`. The rate
    grows from `lowest` to `highest` by the same factor at each update; the test ends early when the
    loss diverges. The steps are those of `fit`: under the model's strategy, in its precision, with
    its loss scaling and gradient accumulation. If several workers train, all call it, and all get
    the same result.

    Afterwards everything is as before, to the bit: weights, optimizer, metrics, random layers, the
    random state of Python, NumPy, TensorFlow and Keras, and the order of the data. A copy of the
    model's and the optimizer's state is in host memory meanwhile. A model that is not built yet is
    built. What your own objects keep elsewhere is not known here: `tf.random.Generator`s, the
    counts of `tf.random` operations of a model that is run eagerly, random layers in a `map` of a
    dataset, a file that is being read.

    If the optimizer's rate is a schedule, the result is for its peak, such as `learning_rate` of
    `tfscale.schedules.warmup_cosine_decay`.

    Args:
        model: A compiled model. Not under parameter servers.
        data: Arrays x, (x, y) or (x, y, sample_weight), a batched `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a tfscale.data pipeline, or a function without arguments that
            returns one of them, for data that cannot be copied.
        batch_size: Rows of a global batch, if `data` are arrays (default: 32, as in `fit`).
        lowest: The first rate. Positive; so low that nothing happens at it.
        highest: The last rate, above `lowest`.
        steps: Updates of the weights from `lowest` to `highest`. At least 20.

    Returns:
        A `FoundRate`: print it, or take its `suggestion`. Other attributes are `minimum`,
        `steepest`, `minimum_tenth`, `rates` and `losses`; `picture()` returns an SVG.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled or is trained under
            parameter servers, the data are empty or cannot be read twice, or the loss never falls.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> found = find_learning_rate(model, (rows, targets), highest=100.0)
        >>> found.minimum / 3 == found.suggestion
        True
        >>> model.optimizer.learning_rate = found.suggestion

    Source: Smith 2015, arXiv:1506.01186, section 3.3.
    """
    lowest = number("lowest", lowest, "a number above 0", lambda v: v > 0, cure="Such as 1e-6.")
    highest = number(
        "highest",
        highest,
        f"a number above lowest={lowest:g}",
        lambda v: v > lowest,
        cure="Such as 10.0.",
    )
    steps = whole_number("steps", steps, at_least=_LEAST_STEPS, cure="100 is usual.")
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size, cure="Pass the rows of a global batch.")
    _check_model(model)
    schedule = schedule_of(model.optimizer)
    _build_as_fit(model, data, batch_size)
    every = getattr(model.optimizer, "gradient_accumulation_steps", None) or 1
    with kept_state(model):
        arguments = fresh_data(data, batch_size)
        given = None
        if schedule is not None:
            with model.distribute_strategy.scope():
                given = tf.Variable(lowest, trainable=False, dtype=tf.float32)
            model.optimizer.learning_rate = GivenRate(given)
        model.steps_per_execution = 1
        model.train_function = None
        test = RangeTest(growing_rates(lowest, highest, steps), given)
        try:
            model.fit(**arguments, epochs=steps, steps_per_epoch=every, callbacks=[test], verbose=0)
        finally:
            if schedule is not None:
                model.optimizer.learning_rate = schedule
    return found_rate(
        test.rates,
        test.losses,
        has_diverged=test.has_diverged,
        is_for_peak=schedule is not None,
    )


def _build_as_fit(model: Any, data: Any, batch_size: int | None) -> None:
    """Makes the variables that a first `fit` would make, with its draws, and trains no step.

    What operations without a seed drew for the order of examples is undone: the next `fit` will
    draw it.
    """
    if model.built and model.optimizer.built:
        return
    before = RandomState()
    arguments = fresh_data(data, batch_size)
    before.restore()
    with kept_notes(model):
        model.fit(**arguments, epochs=0, verbose=0)  # builds under a strategy
    if not model.built:
        _call_once(model, arguments)
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    before.restore_operations()


def _call_once(model: Any, arguments: dict[str, Any]) -> None:
    """Builds a model of stock Keras, which makes its variables in the first step."""
    x = arguments["x"]
    if "y" in arguments or hasattr(x, "shape"):
        row = tf.nest.map_structure(lambda part: part[:1], x)
    else:
        batch = next(iter(x)) if isinstance(x, tf.data.Dataset) else x[0]
        row = keras.utils.unpack_x_y_sample_weight(batch)[0]
    try:
        model(row)
    except Exception as error:
        raise ValueError(
            f"`model` must be built, or be built by a call on its data. Received: {model.name!r}, "
            f"with which a call raised {type(error).__name__}: {error}. Call `model.build(...)`."
        ) from error


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: model of type {type(model).__name__}. Pass "
            "the model that you call `fit` of."
        )
    if not model.compiled or getattr(model, "optimizer", None) is None:
        raise ValueError(
            f"`model` must be compiled with an optimizer, whose learning rate is found. Received: "
            f"{model.name!r} without one. Call `model.compile(optimizer, loss)` before."
        )
    strategy = model.distribute_strategy
    if is_asynchronous(strategy) or isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "`model` must be trained synchronously: under parameter servers each worker's loss is "
            "of other weights. Received: a model under ParameterServerStrategy. Find the rate on "
            "one device or under mirrored_strategy, with the batch of one worker."
        )
