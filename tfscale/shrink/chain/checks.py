"""What a chain needs of the model and of the arguments, found out before the first stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import all_layers, number, one_of, own_weights
from tfscale.data import Pipeline
from tfscale.preparation.recompilation import refuse_own_compile
from tfscale.shrink.chain.chain import AWARE, Chain
from tfscale.shrink.chain.costs import FILE_FORMATS, KERAS, LITERT


def chosen_file_format(chain: Chain, asked: str | None) -> str:
    """Returns the format of the files that are measured.

    Args:
        chain: The chain.
        asked: What the caller asks for; None for what the chain needs.

    Raises:
        ValueError: If the chain makes no such file.
    """
    is_kerass_own = chain.quantize not in (None, AWARE)
    if asked is None:
        return KERAS if is_kerass_own else LITERT
    one_of("file_format", asked, FILE_FORMATS)
    if is_kerass_own and asked == LITERT:
        raise ValueError(
            f"`file_format` must be {KERAS!r} with quantize={chain.quantize!r}: LiteRT has no such "
            f"matrices. Received: file_format={asked!r}. Quantize with {AWARE!r} for a LiteRT file."
        )
    if chain.quantize == AWARE and asked == KERAS:
        raise ValueError(
            f"`file_format` must be {LITERT!r} with quantize={AWARE!r}, whose .keras file has "
            f"floats. Received: file_format={asked!r}. Leave it out."
        )
    return asked


def check_model(model: keras.Model, chain: Chain) -> None:
    """Checks that stages can be trained on a model.

    Raises:
        ValueError: If not.
    """
    if not (isinstance(model, keras.Model) and model.built and model.compiled):
        raise ValueError(
            "`model` must be built and compiled: stages train it with its loss. Received: "
            f"{model!r}. Call model.compile under its strategy."
        )
    refuse_own_compile(model)
    makes_new = chain.channels or chain.quantize == AWARE
    if makes_new and type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            "`model` must not have its own `train_step` with channels or quantize='aware', which "
            f"make a plain model of its layers. Received: {type(model).__name__}. Leave these "
            "stages out."
        )


def rate_of(optimizer: Any, learning_rate: float | None) -> float:
    """Returns the learning rate at the begin of a stage.

    Args:
        optimizer: Of the model.
        learning_rate: What the caller asks for; None for the optimizer's own.

    Raises:
        ValueError: If it is not positive, or the optimizer has a schedule.
    """
    if learning_rate is not None:
        return number("learning_rate", learning_rate, "positive", lambda rate: rate > 0)
    optimizer = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    configured = optimizer.get_config()["learning_rate"]
    if isinstance(configured, dict):  # of a schedule
        raise ValueError(
            "`learning_rate` must be given for a model whose optimizer has a schedule. Received: "
            f"learning_rate=None, {configured['class_name']}. Pass the highest rate of the "
            "schedule, or a third of it."
        )
    return float(configured)


def check_validation(validation: Any) -> None:
    """Checks that validation data can be read after each stage.

    Raises:
        ValueError: If they are of another type, or have no row.
    """
    kinds = (Pipeline, tf.data.Dataset, keras.utils.PyDataset)
    is_arrays = isinstance(validation, tuple) and len(validation) in (2, 3)
    if not (is_arrays or isinstance(validation, kinds)):
        raise ValueError(
            "`validation` must be (x, y) or (x, y, sample_weight) of arrays, a Pipeline, a "
            f"tf.data.Dataset or a PyDataset. Received: {type(validation).__name__}. It is read "
            "after each stage."
        )
    if is_arrays and len(keras.tree.flatten(validation[0])[0]) == 0:
        raise ValueError(
            "`validation` must have a row at least. Received: 0 rows. Pass the data that you "
            "evaluate the model with."
        )


def kept_layers(keep: Sequence[str], models: Sequence[keras.Model]) -> list[str]:
    """Returns expressions of the names of the layers that are left alone.

    Later stages have other paths for the same layers, but the same names.

    Args:
        keep: Expressions that match whole names or paths of layers, or paths of their weights.
        models: The model, and its copy, whose paths differ.

    Raises:
        ValueError: If one matches nothing.
    """
    found: dict[str, None] = {}
    layers = [layer for model in models for layer in all_layers(model) if own_weights(layer)]
    for expression in keep:
        names = [
            layer.name
            for layer in layers
            if any(
                re.fullmatch(expression, text)
                for text in (layer.name, layer.path, *(v.path for v in own_weights(layer)))
            )
        ]
        if not names:
            known = dict.fromkeys(layer.name for layer in layers)
            raise ValueError(
                f"`keep` must match layers of the model. Received: {expression!r}, which matches "
                f"none of {', '.join(known)}."
            )
        found.update(dict.fromkeys(map(re.escape, names)))
    return list(found)
