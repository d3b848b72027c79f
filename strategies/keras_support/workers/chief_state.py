"""The chief's model on every worker."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from strategies.coordination.rendezvous import exchange, refusal_by_all
from strategies.keras_support.patching.ownership import is_multi_worker, is_owned
from strategies.keras_support.workers.call_agreement import by_worker
from strategies.keras_support.workers.state_digest import shared_state, slots

_INTEGERS = {8: tf.int64, 4: tf.int32, 2: tf.int16, 1: tf.int8}


def broadcast_state(model: Any) -> None:
    """Gives every worker the chief's weights, states of seed generators and optimizer state.

    Bytes travel, not numbers: the chief's bits and everybody else's zeros are added up as integers,
    so that the chief's own values stay as they are, to the sign of a zero.

    Args:
        model: Built. Under no strategy of several workers, nothing happens.

    Raises:
        ValueError: If the model is not built, or not the same on all workers.
    """
    strategy = model.distribute_strategy
    if not model.built:
        raise ValueError(
            "`model` must be built before its state can be sent. Received: model="
            f"{model.name!r} without variables. Call model.build(input_shape), or begin it with "
            "keras.Input."
        )
    if not is_owned(strategy) or not is_multi_worker(strategy):
        return
    variables = [*shared_state(model), *slots(model)]
    shapes = [f"{variable.dtype}{list(variable.shape)}" for variable in variables]
    answers = exchange(strategy, "broadcast()", " ".join(shapes))
    if len(set(answers)) > 1:
        raise refusal_by_all(
            "`model` must have the same variables on every worker. Received: "
            f"{by_worker([len(answer.split()) for answer in answers])} variables, or other shapes. "
            "Build and compile the same model on every worker."
        )
    values = [variable._value for variable in variables]

    @tf.function(autograph=False)
    def sent() -> Any:
        def on_replica() -> Any:
            replica = tf.distribute.get_replica_context()
            is_first = tf.equal(replica.replica_id_in_sync_group, 0)
            own = [_bits(tf.convert_to_tensor(value)) for value in values]
            return replica.all_reduce(
                tf.distribute.ReduceOp.SUM,
                [tf.where(is_first, bits, tf.zeros_like(bits)) for bits in own],
            )

        parts = strategy.run(on_replica)
        return [strategy.experimental_local_results(part)[0] for part in parts]

    received = sent.get_concrete_function()() if values else []
    with strategy.scope():
        for value, bits in zip(values, received, strict=True):
            value.assign(_of_bits(bits, value.dtype))


def _bits(value: tf.Tensor) -> tf.Tensor:
    """Returns the bits of each number, in integers that every collective carries."""
    if value.dtype.is_bool:
        return tf.cast(value, tf.int64)
    return tf.cast(tf.bitcast(value, _INTEGERS[value.dtype.size]), tf.int64)


def _of_bits(bits: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    if dtype.is_bool:
        return tf.cast(bits, dtype)
    return tf.bitcast(tf.cast(bits, _INTEGERS[dtype.size]), dtype)
