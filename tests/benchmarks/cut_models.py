"""What cutting channels saves: parameters, bytes of a file, and processor time of a prediction.

python -m tests.benchmarks.cut_models --fraction=0.5

The models have drawn weights: the figures say nothing of accuracy. Beside each other are the masked
model, whose channels are zeros, and the one that is cut. Times are medians of the processor time of
a call on CPUs, all threads together, in which the two take turns: in Keras a traced `model(x)`, in
LiteRT one thread. Bytes are those of a .keras file without an optimizer. Needs
tfscale[cpu,export,recipes].
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.images.model import image_model
from tfscale.shrink import cut, export, mask_channels


def digits() -> keras.Model:
    """The network of the image recipe for the digits."""
    return image_model((8, 8, 1), 10, pixel_range=16, dropout=0.4)


def published(name: str, size: int) -> Callable[[], keras.Model]:
    """Returns a function that makes a model of `keras.applications` for images of a size."""
    return lambda: getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=1000
    )


def transformer() -> keras.Model:
    """Four blocks of attention and two dense layers, for 128 tokens."""
    layers = keras.layers
    tokens = keras.Input((128,), dtype="int32")
    x = layers.Embedding(8192, 256)(tokens)
    for _ in range(4):
        h = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(8, 32)(h, h, use_causal_mask=True)
        h = layers.Dense(1024, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(256)(h)
    return keras.Model(tokens, layers.Dense(8192)(layers.LayerNormalization()(x)))


MODELS: dict[str, tuple[Callable[[], keras.Model], int]] = {
    "digits": (digits, 64),
    "MobileNetV2": (published("MobileNetV2", 224), 8),
    "ResNet50": (published("ResNet50", 224), 8),
    "transformer": (transformer, 8),
}
"""What makes each model, and the rows of a batch."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--fraction", type=float, default=0.5, help="of the channels of each group")
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--calls", type=int, default=30, help="of each model")
    arguments = parser.parse_args()
    heads = ("model", "parameters", "file, MB", "Keras, ms", "LiteRT, ms", "difference of outputs")
    print(f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|", sep="\n")
    for name in arguments.models.split(","):
        make, rows = MODELS[name]
        print(row(name, make(), rows, arguments.fraction, arguments.calls), flush=True)


def row(name: str, model: keras.Model, rows: int, fraction: float, calls: int) -> str:
    """Returns the line of a model in the table: what it has, and what the cut one has."""
    mask_channels(model, fraction)
    smaller = cut(model)
    draw = np.random.default_rng(0)
    (tensor,) = model.inputs
    shape = (rows, *tensor.shape[1:])
    is_text = "int" in tensor.dtype
    x = tf.constant(draw.integers(0, 8192, shape) if is_text else draw.random(shape), tensor.dtype)
    times, outputs = turns([in_keras(each, x) for each in (model, smaller)], calls)
    in_files, _ = turns([in_litert(each, x) for each in (model, smaller)], calls)
    difference = np.abs(outputs[0] - outputs[1]).max() / np.abs(outputs[0]).max()
    parameters = [model.count_params(), smaller.count_params()]
    sizes = [bytes_of(model) / 1e6, bytes_of(smaller) / 1e6]
    cells = (
        f"{name}, batch of {rows}",
        f"{parameters[0]:,} to {parameters[1]:,} ({parameters[0] / parameters[1]:.2f}x)",
        f"{sizes[0]:.2f} to {sizes[1]:.2f} ({sizes[0] / sizes[1]:.2f}x)",
        *(f"{a:.2f} to {b:.2f} ({a / b:.2f}x)" for a, b in (times, in_files)),
        f"{difference:.0e} of the largest",
    )
    return f"| {' | '.join(cells)} |"


def in_keras(model: keras.Model, x: tf.Tensor) -> Callable[[], Any]:
    """Returns a call of a model."""
    function = tf.function(lambda x: model(x, training=False))
    return lambda: function(x).numpy()


def in_litert(model: keras.Model, x: tf.Tensor) -> Callable[[], Any]:
    """Returns a call of its file."""
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        exported = export(model, "litert", path, data=x.numpy())
        run = Interpreter(model_content=path.read_bytes(), num_threads=1).get_signature_runner()
    arguments = {exported.inputs[0]: x.numpy()}
    return lambda: next(iter(run(**arguments).values()))


def turns(calls: list[Callable[[], Any]], count: int) -> tuple[list[float], list[Any]]:
    """Returns the median processor time of each call in milliseconds, and what it returns."""
    outputs = [call() for call in calls]
    measured: list[list[float]] = [[] for _ in calls]
    for _ in range(count):
        for call, times in zip(calls, measured, strict=True):
            started = time.process_time()
            call()
            times.append(1000 * (time.process_time() - started))
    return [statistics.median(times) for times in measured], outputs


def bytes_of(model: keras.Model) -> int:
    """Returns the size of a model's file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return path.stat().st_size


if __name__ == "__main__":
    main()
