"""What slots in bfloat16 change for a convolutional network: losses, and bytes of the state.

python -m tests.benchmarks.stored_slots
python -m tests.benchmarks.stored_slots --seeds 0 --epochs=2

Trains on four fifths of the bundled digits, with slots in float32 and in bfloat16.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import recipes.digits
import strategies
import tfscale
from tests.tables import versions

FILE = Path(recipes.digits.__file__).parent / "digits.csv.gz"
DTYPES = ("float32", "bfloat16")


def network(seed: int) -> Any:
    """Returns two convolutions with BatchNormalization and two dense layers."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    parts: list[Any] = [keras.Input((8, 8, 1))]
    for filters in (16, 32):
        convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        parts += [convolution, layers.BatchNormalization(), layers.Activation("relu")]
    return keras.Sequential([*parts, layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)])


def trained(seed: int, epochs: int, dtype: str) -> tuple[float, float, int]:
    """Returns loss and accuracy of the other fifth, and the bytes of the optimizer's state."""
    rows = np.loadtxt(FILE, delimiter=",", dtype=np.float32)
    images, labels = rows[:, :-1].reshape(-1, 8, 8, 1) / 16, rows[:, -1].astype(np.int32)
    is_test = np.arange(len(rows)) % 5 == 4
    with strategies.one_device_strategy("CPU:0").scope():
        model = network(seed)
        optimizer = keras.optimizers.AdamW(1e-3)
        if dtype != "float32":
            optimizer = tfscale.optimizers.with_state_dtype(optimizer, dtype)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(images[~is_test], labels[~is_test], batch_size=64, epochs=epochs, verbose=0)
    found = model.evaluate(images[is_test], labels[is_test], batch_size=len(rows), verbose=0)
    state = [np.prod(each.shape) * tf.as_dtype(each.dtype).size for each in optimizer.variables]
    return found[0], found[1], int(sum(state))


def main() -> None:
    """Trains what the flags say, and prints a table."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10, help="Epochs of 23 steps. Positive.")
    chosen = parser.parse_args()
    print(f"{versions()}\n\n| seed | slots | test loss | test accuracy | bytes of state |")
    print("|---|---|---:|---:|---:|")
    for seed in chosen.seeds:
        for dtype in DTYPES:
            loss, accuracy, state = trained(seed, chosen.epochs, dtype)
            print(f"| {seed} | {dtype} | {loss:.4f} | {accuracy:.4f} | {state:,} |", flush=True)


if __name__ == "__main__":
    main()
