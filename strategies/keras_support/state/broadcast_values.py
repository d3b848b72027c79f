"""First values of variables of small numbers, which TensorFlow does not send between workers.

The first values of a variable are those of the chief, which it sends to all workers. TensorFlow's
broadcast knows bool, int32, int64, float16, float32 and float64: a variable of int8, as quantized
layers have, ended with `InvalidArgumentError: Value for attr 'T' of int8 is not in the list of
allowed values`. Here it is sent in a wider type, which has all of its values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_SENT_AS = {
    **dict.fromkeys(("int8", "uint8", "int16", "uint16"), tf.int32),
    "uint32": tf.int64,
    "bfloat16": tf.float32,
}


def send_small_numbers(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> None:
    """Lets variables of small numbers be made in the scope of several workers.

    Args:
        strategy: One that was just built.
    """
    of_chief = strategy.extended._get_variable_creator_initial_value

    @functools.wraps(of_chief)
    def initial_value_of(
        replica_id: int, device: Any, primary_var: Any, **arguments: Any
    ) -> Callable[[], Any]:
        given = arguments.get("dtype")  # Keras always passes one
        if given is None:
            found = getattr(arguments["initial_value"], "dtype", None)  # of an array or a tensor
            given = found if getattr(found, "name", None) in _SENT_AS else None
        dtype = None if given is None else tf.as_dtype(given)
        sent = None if dtype is None else _SENT_AS.get(dtype.name)
        if replica_id > 0 or sent is None:
            made: Callable[[], Any] = of_chief(replica_id, device, primary_var, **arguments)
            return made

        def in_wider_type() -> Any:
            value = arguments["initial_value"]
            value = value() if callable(value) else value
            return tf.cast(tf.convert_to_tensor(value, dtype), sent)

        as_sent = {**arguments, "initial_value": in_wider_type, "dtype": sent}
        wide = of_chief(replica_id, device, primary_var, **as_sent)
        return lambda: tf.cast(wide(), dtype)

    strategy.extended._get_variable_creator_initial_value = initial_value_of
