"""Data to try a model on that leaves the user's own as it was.

A `tf.data.Dataset` that shuffles counts how often it was read: each iterator gets another order. So
a copy of its graph is read, which begins as the dataset itself began. A `PyDataset` may change in
`on_epoch_end`, so a copy is read too, batch by batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from strategies.extension import GlobalBatches

_ACCEPTED = (
    "arrays (x, y), a batched tf.data.Dataset, a keras.utils.PyDataset, a tfscale.data pipeline, "
    "or a function that returns one of them"
)


def fresh_data(data: Any, batch_size: int | None = None) -> dict[str, Any]:
    """Returns arguments for one `fit` of any number of steps: `x`, and others for arrays.

    Args:
        data: As `find_learning_rate` takes it.
        batch_size: Rows of a global batch if `data` are arrays; otherwise None.

    Raises:
        ValueError: If `data` are of another kind, empty, or cannot be read a second time.
    """
    is_users = not callable(data) or isinstance(data, (tf.data.Dataset, keras.utils.PyDataset))
    if not is_users:
        data = data()
    if batch_size is not None and not _is_arrays(data):
        raise ValueError(
            "`batch_size` must be left out for data that come in batches. Received: "
            f"batch_size={batch_size} and data of type {type(data).__name__}. Batch the data in "
            "that size."
        )
    if isinstance(data, GlobalBatches):
        return {"x": data}
    if isinstance(data, tf.data.Dataset):
        return _of_dataset(data, _copy_of if is_users else _itself)
    if isinstance(data, keras.utils.PyDataset):
        return _of_py_dataset(data, _deep_copy_of if is_users else _itself)
    if _is_arrays(data):
        return _of_arrays(data, batch_size)
    raise ValueError(
        f"`data` must be {_ACCEPTED}. Received: data of type {type(data).__name__}. An iterator or "
        "a generator cannot be read again: pass what it is made from."
    )


def _is_arrays(data: Any) -> bool:
    if isinstance(data, (tuple, list, dict)):
        parts = [part for part in tf.nest.flatten(data) if part is not None]
        return bool(parts) and all(hasattr(part, "shape") for part in parts)
    return hasattr(data, "shape") and hasattr(data, "__getitem__")


def _of_arrays(data: Any, batch_size: int | None) -> dict[str, Any]:
    parts = data if isinstance(data, tuple) else (data,)
    if len(parts) > 3:
        raise ValueError(
            f"`data` must be x, (x, y) or (x, y, sample_weight). Received: a tuple of {len(parts)}."
            " Put several inputs into a list or a dict: ([a, b], y)."
        )
    rows = {int(part.shape[0]) for part in tf.nest.flatten(data) if part is not None}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(
            f"`data` must have rows, as many in each array. Received: {sorted(rows)} rows. Pass "
            "the arrays that `fit` gets."
        )
    size = 32 if batch_size is None else batch_size  # as `fit`
    named = dict(zip(("x", "y", "sample_weight"), parts, strict=False))
    return {**named, "batch_size": size}


def _itself(data: Any) -> Any:
    return data


def _of_dataset(dataset: tf.data.Dataset, copied_of: Callable[[Any], Any]) -> dict[str, Any]:
    if dataset.cardinality() == 0:
        raise _empty()
    copied = copied_of(dataset)
    batches = int(dataset.cardinality().numpy())
    if batches == tf.data.UNKNOWN_CARDINALITY and next(iter(copied_of(dataset)), None) is None:
        raise _empty()
    return {"x": copied.repeat()}


def _copy_of(dataset: tf.data.Dataset) -> tf.data.Dataset:
    try:
        content = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=1,  # the copy begins from the start
            strip_device_assignment=False,  # a Python function stays in this process
        )
        variant = tf.raw_ops.DatasetFromGraph(graph_def=_with_own_counts(content.numpy()))
    except tf.errors.OpError as error:
        raise ValueError(
            "`data` must be a dataset that TensorFlow can copy, so that yours stays as it is. "
            f"Received: one of which it says {' '.join(str(error.message).split())[:200]!r}. Pass "
            "a function that makes the dataset: data=lambda: make_dataset()."
        ) from error
    copied = tf.data.experimental.from_variant(variant, dataset.element_spec)
    copied = copied.with_options(dataset.options())
    copied._tfscale_original = dataset  # its Python functions must stay alive
    return copied


def _with_own_counts(content: bytes) -> bytes:
    """Returns the graph of a dataset whose shuffles count their readers by themselves.

    In the graph of a dataset (TensorFlow 2.21) the counts are a handle of the original's, so that
    reading the copy would change the order of the original.
    """
    graph = tf.compat.v1.GraphDef.FromString(content)
    nodes = {node.name: node for node in graph.node}
    for shuffle in list(graph.node):
        if shuffle.op == "ShuffleDatasetV3":
            counts = nodes[shuffle.input[4]]
            counts.op = "DummySeedGenerator"
            counts.attr.clear()
    new: bytes = graph.SerializeToString()
    return new


class _Batches(keras.utils.PyDataset):
    """The batches of a `PyDataset` in order, without the calls at the ends of epochs."""

    def __init__(self, batch: Callable[[int], Any], batches: int) -> None:
        super().__init__()
        self._batch = batch
        self._batches = batches

    @property
    def num_batches(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> Any:
        return self._batch(index)


def _of_py_dataset(
    dataset: keras.utils.PyDataset, copied_of: Callable[[Any], Any]
) -> dict[str, Any]:
    batches = dataset.num_batches
    if batches is not None and batches < 1:
        raise _empty()
    copied = copied_of(dataset)
    if batches is None:  # endless
        return {"x": copied}
    return {"x": _Batches(copied.__getitem__, batches)}


def _deep_copy_of(dataset: keras.utils.PyDataset) -> keras.utils.PyDataset:
    try:
        return copy.deepcopy(dataset)
    except Exception as error:
        raise ValueError(
            "`data` must be a PyDataset that copy.deepcopy can copy, so that yours stays as it is. "
            f"Received: {type(dataset).__name__}, with which it raised {error!r}. Pass a function "
            "that makes it: data=lambda: MyDataset()."
        ) from error


def _empty() -> ValueError:
    return ValueError(
        "`data` must have at least one batch. Received: no batch. Pass the data that `fit` gets."
    )
