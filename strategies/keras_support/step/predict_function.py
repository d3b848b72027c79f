"""What `predict` calls: a list of distributed batches in, their rows in order out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from strategies.keras_support.context.gathering import gathered
from strategies.keras_support.input.execution import handed_over, shares_of
from strategies.keras_support.model.checks import refuse_impossible
from strategies.keras_support.patching.ownership import is_multi_worker
from strategies.keras_support.step.empty_replica import cut_off
from strategies.keras_support.step.replica_step import (
    built_first,
    none_written,
    on_replica_function,
)


def predict_function(model: Any) -> Callable[[list[Any]], Any]:
    """Returns what `predict` calls: a list of distributed batches in, their rows in order out."""
    strategy = model.distribute_strategy
    refuse_impossible(model)
    on_replica = on_replica_function(model, model.predict_step, statistics=none_written)

    def on_own_rows(batch: Any) -> Any:
        outputs, examples = on_replica(batch)
        return outputs if strategy.num_replicas_in_sync == 1 else cut_off(outputs, examples)

    def run_one(batch: Any) -> Any:
        outputs = strategy.run(on_own_rows, args=(shares_of(strategy, batch),))
        if is_multi_worker(strategy):
            # Shares are contiguous in the order of the replicas, and so is what is gathered.
            return tf.nest.map_structure(lambda rows: gathered(strategy, rows), outputs)
        return keras_trainer.reduce_per_replica(outputs, strategy, reduction="concat")

    def run(batches: list[Any]) -> Any:
        outputs = [run_one(batch) for batch in batches]
        return tf.nest.map_structure(lambda *rows: keras_trainer.concat(rows), *outputs)

    predict = built_first(model, run)

    def function(batches: list[Any]) -> Any:
        return predict([handed_over(strategy, batch) for batch in batches])

    return function
