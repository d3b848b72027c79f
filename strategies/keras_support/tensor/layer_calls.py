"""What a layer with divided weights computes, in place of its own `call`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from strategies.keras_support.tensor.crossing import brought, sent
from strategies.keras_support.tensor.ranks import devices_for, on_rank, own_rank
from strategies.keras_support.tensor.weight_cut import WeightCut

Call = Callable[..., Any]
Product = Callable[[Any], Any]

_PARTS_OF = "_tfscale_parts"
"""Attribute of a tensor that was joined: the tensors of all devices, and their division."""


def column_call(call: Call, cut: WeightCut) -> Call:
    """Returns the call of a layer of which each device computes some outputs.

    Args:
        call: The layer's own; on a rank it computes the outputs of its part.
        cut: Of the outputs.
    """

    @functools.wraps(call)
    def columns(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if own_rank() is not None:
            return call(inputs, *args, **kwargs)
        devices = devices_for(cut.num_parts)
        parts = []
        for rank in range(cut.num_parts):
            with on_rank(rank, devices):
                parts.append(call(sent(inputs, devices, rank), *args, **kwargs))
        with _on_first(devices):
            whole = cut.joined(brought(parts, devices))
        # The next layer may take the parts. Then nothing needs the whole, and it is not computed.
        setattr(whole, _PARTS_OF, (tuple(parts), cut))
        return whole

    return columns


def row_call(layer: Any, product: Product, cut: WeightCut) -> Call:
    """Returns the call of a layer of which each device has some inputs.

    Args:
        layer: With a bias or None, and an activation or None.
        product: On a rank, the product of inputs and kernel.
        cut: Of the inputs.
    """

    @functools.wraps(layer.call)
    def rows(inputs: Any, *_: Any, **__: Any) -> Any:
        rank = own_rank()
        if rank is not None:
            result = product(inputs)
            is_first = rank == 0  # the bias counts once
            return result if layer.bias is None or not is_first else ops.add(result, layer.bias)
        devices = devices_for(cut.num_parts)
        given = _parts_of(inputs, cut)
        products = []
        for each in range(cut.num_parts):
            with on_rank(each, devices):
                if given is not None:
                    own = given[each]
                else:
                    with _on_first(devices):
                        own = cut.take(inputs, each)
                    own = sent(own, devices, each)
                products.append(product(own))
        result = _sum(products, devices)
        if layer.bias is not None:
            result = ops.add(result, layer.bias)
        return result if layer.activation is None else layer.activation(result)

    return rows


def vocabulary_call(layer: Any, call: Call, cut: WeightCut) -> Call:
    """Returns the call of an embedding of which each device has some rows.

    Args:
        layer: An `Embedding`.
        call: Its own, whose `reverse=True` is a column layer.
        cut: Of the rows.
    """
    reverse = column_call(call, cut.along(-1))

    @functools.wraps(call)
    def look_up(inputs: Any, **kwargs: Any) -> Any:
        if kwargs.get("reverse"):
            return reverse(inputs, **kwargs)
        ids = inputs if inputs.dtype in (tf.int32, tf.int64) else ops.cast(inputs, "int32")
        devices = devices_for(cut.num_parts)
        found = []
        for rank in range(cut.num_parts):
            with on_rank(rank, devices):
                found.append(_rows(layer, sent(ids, devices, rank), cut, rank))
        return _sum(found, devices)

    return look_up


def block_call(call: Call, num_parts: int) -> Call:
    """Returns the call of a layer that is run as a whole on each device, to be added up.

    Args:
        call: The layer's own. Inside of it are column layers, and row layers at the end.
        num_parts: Devices.
    """

    @functools.wraps(call)
    def block(*args: Any, **kwargs: Any) -> Any:
        if own_rank() is not None or kwargs.get("return_attention_scores"):
            return call(*args, **kwargs)  # layer by layer, or in a block around it
        devices = devices_for(num_parts)
        given = []
        for rank in range(num_parts):  # before the first call: Keras's attention takes masks off
            with on_rank(rank, devices):
                given.append(
                    keras.tree.map_structure(
                        lambda each, rank=rank: sent(each, devices, rank), (args, kwargs)
                    )
                )
        results = []
        for rank, (own_args, own_kwargs) in enumerate(given):
            with on_rank(rank, devices):
                results.append(call(*own_args, **own_kwargs))
        return _sum(results, devices)

    return block


def _rows(layer: Any, ids: Any, cut: WeightCut, rank: int) -> Any:
    table = layer._embeddings if hasattr(layer, "_embeddings") else layer.embeddings
    ids = tf.where(ids < 0, ids + cut.size, ids)  # as Keras's `take`
    places = ids - cut.begin(rank)
    is_last = rank == cut.num_parts - 1
    # Ids beyond the table go to the last part, where they are what they are on one device.
    is_here = places >= 0 if is_last else (places >= 0) & (places < cut.size_of(rank))
    part = tf.convert_to_tensor(table.value)
    rows = ops.cast(tf.gather(part, tf.where(is_here, places, 0)), layer.compute_dtype)
    return tf.where(is_here[..., None], rows, tf.zeros_like(rows))


def _parts_of(tensor: Any, cut: WeightCut) -> tuple[Any, ...] | None:
    """Returns a tensor's parts, if it was joined from such."""
    parts, theirs = getattr(tensor, _PARTS_OF, ((), None))
    rank = tensor.shape.rank
    if theirs is None or theirs.axis % rank != cut.axis % rank:
        return None
    return parts if theirs.along(0) == cut.along(0) else None


def _sum(parts: Sequence[Any], devices: Sequence[str | None]) -> Any:
    with _on_first(devices):
        return tf.add_n(brought(parts, devices))


def _on_first(devices: Sequence[str | None]) -> Any:
    return on_rank(own_rank()) if devices[0] is None else tf.device(devices[0])
