"""Memory and step time with recomputed blocks and with microbatches, beside plain steps.

python -m tests.benchmarks.activation_memory
python -m tests.benchmarks.activation_memory --models=cnn --steps=4

Each way has a process of its own. Memory is the peak of TensorFlow's allocator for the first
device, weights and optimizer included; a time is the median of the steps after the first two.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from recipes.language.block import DecoderBlock
from recipes.language.model import compile_for_training, language_model
from recipes.language.sizes import ModelSize
from tests.benchmarks.step_times import StepTimes
from tests.programs import run_program
from tests.tables import versions

WAYS = {"plain": (False, 1), "recomputed": (True, 1), "4 microbatches": (False, 4)}
"""By name: whether blocks are recomputed, and the number of microbatches."""
Built = tuple[keras.Model, Any, tuple[Any, ...]]


def transformer() -> Built:
    """Returns a model of 8 blocks, what is recomputed in it, and a batch of 16 rows of 256."""
    model = language_model(ModelSize(layers=8, width=128, heads=4), num_tokens=256, seed=0)
    compile_for_training(model, keras.optimizers.AdamW(1e-3), [1] * 256)
    tokens = np.random.default_rng(0).integers(0, 256, (16, 256), np.int32)
    places = np.tile(np.arange(256, dtype=np.int32), (16, 1))
    inputs = {"tokens": tokens, "positions": places, "segment_ids": np.ones_like(tokens)}
    return model, DecoderBlock, (inputs, tokens, np.ones((16, 256), np.float32))


def cnn() -> Built:
    """Returns 8 residual blocks with BatchNormalization, and a batch of 64 images of 32 x 32."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 3, padding="same")(inputs)
    for number in range(8):
        parts: list[Any] = [keras.Input((32, 32, 32))]
        for _ in range(2):
            norm = layers.BatchNormalization(synchronized=True)
            convolution = layers.Conv2D(32, 3, padding="same", use_bias=False)
            parts += [norm, layers.Activation("relu"), convolution]
        x = x + keras.Sequential(parts, name=f"block_{number}")(x)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    images = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
    return model, r"block_\d", (images, np.arange(64) % 10)


MODELS = {"transformer": transformer, "cnn": cnn}


def measure(name: str, way: str, steps: int) -> None:
    """Trains, and prints the peak in bytes and the seconds of a step."""
    is_recomputed, parts = WAYS[way]
    gpus = tf.config.list_physical_devices("GPU")
    strategy = strategies.one_device_strategy("GPU:0" if gpus else "CPU:0")
    with strategy.scope():
        model, blocks, batch = MODELS[name]()
        if is_recomputed:
            tfscale.recompute(model, blocks)
    data = tf.data.Dataset.from_tensors(batch).repeat(steps)
    times = StepTimes()
    model.steps_per_execution = 1
    model.fit(data, verbose=0, callbacks=[times, tfscale.callbacks.Microbatches(parts)])
    peak = tf.config.experimental.get_memory_info("GPU:0" if gpus else "CPU:0")["peak"]
    print(json.dumps([peak, statistics.median(times.seconds[2:])]))


def main() -> None:
    """Measures what the flags say, and prints a table."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--steps", type=int, default=12, help="Steps. At least 3.")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.steps < 3:
        parser.error(f"--steps must be at least 3. Received: {chosen.steps}.")
    if chosen.one:
        measure(chosen.models[0], chosen.one, chosen.steps)
        return
    print(f"{versions()}\n\n| model | way | MiB | seconds | of plain |\n|---|---|---:|---:|---|")
    for name in chosen.models:
        plain: list[float] = []
        for way in WAYS:
            flags = [f"--models={name}", f"--one={way}", f"--steps={chosen.steps}"]
            module = ("-m", "tests.benchmarks.activation_memory")
            printed = run_program(*module, *flags, timeout=900, TF_CPU_ALLOCATOR_USE_BFC="true")
            found = next(line for line in printed.splitlines() if line.startswith("["))
            peak, seconds = json.loads(found)
            plain = plain or [peak, seconds]
            ratios = f"{peak / plain[0]:.2f} memory, {seconds / plain[1]:.2f} time"
            print(f"| {name} | {way} | {peak / 2**20:.0f} | {seconds:.3f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
