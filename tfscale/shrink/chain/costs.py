"""What a stage of a chain cost: the measures, the size of the file, the time."""

from __future__ import annotations

import contextlib
import gzip
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from strategies.extension import all_layers
from tfscale.cli.sizes import shown_bytes
from tfscale.preparation.custom_objects import custom_objects_in
from tfscale.preparation.model_copy import copy_under
from tfscale.report import numbers
from tfscale.shrink.exporting import litert
from tfscale.shrink.exporting.float_model import check_shape, file_of, loaded
from tfscale.shrink.pruning.weights import prunable_kernels
from tfscale.shrink.quantization.integer_file import integer_litert
from tfscale.shrink.quantization.rounded_layer import RoundedWeights

LITERT, KERAS = "litert", "keras"
FILE_FORMATS = (LITERT, KERAS)
STAGE = "stage"
"""The head of the table's first column."""


@dataclass(frozen=True)
class StageCost:
    """A model after a stage.

    Attributes:
        name: The stage, or "float" for the model before all of them.
        text: What the stage did, in a few words.
        metrics: What `evaluate` gives on the validation data, by name.
        size_bytes: Of the file.
        gzip_bytes: Of the file compressed by gzip.
        zeros: The fraction of zeros in the kernels.
        values: The most different numbers in a kernel, besides zero.
        seconds: How long the stage took.
    """

    name: str
    text: str
    metrics: Mapping[str, float]
    size_bytes: int
    gzip_bytes: int
    zeros: float
    values: int
    seconds: float


def file_of_model(model: keras.Model, file_format: str) -> bytes:
    """Returns a model as a file, without an optimizer.

    Args:
        model: A float model, one from `quantization_aware`, or, for "keras", one from `quantize`
            that is not compiled.
        file_format: "litert": floats, or integers if the model is aware of them. "keras".
    """
    # Converters print what they do.
    with (
        contextlib.redirect_stdout(sys.stderr),
        tempfile.TemporaryDirectory(prefix="tfscale-") as folder,
    ):
        if file_format == KERAS:
            path = Path(folder) / "model.keras"
            objects = custom_objects_in(all_layers(model))
            if model.compiled:  # the file would have the optimizer's slots
                model, _ = copy_under(model.dtype_policy, model, [], objects)
            with keras.saving.custom_object_scope(objects):
                model.save(path)
        elif any(isinstance(layer, RoundedWeights) for layer in model.layers):
            return integer_litert(model)
        else:
            path = Path(folder) / "model.tflite"
            check_shape(model)
            with file_of(model) as source:
                float_model = loaded(source, in_float32=True)
            litert.write(float_model, path, quantize=None, rows={}, labels=())
        return path.read_bytes()


def cost_of(
    name: str, text: str, kernels: Sequence[Any], metrics: Mapping[str, float], content: bytes
) -> StageCost:
    """Returns what a stage cost, but for the time.

    Args:
        name: Of the stage.
        text: What it did.
        kernels: The values of the kernels.
        metrics: Of the validation data.
        content: The file.
    """
    return StageCost(
        name=name,
        text=text,
        metrics=metrics,
        size_bytes=len(content),
        gzip_bytes=len(gzip.compress(content, mtime=0)),
        zeros=sum(int(np.sum(k == 0)) for k in kernels) / max(1, sum(k.size for k in kernels)),
        values=max((len(np.unique(k[k != 0])) for k in kernels), default=0),
        seconds=0.0,
    )


def kernels_of(model: keras.Model) -> list[Any]:
    """Returns the values of the kernels that are pruned and clustered."""
    # Not the variables: with int4 Keras packs two numbers into one, which the attribute unpacks.
    return [
        keras.ops.convert_to_numpy(getattr(layer, name)) for layer, name in prunable_kernels(model)
    ]


def table_of(stages: Sequence[StageCost]) -> str:
    """Returns a table with a line for each stage, the first of them the model before.

    Example:
        >>> before = StageCost("float", "before", {"loss": 0.5}, 4096, 4000, 0.0, 900, 1.0)
        >>> after = StageCost("prune", "80 % zeros", {"loss": 0.6}, 4096, 1000, 0.8, 180, 9.0)
        >>> print(table_of([before, after]))
        stage         loss      size      gzip  smaller  zeros  values  seconds
        before      0.5000  4.00 KiB  3.91 KiB     1.0x   0.0%     900      1.0
        80 % zeros  0.6000  4.00 KiB    1000 B     4.0x  80.0%     180      9.0
    """
    cells = cells_of(stages)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def cells_of(stages: Sequence[StageCost]) -> list[list[str]]:
    """Returns the cells of the table, its head first."""
    names = list(stages[0].metrics)
    head = [STAGE, *names, "size", "gzip", "smaller", "zeros", "values", "seconds"]
    return [
        head,
        *(
            [
                stage.text,
                *(f"{stage.metrics[name]:.4f}" for name in names),
                shown_bytes(stage.size_bytes),
                shown_bytes(stage.gzip_bytes),
                f"{stages[0].gzip_bytes / stage.gzip_bytes:.1f}x",
                numbers.percent(stage.zeros),
                f"{stage.values:,}",
                f"{stage.seconds:.1f}",
            ]
            for stage in stages
        ),
    ]
