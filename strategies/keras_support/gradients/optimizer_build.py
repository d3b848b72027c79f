"""Makes the variables of an optimizer that only a step knows, such as a GAN's second one.

Keras builds the optimizer that a model was compiled with before the first step, and any other
inside of it, replica by replica.
"""

from __future__ import annotations

import threading
from typing import Any

import tensorflow as tf

from strategies.keras_support.context.step_context import current_step


def build_for_all_replicas(optimizer: Any, variables: list[Any]) -> None:
    """Makes an optimizer's variables for all replicas at once, outside of the step's graph.

    Args:
        optimizer: One that is not built; called in replica context.
        variables: The Keras variables that it updates.
    """
    replica, step = tf.distribute.get_replica_context(), current_step()
    if step is None or step.is_in_main_graph():
        replica.merge_call(_build, args=(optimizer, variables))
        return
    # Replicas cannot meet inside a condition; the first one builds for all, in a thread that is in
    # no replica's context and no graph.
    failures: list[BaseException] = []

    def build() -> None:
        try:
            with replica.strategy.scope():
                optimizer.build(variables)
        except Exception as error:
            failures.append(error)

    builder = threading.Thread(target=build)
    builder.start()
    builder.join()
    if failures:
        raise failures[0]


def _build(strategy: tf.distribute.Strategy, optimizer: Any, variables: Any) -> None:
    # What crosses a merge_call is regrouped by replica, also where all replicas hold the same.
    optimizer = strategy.experimental_local_results(optimizer)[0]
    variables = [strategy.experimental_local_results(v)[0] for v in variables]
    with tf.init_scope(), strategy.scope():
        optimizer.build(variables)
