"""Writes a model as a file of another runtime, runs the file there, and compares.

exported = tfscale.shrink.export(model, "litert", "digits.tflite", quantize="int8", data=images)
print(exported.difference.largest, exported.size_bytes, exported.milliseconds)
"""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.extension import number, one_of
from tfscale.shrink.exporting import litert, onnx_file, other_files
from tfscale.shrink.exporting.float_model import (
    check_shape,
    file_of,
    loaded,
    mixed_policy,
    quantization_of,
    refuse_quantizing_again,
    with_whole_tables,
)
from tfscale.shrink.exporting.formats import (
    Format,
    check_quantization,
    check_source,
    format_named,
    require_packages,
)
from tfscale.shrink.exporting.lookups import check_lookups, without_lookups
from tfscale.shrink.exporting.rows import Rows, drawn_rows, rows_of
from tfscale.shrink.exporting.running import Difference, RunFailed, difference, run_file
from tfscale.shrink.exporting.signature import flat_outputs, output_names

LOOKUPS = ("inside", "outside")
MOST_ROWS = 512
"""Rows that a file is run on, and calibrated with."""
TOLERANCE = 1e-4
"""The relative difference up to which a float file counts as equal to Keras."""


@dataclass(frozen=True)
class Exported:
    """A file, and what it gave in its own runtime.

    Attributes:
        path: The file; for OpenVINO the `.xml`, beside which is the `.bin`.
        format: As `tfscale.shrink.export` was given it.
        quantize: As `tfscale.shrink.export` was given it.
        size_bytes: Of all its files.
        gzip_bytes: Of each of its files compressed by gzip, together.
        inputs: Names of the inputs of the signature.
        outputs: Names of its outputs.
        difference: From the outputs of Keras in float32.
        milliseconds: The median time of a call with one row.
        runtime: Name and version of what ran it.
        num_rows: Rows that it was run on.
        rows_are_drawn: Whether these were random.
        accuracy_of_keras: Of the Keras model on these rows, if classes are known.
        policy: The mixed precision that the model was trained in, or None.
        policy_difference: Largest difference between Keras in that precision and in float32.
        needs_tensorflow: Whether the runtime is TensorFlow.
    """

    path: Path
    format: str
    quantize: str | None
    size_bytes: int
    gzip_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: Difference
    milliseconds: float
    runtime: str
    num_rows: int
    rows_are_drawn: bool
    accuracy_of_keras: float | None
    policy: str | None
    policy_difference: float | None
    needs_tensorflow: bool

    def is_equal(self, tolerance: float = TOLERANCE) -> bool:
        """Returns whether outputs are those of Keras, relative to the largest of them."""
        return self.difference.relative <= tolerance


def export(
    model: keras.Model | str | Path,
    format: str,
    path: str | Path,
    *,
    quantize: str | None = None,
    data: Any = None,
    labels: Sequence[str] = (),
    lookups: str = "inside",
    modules: Sequence[str] = (),
    timeout_seconds: float = 300.0,
) -> Exported:
    """Writes a model as a file of another runtime, runs it there and compares its outputs.

    The file computes in float32, also if the model was trained in mixed precision, whose weights
    are float32; a `.keras` file keeps its precision. It takes batches of any size, by the names of
    the model's inputs, and gives outputs by the names of its output layers. It is run in a process
    of its own, on all rows, on three and on one.

    Args:
        model: A functional or Sequential model, trained under any strategy, or a `.keras` file.
        format: "keras", "savedmodel", "litert", "onnx" or "openvino".
        path: The file to write, in a folder that exists. An existing file is replaced; so is an
            existing SavedModel.
        quantize: None for float32, or what the format can be quantized to: keras and savedmodel
            "int8", "int4" or "float8", by which Keras quantizes matrices and embeddings; litert
            "float16", "dynamic", "int4" or "int8"; onnx "dynamic" or "int8"; openvino "float16".
        data: Rows to run the file on; see `tfscale.shrink.exporting.rows`. The first 512 are used.
            Without data, floating-point inputs are drawn.
        labels: Names of the classes, stored in the file.
        lookups: "inside" keeps StringLookup, IntegerLookup and TextVectorization in the file;
            "outside" cuts them off, and writes the vocabularies to `<path>.vocabulary.json`.
        modules: Names of modules that register layers of the model, for the process.
        timeout_seconds: Of running the file. Positive.

    Raises:
        ValueError: If the pair of model, format and quantization is not supported, or arguments do
            not fit.
        ImportError: If a converter or a runtime is not installed.
        RunFailed: If the file does not run in its runtime.

    Example:
        >>> model = keras.Sequential([keras.Input([4], name="x"), keras.layers.Dense(3)])
        >>> exported = export(model, "savedmodel", folder / "model")
        >>> exported.inputs, exported.is_equal()
        (('x',), True)
    """
    chosen = format_named(format)
    path = Path(path)
    check_quantization(chosen, quantize, has_rows=data is not None)
    _check(path, labels, lookups, timeout_seconds, chosen)
    require_packages([chosen])
    with (
        file_of(model) as source,
        tempfile.TemporaryDirectory(prefix=".tfscale-export-", dir=path.parent) as staging,
    ):
        prepared = _prepared(source, chosen, quantize, data, lookups)
        staged = Path(staging) / path.name
        _write(prepared, chosen, staged, quantize, labels)
        outputs = output_names(prepared.model)
        run = run_file(
            chosen.name,
            staged,
            prepared.rows,
            outputs,
            modules=modules,
            timeout_seconds=timeout_seconds,
        )
        if run.labels != list(labels):
            raise RunFailed(
                f"{path} does not keep the labels: it gives {run.labels}, not {list(labels)}."
            )
        sizes = [_sizes(each) for each in sorted(Path(staging).rglob("*")) if each.is_file()]
        if prepared.vocabularies is not None:
            text = json.dumps(prepared.vocabularies, indent=1)
            (Path(staging) / f"{path.name}.vocabulary.json").write_text(text, "utf-8")
        for each in sorted(Path(staging).iterdir()):
            _replace(each, path.parent / each.name)
    rows, expected = prepared.rows, prepared.expected
    whole = {len(rows): expected}
    return Exported(
        path=path,
        format=chosen.name,
        quantize=quantize,
        size_bytes=sum(size for size, _ in sizes),
        gzip_bytes=sum(compressed for _, compressed in sizes),
        inputs=tuple(rows.inputs),
        outputs=tuple(outputs),
        difference=difference(run.outputs, expected, rows.classes),
        milliseconds=run.milliseconds,
        runtime=run.runtime,
        num_rows=len(rows),
        rows_are_drawn=rows.are_drawn,
        accuracy_of_keras=difference(whole, expected, rows.classes).accuracy,
        policy=prepared.policy,
        policy_difference=prepared.policy_difference,
        needs_tensorflow=run.has_tensorflow,
    )


@dataclass(frozen=True)
class _Prepared:
    """A model ready to be written, rows for it, and what Keras gives for them in float."""

    model: keras.Model
    rows: Rows
    expected: list[np.ndarray]
    vocabularies: dict[str, list[Any]] | None
    policy: str | None
    policy_difference: float | None


def _prepared(
    source: Path, chosen: Format, quantize: str | None, data: Any, lookups: str
) -> _Prepared:
    policy = mixed_policy(source)
    keeps_policy = chosen.name == "keras" and policy is not None
    model = loaded(source, in_float32=not keeps_policy)
    check_shape(model)
    refuse_quantizing_again(model, quantize)
    check_source(chosen, quantization_of(model))
    if lookups == "inside":
        check_lookups(model, chosen.name, quantize)
    rows = drawn_rows(model) if data is None else rows_of(model, data, MOST_ROWS)
    expected = _predicted(model, rows)
    policy_difference = None
    if policy is not None:
        other = _predicted(loaded(source, in_float32=keeps_policy), rows)
        policy_difference = difference({len(rows): other}, expected, None).largest
    if chosen.name != "keras":
        model = with_whole_tables(model)
    vocabularies = None
    if lookups == "outside":
        cut = without_lookups(model)
        model, vocabularies = cut.model, cut.vocabularies
        indices = {name: cut.indices(name, values) for name, values in rows.inputs.items()}
        rows = replace(rows, inputs=indices)
    if quantize is not None and not chosen.packages:
        with warnings.catch_warnings():
            # For each layer that stays in float, such as convolutions.
            warnings.filterwarnings("ignore", ".* does not have a `quantize` method")
            model.quantize(quantize)
        if quantization_of(model) is None:
            raise ValueError(
                f"`quantize` must be a mode in which Keras quantizes a layer of the model. "
                f"Received: quantize={quantize!r} for {model.name!r}, of which it quantizes none. "
                "Leave it out, or choose another mode: 'int8' and 'int4' are for Dense, "
                "EinsumDense and Embedding, 'float8' for the first two."
            )
    return _Prepared(model, rows, expected, vocabularies, policy, policy_difference)


def _predicted(model: keras.Model, rows: Rows) -> list[np.ndarray]:
    tensors = [tf.constant(values) for values in rows.inputs.values()]
    call = tf.function(lambda inputs: flat_outputs(model, inputs))
    return [np.asarray(each) for each in call(tensors)]


def _write(
    prepared: _Prepared, chosen: Format, path: Path, quantize: str | None, labels: Sequence[str]
) -> None:
    model, rows = prepared.model, prepared.rows.inputs
    try:
        if chosen.name == "litert":
            litert.write(model, path, quantize=quantize, rows=rows, labels=labels)
        elif chosen.name == "onnx":
            onnx_file.write(model, path, quantize=quantize, rows=rows, labels=labels)
        elif chosen.name == "openvino":
            other_files.write_openvino(model, path, quantize=quantize, labels=labels)
        elif chosen.name == "savedmodel":
            other_files.write_folder(model, path, labels=labels)
        else:
            other_files.write_keras(model, path, quantize=quantize, labels=labels)
    except Exception as error:  # a converter's own classes of errors
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:400] if lines else type(error).__name__
        raise RunFailed(
            f"{chosen.name} cannot be written, because its converter fails: {reason}. Leave the "
            "layer out of the model, or choose another format; savedmodel holds every layer."
        ) from error


def _check(
    path: Path, labels: Sequence[str], lookups: str, timeout_seconds: float, chosen: Format
) -> None:
    one_of("lookups", lookups, LOOKUPS, cure="Leave it out for inside.")
    rule, cure = "positive and finite", "Leave it out for 300."
    number("timeout_seconds", timeout_seconds, rule, lambda seconds: seconds > 0, cure=cure)
    wrong = [name for name in labels if not name or name != name.strip() or "\n" in name]
    if chosen.name == "openvino":
        wrong += [name for name in labels if " " in name]
    if wrong:
        rule = "without spaces " if chosen.name == "openvino" else "of one line "
        raise ValueError(
            f"`labels` must be names {rule}with format={chosen.name!r}. Received: {wrong[0]!r}. "
            "Write another name, such as with an underscore."
        )
    if not path.parent.is_dir():
        raise ValueError(
            f"`path` must be in a folder that exists. Received: path={str(path)!r}. Make "
            f"{path.parent} first."
        )
    if chosen.suffix.startswith(".") and path.suffix != chosen.suffix:
        raise ValueError(
            f"`path` must end with {chosen.suffix} with format={chosen.name!r}. Received: path="
            f"{str(path)!r}. Add it."
        )
    is_folder = chosen.name == "savedmodel"
    if path.exists() and not (
        (path / "saved_model.pb").is_file()
        if is_folder
        else path.is_file() and not path.is_symlink()
    ):
        raise ValueError(
            f"`path` must be new, or an earlier {'SavedModel' if is_folder else 'file'}. Received: "
            f"path={str(path)!r}, which is something else. Choose another name, or remove it first."
        )


def _replace(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _sizes(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    return len(content), len(gzip.compress(content, mtime=0))
