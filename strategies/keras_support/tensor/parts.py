"""The value of a Keras variable that is divided among the devices of each replica."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from strategies.keras_support.placement.replica_devices import devices_by_replica
from strategies.keras_support.placement.variable_devices import made_on
from strategies.keras_support.sharding.sharded_value import computes_as_tensor
from strategies.keras_support.tensor.ranks import own_rank
from strategies.keras_support.tensor.weight_cut import WeightCut

_PARTS = "_tfscale_parts"


@computes_as_tensor
class PartsValue:
    """Looks like the value of a whole variable; inside of `on_rank` like that of a part.

    Args:
        parts: Keras variables, by rank.
        cut: How they were cut.
        shape: Of the whole.
        name: Of the whole.
    """

    def __init__(
        self, parts: Sequence[Any], cut: WeightCut, shape: Sequence[int], name: str
    ) -> None:
        self.parts = tuple(parts)
        self.cut = cut
        self.shape = tf.TensorShape(shape)
        self.name = name
        self.dtype = tf.as_dtype(parts[0].dtype)

    @property
    def trainable(self) -> bool:
        """Whether gradient tapes watch the parts."""
        return bool(self.parts[0].trainable)

    @property
    def handle(self) -> Any:
        """Refused: a divided variable has no handle."""
        raise AttributeError(
            f"{self.name!r} is divided over devices. Take gradients of model.trainable_variables."
        )

    @property
    def _shared_name(self) -> str:
        return f"parts_{id(self)}"

    def read_value(self) -> tf.Tensor:
        """Returns the whole, or on a rank its part."""
        rank = own_rank()
        if rank is not None:
            return tf.convert_to_tensor(self.parts[rank].value)
        return self.cut.joined([tf.convert_to_tensor(part.value) for part in self.parts])

    def value(self) -> tf.Tensor:
        """Returns `read_value`."""
        return self.read_value()

    def numpy(self) -> np.ndarray[Any, Any]:
        """Returns the whole."""
        whole: np.ndarray[Any, Any] = self.cut.joined([part.numpy() for part in self.parts]).numpy()
        return whole

    def assign(self, value: Any, *_: Any) -> PartsValue:
        """Assigns the whole, each part its own."""
        whole = tf.cast(tf.convert_to_tensor(value), self.dtype)
        for rank, part in enumerate(self.parts):
            part.assign(self.cut.take(whole, rank))
        return self

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return tf.convert_to_tensor(self.read_value(), dtype=dtype, name=name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.asarray(self.numpy(), dtype=dtype)

    def __repr__(self) -> str:
        return f"<PartsValue {self.name!r} shape={tuple(self.shape)}, {len(self.parts)} parts>"

    # TensorFlow's checkpoints write and read the whole.
    def _serialize_to_tensors(self) -> dict[str, tf.Tensor]:
        return {"VARIABLE_VALUE": self.read_value()}

    def _restore_from_tensors(self, restored: dict[str, tf.Tensor]) -> PartsValue:
        return self.assign(restored["VARIABLE_VALUE"])

    def _export_to_saved_model_graph(self, *_: Any, **__: Any) -> Any:
        raise ValueError(
            "A model with divided layers cannot be exported. Received: "
            f"{self.name!r} in parts. Export tfscale.parallel.whole(model)."
        )


def divide(layer: Any, variable: Any, cut: WeightCut, strategy: tf.distribute.Strategy) -> None:
    """Divides a variable of a layer, with its value, over the devices of each replica.

    Args:
        layer: A built layer.
        variable: One of its own trainable variables.
        cut: How.
        strategy: Of the variable, with `cut.num_parts` devices in each replica.
    """
    shape = tuple(variable.shape)
    parts = []
    for rank in range(cut.num_parts):
        devices = [each[rank] for each in devices_by_replica(strategy)]
        ending = f"_part{rank}of{cut.num_parts}"
        with tf.init_scope(), made_on(strategy, devices):
            part = keras.Variable(
                _initial(variable, cut, rank),
                shape=cut.shape_of(shape, rank),
                dtype=variable.dtype,
                trainable=variable.trainable,
                autocast=variable._autocast,
                aggregation=variable.aggregation,
                name=f"{variable.name}{ending}",
            )
        part._path = f"{variable.path}{ending}"
        part.regularizer, part.constraint = variable.regularizer, variable.constraint
        parts.append(part)
    own = layer._trainable_variables
    place = next(i for i, each in enumerate(own) if each is variable)
    # Not by attribute: the layer would track what is in it.
    vars(layer).setdefault(_PARTS, []).append((variable, tuple(parts)))
    variable._value = PartsValue(parts, cut, shape, variable.name)
    own[place : place + 1] = parts


def _initial(variable: Any, cut: WeightCut, rank: int) -> Any:
    """Returns an initializer; a variable that is made only to be traced has no value to read."""
    with tf.init_scope():
        has_value = bool(variable._value.is_initialized())

    def part(shape: Any, **_: Any) -> tf.Tensor:
        if not has_value:
            return tf.zeros(shape, variable.dtype)
        return cut.take(tf.convert_to_tensor(variable.value), rank)

    return part


def is_divided(layer: Any) -> bool:
    """Tells whether a layer's own weights are divided over the devices of a replica."""
    return _PARTS in vars(layer)


def owns(layer: Any, variable: Any) -> bool:
    """Tells whether a trainable variable is a layer's own, not that of a layer in it."""
    return any(each is variable for each in layer._trainable_variables)


def divided_weights(layers: Iterable[Any]) -> list[tuple[tuple[Any, ...], WeightCut]]:
    """Returns the parts of each divided variable, by rank, and how it was cut.

    Args:
        layers: Layers, divided or not.
    """
    return [
        (parts, variable._value.cut)
        for layer in layers
        for variable, parts in vars(layer).get(_PARTS, ())
    ]


@contextlib.contextmanager
def whole_weights(layers: Iterable[Any]) -> Iterator[None]:
    """Lets layers list whole variables instead of their parts.

    Args:
        layers: Layers, divided or not.
    """
    changed = [(layer, list(layer._trainable_variables)) for layer in layers if is_divided(layer)]
    try:
        for layer, _ in changed:
            layer._trainable_variables[:] = _as_whole(layer)
        yield
    finally:
        for layer, own in changed:
            layer._trainable_variables[:] = own


def _as_whole(layer: Any) -> list[Any]:
    for variable, parts in vars(layer)[_PARTS]:
        variable.trainable = parts[0].trainable  # set since then: layers set it for what they list
    first = {id(parts[0]): variable for variable, parts in vars(layer)[_PARTS]}
    others = {id(part) for _, parts in vars(layer)[_PARTS] for part in parts[1:]}
    return [
        first.get(id(each), each) for each in layer._trainable_variables if id(each) not in others
    ]
