"""What each way of shrinking costs on the digits: accuracy, zeros and bytes of LiteRT files.

    python -m tests.benchmarks.shrunk_digits --seeds=5

Needs tfscale[cpu,export,recipes]. Trains the network of the image recipe without augmentation, 20
epochs, and shrinks it in each way from there. All files are run in LiteRT on the 360 test images,
and compressed by gzip. Prints a table: means over the seeds, with the smallest and the largest
accuracy.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
from recipes.images.model import compiled_model
from recipes.images.sets import AnyImageSet, find_image_set
from tfscale.shrink import (
    Cluster,
    CubicSparsity,
    OneShot,
    Prune,
    export,
    integer_litert,
    quantization_aware,
)

BATCH, EPOCHS, RATE = 64, 20, 3e-3
VALUES = 16
_PRUNINGS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("pruned, 50 %", 0.5, {}),
    ("pruned, 80 %", 0.8, {}),
    # The first kernel has one input channel, so 2:4 leaves it alone.
    ("pruned, 2:4", 0.5, {"pattern": "2:4", "keep": ["conv2d"]}),
)


@dataclass(frozen=True)
class Measured:
    """A file: the part of test images it classifies, its zeros, and its bytes under gzip."""

    accuracy: float
    zeros: float
    size: int


class Digits:
    """The data, and a trained model of a seed.

    Args:
        image_set: The digits.
        seed: Of weights and order.
    """

    def __init__(self, image_set: AnyImageSet, seed: int) -> None:
        self.strategy = strategies.one_device_strategy("CPU:0")
        self._set, self._seed = image_set, seed
        (x, y), (test, classes) = (self._arrays(split) for split in ("train", "test"))
        self.x, self.y, self.test, self.classes = x, y, test, classes

    def _arrays(self, split: str) -> tuple[Any, Any]:
        read: Any = self._set.read(split)  # arrays, because they fit into memory
        images, labels = read
        return np.asarray(images, "float32"), np.asarray(labels)

    def trained(self) -> keras.Model:
        """Returns the float model."""
        keras.utils.clear_session()
        keras.utils.set_random_seed(self._seed)
        with self.strategy.scope():
            model = compiled_model(self._set, keras.optimizers.Adam(RATE), dropout=0.4)
        return self.tuned(model, RATE, EPOCHS)

    def tuned(self, model: keras.Model, rate: float, epochs: int, *callbacks: Any) -> keras.Model:
        """Trains a model on, with a fresh Adam."""
        with self.strategy.scope():
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(rate), loss)
        model.fit(self.x, self.y, BATCH, epochs, verbose=0, callbacks=list(callbacks))
        return model

    def copied(self, model: keras.Model) -> keras.Model:
        """Returns a copy with the same weights."""
        with self.strategy.scope():
            copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    def aware(self, model: keras.Model, *callbacks: Any, epochs: int = 5) -> keras.Model:
        """Returns a quantization-aware copy, trained for some epochs."""
        with self.strategy.scope():
            copy = quantization_aware(model, calibration=self.x[:512])
        return self.tuned(copy, RATE / 100, epochs, *callbacks) if epochs else copy


def shrunk(digits: Digits) -> Iterator[tuple[str, Measured]]:
    """Yields each way of shrinking, and what its file is."""
    dense = digits.trained()
    yield "float", float_file(digits, dense)
    pruned = {}
    for name, sparsity, arguments in _PRUNINGS:
        prune = Prune(CubicSparsity(sparsity, begin=0, end=120, every=10), **arguments)
        pruned[name] = digits.tuned(digits.copied(dense), RATE / 3, 12, prune)
        yield name, float_file(digits, pruned[name])
    clustered = digits.tuned(digits.copied(dense), RATE / 30, 3, Cluster(VALUES))
    yield f"clustered, {VALUES} values", float_file(digits, clustered)
    yield "8 bits, not trained", integer_file(digits, digits.aware(dense, epochs=0))
    yield "8 bits, trained", integer_file(digits, digits.aware(dense))
    aware = digits.aware(pruned["pruned, 50 %"], Prune(OneShot(0.5)))
    yield "pruned, 50 %, and 8 bits", integer_file(digits, aware)
    yield "clustered and 8 bits", integer_file(digits, digits.aware(clustered, Cluster(VALUES)))
    both = digits.tuned(pruned["pruned, 80 %"], RATE / 30, 3, Cluster(VALUES))
    aware = digits.aware(both, Cluster(VALUES))
    yield "pruned, 80 %, clustered and 8 bits", integer_file(digits, aware)


def float_file(digits: Digits, model: keras.Model) -> Measured:
    """Writes and runs a file of floats."""
    with tempfile.TemporaryDirectory() as folder:
        data = (digits.test, digits.classes)
        found = export(model, "litert", Path(folder) / "model.tflite", data=data)
    assert found.difference.accuracy is not None
    return Measured(found.difference.accuracy, zeros(model), found.gzip_bytes)


def integer_file(digits: Digits, model: keras.Model) -> Measured:
    """Writes and runs a file of integers."""
    from ai_edge_litert.interpreter import Interpreter

    content = integer_litert(model)
    (output,) = (
        Interpreter(model_content=content)
        .get_signature_runner()(**{model.inputs[0].name: digits.test})
        .values()
    )
    accuracy = float(np.mean(output.argmax(-1) == digits.classes))
    return Measured(accuracy, zeros(model), len(gzip.compress(content, mtime=0)))


def zeros(model: keras.Model) -> float:
    """Returns the part of the numbers in kernels that are zero."""
    kernels = [v.numpy() for v in model.trainable_variables if v.name == "kernel"]
    return float(np.mean(np.concatenate([each.ravel() for each in kernels]) == 0))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=5, help="models that are trained")
    parser.add_argument("--data_dir", help="folder of prepared sets (default: that of TFDS)")
    arguments = parser.parse_args()
    image_set = find_image_set("digits", data_dir=arguments.data_dir)
    image_set.prepare(shows_progress=False)
    found: dict[str, list[Measured]] = defaultdict(list)
    for seed in range(arguments.seeds):
        for name, measured in shrunk(Digits(image_set, seed)):
            found[name].append(measured)
            print(seed, name, measured, file=sys.stderr, flush=True)
    print("| digits | accuracy, % | zeros, % | gzip, KB |", "|---|---|---|---|", sep="\n")
    for name, of_seeds in found.items():
        accuracies = [100 * each.accuracy for each in of_seeds]
        spread = f"{min(accuracies):.1f} to {max(accuracies):.1f}"
        zero = 100 * statistics.mean(each.zeros for each in of_seeds)
        size = statistics.mean(each.size for each in of_seeds) / 1000
        print(
            f"| {name} | {statistics.mean(accuracies):.2f} ({spread}) | {zero:.1f} | {size:.1f} |"
        )


if __name__ == "__main__":
    main()
