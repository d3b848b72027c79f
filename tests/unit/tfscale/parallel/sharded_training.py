"""Trains with a table in shards: replicas in step, and two servers; for test_sharded_training.py.

Usage: python sharded_training.py FOLDER. Leaves FOLDER/found.json.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

import strategies
import tfscale
from tfscale.parallel import RowUniform, ShardedEmbedding, initial_rows

ROWS, WIDTH, BATCH, STEPS = 11, 3, 8, 50
IDS = np.random.default_rng(0).integers(0, ROWS, (STEPS * BATCH, 4))
TARGETS = np.random.default_rng(1).normal(size=(STEPS * BATCH, 1))

OPTIMIZERS: dict[str, Any] = {
    "sgd, clipped": lambda: keras.optimizers.SGD(0.2, momentum=0.5, global_clipnorm=0.1),
    "adagrad, clipped": lambda: keras.optimizers.Adagrad(0.1, global_clipnorm=0.1),
    "adam": lambda: keras.optimizers.Adam(0.02),
    "adam, clipped": lambda: keras.optimizers.Adam(0.02, global_clipnorm=0.1),
}
SERVERS: list[tf.distribute.Server] = []  # at the end TensorFlow would wait for them


def compiled(strategy: Any, optimizer: Any, num_shards: int | None) -> keras.Model:
    """A model with a regularized, constrained table; Keras's own without `num_shards`."""
    rules = {"embeddings_regularizer": "l2", "embeddings_constraint": by_row()}
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        if num_shards is None:
            table = keras.layers.Embedding(ROWS, WIDTH, name="table", **rules)
        else:
            table = ShardedEmbedding(ROWS, WIDTH, num_shards, name="table", **rules)
        layers = [keras.Input((4,), dtype="int32"), table, keras.layers.Flatten()]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(optimizer(), "mse")
    return model


def by_row() -> Any:
    """A constraint that the training meets."""
    return keras.constraints.MaxNorm(0.5, axis=1)


def trained(model: keras.Model, steps: int = STEPS, first: int = 0) -> Any:
    """The table after some steps more."""
    rows = slice(first * BATCH, (first + steps) * BATCH)
    data = tf.data.Dataset.from_tensor_slices((IDS[rows], TARGETS[rows])).batch(BATCH)
    model.fit(data.repeat(), steps_per_epoch=steps, epochs=1, verbose=0)
    return np.asarray(model.get_layer("table").embeddings).tolist()


def refusals(strategy: Any) -> list[str]:
    """What optimizers with rules of whole variables are told."""
    told = []
    for optimizer in (
        lambda: keras.optimizers.Adam(clipnorm=1.0),
        lambda: keras.optimizers.Lamb(),
        lambda: tfscale.optimizers.LARS(),
    ):
        try:
            trained(compiled(strategy, optimizer, 3), steps=1)
        except ValueError as error:
            told.append(str(error))
    return told


def continued(strategy: Any, *num_shards: int) -> dict[str, Any]:
    """Ten steps with 3 shards, and ten more: as they are, and with the table in other shards."""
    model = compiled(strategy, OPTIMIZERS["adam, clipped"], 3)
    trained(model, 10)
    with strategy.scope() if strategy else contextlib.nullcontext():
        others = [tfscale.parallel.resharded(model, count) for count in num_shards]
    return {
        "iterations": {int(other.optimizer.iterations.numpy()) for other in others} == {10},
        "tables": [trained(other, 10, first=10) for other in (model, *others)],
    }


def loaded(model: keras.Model, folder: str) -> Any:
    """The table in a file of the model, read outside the scope: on this process's own device."""
    path = Path(folder) / "model.keras"
    model.save(path)
    return np.asarray(keras.models.load_model(path).get_layer("table").embeddings).tolist()


def parameter_servers() -> tf.distribute.Strategy:
    """A worker and two servers, all in this process."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        chief, worker, *servers = (f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    jobs = {"chief": (chief,), "worker": (worker,), "ps": tuple(servers)}
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    spec = tf.train.ClusterSpec({job: list(hosts) for job, hosts in jobs.items()})
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    for job, index in (("worker", 0), ("ps", 0), ("ps", 1)):
        SERVERS.append(tf.distribute.Server(spec, job, index, protocol="grpc", config=config))
    atexit.register(os._exit, 0)
    return strategies.parameter_server_strategy(strategies.Cluster(jobs, "chief", 0))


def drawn_on_servers(strategy: tf.distribute.Strategy) -> list[Any]:
    """A table that is written to two servers in blocks, the last not full; and drawn at once."""
    rows, initializer = 2 * initial_rows._BLOCK_ELEMENTS // 1024 + 3, RowUniform(seed=6)
    with strategy.scope():
        table = ShardedEmbedding(rows, 1024, 2, initializer, dtype="float32")
        table.build()
    whole = initializer((rows, 1024), "float32")
    return [bool((np.asarray(table.embeddings) == whole).all()), bool(whole.std() > 0.02)]


def main(folder: str) -> None:
    """Writes what came out."""
    keras.config.set_floatx("float64")
    mirrored = strategies.mirrored_strategy(2)
    found: dict[str, Any] = {"keras": {}, "mirrored": {}, "servers": {}}
    for name, optimizer in OPTIMIZERS.items():
        found["keras"][name] = trained(compiled(None, optimizer, None))
        model = compiled(mirrored, optimizer, 3)
        found["mirrored"][name] = trained(model)
    found["loaded"] = {"mirrored": loaded(model, folder)}
    found["refused"] = refusals(mirrored)
    found["continued"] = {
        "one device": continued(None, 1, 2, 5),
        "mirrored": continued(mirrored, 2),
    }

    strategy = parameter_servers()
    for name, optimizer in OPTIMIZERS.items():
        model = compiled(strategy, optimizer, 2)
        found["servers"][name] = trained(model)
    found["loaded"]["servers"] = loaded(model, folder)
    found["continued"]["servers"] = continued(strategy, 2)
    found["drawn on servers"] = drawn_on_servers(strategy)
    parts = model.get_layer("table").trainable_variables
    slots = [v for v in model.optimizer.variables if "shard" in v.path]
    found["devices"] = [variable.value.device for variable in parts]
    found["devices of slots"] = {slot.path: slot.value.device for slot in slots}
    (Path(folder) / "found.json").write_text(json.dumps(found))
    print("written", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
