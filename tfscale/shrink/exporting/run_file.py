"""The process that runs an exported file in its own runtime; without TensorFlow where it needs none.

    python -m tfscale.shrink.exporting.run_file litert model.tflite inputs.npz outputs.npz

`inputs.npz` has "names", the names of the inputs, "outputs", those of the outputs, "sizes", the
batches to run, and "input_0", "input_1" and so on. `outputs.npz` gets output k of a batch of n rows as
"n/k", and "facts", JSON: the seconds of a call with one row, the file's labels, the runtime's
version.
"""  # noqa: E501

from __future__ import annotations

import importlib
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfscale.shrink.exporting.labels import LABELS, labels_text

Inputs = Mapping[str, np.ndarray]
Predict = Callable[[Inputs], list[np.ndarray]]

_WARM_UP = 3
_MOST_CALLS = 200
_MOST_SECONDS = 1.0


def of_keras(path: Path, names: Sequence[str], outputs: Sequence[str]) -> tuple[Predict, str]:
    """Keras in a compiled function."""
    import keras
    import tensorflow as tf

    # They register layers: ShardedEmbedding, and those of quantization-aware training.
    import tfscale.parallel
    import tfscale.shrink.quantization  # noqa: F401
    from tfscale.shrink.exporting.signature import flat_outputs

    model = keras.models.load_model(path, compile=False)
    call = tf.function(lambda inputs: flat_outputs(model, inputs))

    def predict(inputs: Inputs) -> list[np.ndarray]:
        return [each.numpy() for each in call([tf.constant(inputs[name]) for name in names])]

    return predict, labels_text(path)


def of_saved_model(path: Path, names: Sequence[str], outputs: Sequence[str]) -> tuple[Predict, str]:
    """TensorFlow, by the signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    call = loaded.signatures["serving_default"]

    def predict(inputs: Inputs) -> list[np.ndarray]:
        found = call(**{name: tf.constant(inputs[name]) for name in names})
        return [found[name].numpy() for name in outputs]

    predict.keeps = loaded  # type: ignore[attr-defined]  # the signature does not keep its tables
    labels = path / "assets.extra" / LABELS
    return predict, labels.read_text("utf-8") if labels.is_file() else ""


def of_litert(path: Path, names: Sequence[str], outputs: Sequence[str]) -> tuple[Predict, str]:
    """LiteRT's interpreter, by the signature."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner("serving_default")

    def predict(inputs: Inputs) -> list[np.ndarray]:
        found = runner(**{name: inputs[name] for name in names})
        return [found[name] for name in outputs]

    return predict, labels_text(path)


def of_onnx(path: Path, names: Sequence[str], outputs: Sequence[str]) -> tuple[Predict, str]:
    """ONNX Runtime on CPUs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(inputs: Inputs) -> list[np.ndarray]:
        fed = {name: _objects(inputs[name]) for name in names}
        return [np.asarray(each) for each in session.run(list(outputs), fed)]

    labels = session.get_modelmeta().custom_metadata_map.get("labels", "[]")
    return predict, "\n".join(json.loads(labels))


def of_openvino(path: Path, names: Sequence[str], outputs: Sequence[str]) -> tuple[Predict, str]:
    """OpenVINO on CPUs in float32; its default is bfloat16 where the processor has that."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    key = ["model_info", "labels"]
    labels = model.get_rt_info(key).astype(str).split() if model.has_rt_info(key) else []
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def predict(inputs: Inputs) -> list[np.ndarray]:
        found = compiled({name: inputs[name] for name in names})
        return [np.array(found[name]) for name in outputs]

    return predict, "\n".join(labels)


RUNTIMES: dict[str, tuple[str, Callable[..., tuple[Predict, str]]]] = {
    "keras": ("keras", of_keras),
    "savedmodel": ("tensorflow", of_saved_model),
    "litert": ("ai-edge-litert", of_litert),
    "onnx": ("onnxruntime", of_onnx),
    "openvino": ("openvino", of_openvino),
}
"""By format: the distribution whose version is shown, and the function that opens a file."""


def run(format_name: str, path: Path, source: Path, target: Path) -> None:
    """Runs a file on the rows of `source` and writes outputs and facts to `target`."""
    with np.load(source) as stored:
        names, outputs = stored["names"].tolist(), stored["outputs"].tolist()
        sizes = stored["sizes"].tolist()
        inputs = {name: stored[f"input_{k}"] for k, name in enumerate(names)}
    distribution, opened = RUNTIMES[format_name]
    predict, labels = opened(path, names, outputs)
    found: dict[str, Any] = {}
    for size in sizes:
        for k, output in enumerate(predict({n: rows[:size] for n, rows in inputs.items()})):
            found[f"{size}/{k}"] = output
    facts = {
        "seconds": _seconds(predict, {name: rows[:1] for name, rows in inputs.items()}),
        "labels": labels.splitlines(),
        "runtime": f"{distribution} {_version(distribution)}",
        "has_tensorflow": "tensorflow" in sys.modules,
    }
    found["facts"] = np.array(json.dumps(facts))
    np.savez(target, allow_pickle=False, **found)


def _seconds(predict: Predict, one: Inputs) -> float:
    """The median time of a call with one row."""
    for _ in range(_WARM_UP):
        predict(one)
    taken: list[float] = []
    end = time.perf_counter() + _MOST_SECONDS
    while not taken or (len(taken) < _MOST_CALLS and time.perf_counter() < end):
        start = time.perf_counter()
        predict(one)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # tensorflow is also tensorflow_cpu
        return str(importlib.import_module(distribution).__version__)


def _objects(rows: np.ndarray) -> np.ndarray:
    return rows.astype(object) if rows.dtype.kind in "US" else rows


if __name__ == "__main__":
    for module in sys.argv[5:]:  # those that register the layers of a `.keras` file
        importlib.import_module(module)
    run(sys.argv[1], *map(Path, sys.argv[2:5]))
