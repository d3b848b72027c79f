"""Checks that all workers have the same model: same weights, same optimizer.

If only one worker loads weights, restores a checkpoint or sets the learning rate, workers train
different models without an error, because gradients are averaged all the same. So the workers'
models are compared when a call begins and at the end of each epoch, and `broadcast_state` copies
the chief's model to all.
"""

from __future__ import annotations

import json
import weakref
from typing import Any

import keras
import tensorflow as tf

from strategies.announcement import announce
from strategies.cluster.chief import is_chief
from strategies.coordination.rendezvous import error_on_all_workers, exchange
from strategies.keras_support.patching.ownership import is_multi_worker, is_owned
from strategies.keras_support.sharding.sharded_value import is_sharded
from strategies.keras_support.sharding.whole_values import all_variables
from strategies.keras_support.workers.call_agreement import by_worker
from strategies.keras_support.workers.state_digest import (
    Digest,
    digests,
    pack,
    shared_state,
    slots,
    unpack,
)

_NAMED = 3
_BROADCAST = "call tfscale.broadcast(model) on every worker to copy the chief's"
_LOAD = (
    "Load or restore on every worker, call keras.utils.set_random_seed before the model is made, "
    f"or {_BROADCAST}."
)

# Models whose differences by rounding were reported.
_REPORTED: weakref.WeakSet[Any] = weakref.WeakSet()


def refuse_other_state(model: Any, *, with_optimizer: bool) -> None:
    """Checks that all workers have the same model; called on all workers.

    Args:
        model: Under a strategy of several workers.
        with_optimizer: Whether its optimizer, too, must be the same.

    Raises:
        ValueError: If weights, the learning rate, or anything of the optimizer differs.
    """
    own = WorkerState(model, with_optimizer=with_optimizer)
    own.refuse_others(exchange(model.distribute_strategy, "the model's state", own.text()))


def take_over_last_changes(model: Any) -> None:
    """Gives all workers the chief's weights if a callback changed them at the end of training.

    EarlyStopping restores the best weights after the last epoch. On the chief only, as where it
    has all callbacks, the workers would be left with two models.

    Args:
        model: Under a strategy of several workers, all of which are here.
    """
    own = WorkerState(model, with_optimizer=False)
    texts = exchange(model.distribute_strategy, "the model at the end of training", own.text())
    if found := own.other_weights(texts):
        broadcast_state(model)
        if is_chief(model.distribute_strategy):
            announce(
                f"a callback changed the model at the end of training: {found}. Every worker now "
                "has the chief's weights. Pass callbacks that change the model on every worker."
            )


class WorkerState:
    """The model of one worker in its current state.

    Args:
        model: Under a strategy of several workers.
        with_optimizer: Whether to look at its optimizer too.
    """

    def __init__(self, model: Any, *, with_optimizer: bool = True) -> None:
        self._model = model
        weights = shared_state(model)
        self._variables = [*weights, *(slots(model) if with_optimizer else [])]
        self._num_weights = len(weights)
        self._digests = digests(model, self._variables)
        self._optimizer = _settings(getattr(model, "optimizer", None)) if with_optimizer else {}

    def text(self) -> str:
        """Returns it as JSON: what `refuse_others` takes of every worker."""
        shapes = [list(variable.shape) for variable in self._variables]
        return json.dumps(
            {"optimizer": self._optimizer, "shapes": shapes, "digests": pack(self._digests)}
        )

    def refuse_others(self, texts: list[str]) -> None:
        """Checks that all workers have the same state.

        Args:
            texts: Of all workers, in their order.

        Raises:
            ValueError: If they do not; the first difference is named.
        """
        states = [json.loads(text) for text in texts]
        for index, state in enumerate(states):
            if state["shapes"] != states[0]["shapes"]:
                raise error_on_all_workers(
                    "`model` must have the same variables on every worker. Received: "
                    f"{by_worker([len(one['shapes']) for one in states])} variables; the shapes of "
                    f"worker {index} differ from those of worker 0. Build and compile the same "
                    "model on every worker."
                )
        # First, because weights depend on the rate.
        _refuse_other_settings([state["optimizer"] for state in states])
        theirs = self._theirs(states)
        if found := self._different(theirs, 0, self._num_weights):
            raise error_on_all_workers(
                "`model` must have the same weights on every worker. Received: model="
                f"{self._model.name!r}, whose {found}. {_LOAD}"
            )
        if found := self._different(theirs, self._num_weights, len(self._variables)):
            raise error_on_all_workers(
                "`optimizer` must be in the same state on every worker. Received: optimizer="
                f"{self._model.optimizer.name!r}, whose {found}. {_LOAD}"
            )

    def other_weights(self, texts: list[str]) -> str:
        """Says which weights differ between workers; "" if none do.

        Args:
            texts: Of all workers, in their order.
        """
        theirs = self._theirs([json.loads(text) for text in texts])
        return self._different(theirs, 0, self._num_weights)

    def _theirs(self, states: list[dict[str, Any]]) -> list[list[Digest]]:
        sizes = [digest.size for digest in self._digests]
        return [unpack(state["digests"], sizes) for state in states]

    def _different(self, theirs: list[list[Digest]], start: int, stop: int) -> str:
        """Describes which variables differ; the chief reports differences by rounding."""
        differ: dict[str, list[int]] = {}
        rounded: dict[str, list[int]] = {}
        for place in range(start, stop):
            first = theirs[0][place]
            for worker, digests_there in enumerate(theirs):
                digest = digests_there[place]
                if digest.fingerprint != first.fingerprint:
                    kind = rounded if first.differs_by_rounding(digest) else differ
                    kind.setdefault(self._variables[place].path, []).append(worker)
        if differ:
            return _said(differ, stop - start)
        if rounded and self._model not in _REPORTED:
            _REPORTED.add(self._model)
            if is_chief(self._model.distribute_strategy):
                announce(
                    f"the workers' models differ by rounding: {_said(rounded, stop - start)}. "
                    "Training continues; tfscale.broadcast(model) makes them equal."
                )
        return ""


def _said(differ: dict[str, list[int]], total: int) -> str:
    names = ", ".join(repr(path) for path in list(differ)[:_NAMED])
    more = f" and {len(differ) - _NAMED} more" if len(differ) > _NAMED else ""
    workers = sorted({worker for places in differ.values() for worker in places})
    where = ", ".join(str(worker) for worker in workers[:_NAMED])
    where += f" and {len(workers) - _NAMED} more" if len(workers) > _NAMED else ""
    return (
        f"{names}{more} (of {total} variables) {'differ' if len(differ) > 1 else 'differs'} on "
        f"worker {where} from worker 0"
    )


def _refuse_other_settings(settings: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(name for said in settings for name in said):
        values = [said.get(name) for said in settings]
        if any(value != values[0] for value in values):
            cure = "Compile the same model on every worker."
            if name == "learning_rate":
                cure = f"Set it on every worker, also in callbacks, or {_BROADCAST}."
            raise error_on_all_workers(
                f"`{name}` of the optimizer must be the same on every worker. Received: "
                f"{by_worker(values)}. {cure}"
            )


def _settings(optimizer: Any) -> dict[str, Any]:
    """Returns the config of an optimizer; empty if it cannot be written as JSON."""
    if optimizer is None:
        return {}
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))["config"]
    except Exception:  # a schedule or a function of the user's without a config
        return {}
    settings: dict[str, Any] = _without_names(config)
    return settings


def _without_names(config: Any) -> Any:
    """Keras numbers names by what else was made in the process, which may differ."""
    if isinstance(config, dict):
        return {key: _without_names(part) for key, part in config.items() if key != "name"}
    return [_without_names(part) for part in config] if isinstance(config, list) else config


_INTEGERS = {8: tf.int64, 4: tf.int32, 2: tf.int16, 1: tf.int8}


def broadcast_state(model: Any) -> None:
    """Gives every worker the chief's weights, states of seed generators and optimizer state.

    Bytes are sent, not numbers: the chief's bits and the other workers' zeros are added up as
    integers, so that the chief's values stay as they are, to the sign of a zero.

    Args:
        model: Built. Under no strategy of several workers, nothing happens.

    Raises:
        ValueError: If the model is not built, or not the same on all workers.
    """
    strategy = model.distribute_strategy
    if not model.built:
        raise ValueError(
            "`model` must be built before its state can be sent. Received: model="
            f"{model.name!r} without variables. Call model.build(input_shape), or start the model "
            "with keras.Input."
        )
    if not is_owned(strategy) or not is_multi_worker(strategy):
        return
    if any(is_sharded(variable) for variable in all_variables(model)):
        raise ValueError(
            "`model` must not be sharded to send the chief's state, because no worker has all of "
            f"it. Received: model={model.name!r} under a strategy with shard > 0. Load the file on "
            "every worker."
        )
    variables = [*shared_state(model), *slots(model)]
    shapes = [f"{variable.dtype}{list(variable.shape)}" for variable in variables]
    answers = exchange(strategy, "broadcast()", " ".join(shapes))
    if len(set(answers)) > 1:
        raise error_on_all_workers(
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
