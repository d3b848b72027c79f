"""Checks a replica batch for a TPU: static shapes, equal sizes, numbers only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from strategies.extension import GlobalBatches, spec_with_rows
from tfscale.preflight.findings import FAILS, WARNS, Finding, SourceLocation
from tfscale.verify.user_model import WrongUsage

_STATIC = "Give every batch one shape"


@dataclass
class ReplicaBatch:
    """The batch of one replica.

    Attributes:
        spec: Structure of `tf.TypeSpec`.
        rows: Examples of one replica. Positive.
        global_rows: Examples of all replicas. Positive.
        rows_vary: Whether the last batch of an epoch may be smaller, so the size is not static.
        findings: Problems of the batch.
    """

    spec: Any
    rows: int
    global_rows: int
    rows_vary: bool
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_static(self) -> bool:
        """Whether XLA accepts a batch of this shape."""
        parts = [part for part in tf.nest.flatten(self.spec) if part is not None]
        return all(
            isinstance(part, tf.TensorSpec)
            and part.shape.is_fully_defined()
            and part.dtype != tf.string
            for part in parts
        )


def replica_batch(
    data: Any, num_replicas: int, batch_size: int, location: SourceLocation | None
) -> ReplicaBatch:
    """Returns the batch of one replica and its problems.

    Args:
        data: The data that the user's function returned: a `Pipeline`, a batched
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or arrays.
        num_replicas: Replicas that divide a global batch. Positive.
        batch_size: Examples of a global batch if the data are arrays. Positive.
        location: Location of the function.

    Raises:
        WrongUsage: If `data` is something else, or empty.
    """
    spec, rows, rows_vary = _global_batch(data, batch_size)
    findings = [*_type_findings(spec, location), *_shape_findings(spec, location)]
    replica_rows = -(-rows // num_replicas)
    if rows % num_replicas:
        text = f"a batch of {rows} does not divide evenly among {num_replicas} replicas"
        cure = f"Use a batch of {replica_rows * num_replicas}, or another multiple."
        findings.append(Finding(FAILS, "batch", text, cure, location))
    if rows_vary and isinstance(data, tf.data.Dataset):
        text = "its batches have no static number of rows"
        cure = f"{_STATIC}: .batch({rows}, drop_remainder=True)."
        findings.append(Finding(FAILS, "shape", text, cure, location))
    elif rows_vary:
        text = f"the number of rows is not static: the last batch may have fewer than {rows}"
        cure = (
            "Another shape must be compiled, and a step without a static size is slower. Use "
            "drop_remainder=True of input_pipeline or Dataset.batch, or a multiple of the batch "
            "size as the number of examples."
        )
        findings.append(Finding(WARNS, "last batch", text, cure, location))
    return ReplicaBatch(spec_with_rows(spec, replica_rows), replica_rows, rows, rows_vary, findings)


def _global_batch(data: Any, batch_size: int) -> tuple[Any, int, bool]:
    """Returns specification, rows, and whether the last batch may be smaller."""
    import keras

    if isinstance(data, GlobalBatches):
        spec = data.element_spec
        return spec, data.global_batch_size, _first_size(spec) is None
    if isinstance(data, tf.data.Dataset):
        spec = data.element_spec
        size = _first_size(spec)
        return spec, _rows_of_first(data) if size is None else size, size is None
    if isinstance(data, keras.utils.PyDataset):
        if not data.num_batches:
            raise WrongUsage(
                "`data` must have at least one batch. Received: an empty PyDataset. Check its "
                "source."
            )
        spec, rows, _ = _global_batch(_without_none(data[0]), batch_size=2**31)
        return spec, rows, False
    if not isinstance(data, (tuple, list)):
        raise WrongUsage(
            "`data` must be a Pipeline, a batched tf.data.Dataset, a keras.utils.PyDataset or "
            f"arrays (x, y). Received: a value of type {type(data).__name__}. Convert it."
        )
    arrays = _without_none(tuple(data))
    sizes = {len(part) for part in tf.nest.flatten(arrays) if not isinstance(part, tf.RaggedTensor)}
    sizes |= {int(p.nrows()) for p in tf.nest.flatten(arrays) if isinstance(p, tf.RaggedTensor)}
    if len(sizes) != 1 or sizes == {0}:
        raise WrongUsage(
            "`data` must have parts with the same number of rows. Received: parts of "
            f"{', '.join(map(str, sorted(sizes))) or 'no'} rows. Check inputs and targets."
        )
    (total,) = sizes
    rows = min(batch_size, total)
    first = tf.nest.map_structure(lambda part: part[:rows], arrays)
    batches = tf.data.Dataset.from_tensor_slices(first).batch(rows, drop_remainder=True)
    return batches.element_spec, rows, total % rows != 0


def _without_none(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part for part in parts if part is not None)


def _first_size(spec: Any) -> int | None:
    for part in tf.nest.flatten(spec):
        shape = getattr(part, "shape", None)
        if shape is not None and shape.rank:
            size: int | None = shape[0]
            return size
    raise WrongUsage(
        "`data` must be batched. Received: single examples. Call `batch(n)` on the dataset."
    )


def _rows_of_first(data: tf.data.Dataset) -> int:
    for element in data.take(1):
        first = tf.nest.flatten(element)[0]
        return int(first.nrows() if isinstance(first, tf.RaggedTensor) else first.shape[0])
    raise WrongUsage(
        "`data` must have at least one batch. Received: an empty tf.data.Dataset. Check its source."
    )


def _type_findings(spec: Any, location: SourceLocation | None) -> list[Finding]:
    findings = []
    for name, part in _named(spec):
        if isinstance(part, (tf.RaggedTensorSpec, tf.SparseTensorSpec)):
            kind = type(part).__name__.removesuffix("TensorSpec").lower()
            cure = "Make it dense in the input pipeline: to_tensor(shape=[None, 128]) or to_dense."
            findings.append(Finding(FAILS, "input", f"{name} is {kind}", cure, location))
        elif part.dtype == tf.string:
            cure = "A TPU does not support strings: encode them as integers in the input pipeline."
            findings.append(Finding(FAILS, "input", f"{name} contains strings", cure, location))
        elif part.dtype == tf.float64:
            text = f"{name} is float64, which doubles the transfer to the TPU"
            cure = "Cast it to float32 in the input pipeline."
            findings.append(Finding(WARNS, "float64", text, cure, location))
    return findings


def _shape_findings(spec: Any, location: SourceLocation | None) -> list[Finding]:
    findings = []
    for name, part in _named(spec):
        if not isinstance(part, tf.TensorSpec):
            continue
        shape = part.shape
        if shape.rank is None or None in list(shape[1:]):
            text = f"{name} has the shape {_shown(shape)}, but XLA needs every size"
            cure = f"{_STATIC}: pad or crop in the input pipeline."
            findings.append(Finding(FAILS, "shape", text, cure, location))
    return findings


def _named(spec: Any) -> list[tuple[str, Any]]:
    """Returns the parts of a batch with their names for users."""
    roles = ("x", "y", "sample_weight") if isinstance(spec, tuple) else ("x",)
    named = []
    for role, part in zip(roles, spec if isinstance(spec, tuple) else (spec,), strict=False):
        for path, leaf in _paths(role, part):
            named.append((f"`{path}` of the data", leaf))
    return named


def _paths(path: str, part: Any) -> list[tuple[str, Any]]:
    if isinstance(part, dict):
        return [leaf for key, value in part.items() for leaf in _paths(f"{path}[{key!r}]", value)]
    if isinstance(part, (tuple, list)):
        return [leaf for i, value in enumerate(part) for leaf in _paths(f"{path}[{i}]", value)]
    return [] if part is None else [(path, part)]


def _shown(shape: tf.TensorShape) -> str:
    return "of unknown rank" if shape.rank is None else str(tuple(shape))
