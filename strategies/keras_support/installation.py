"""Installs the patches once per process, when the first strategy is built."""

from __future__ import annotations

import atexit

import keras
import tensorflow as tf

from strategies.cluster.exit_reason import write_exit_reason_at_end
from strategies.coordination.rendezvous import tell_of_end
from strategies.keras_support.asynchronous.reports import give_task_notices
from strategies.keras_support.patches import EPOCH_ITERATOR, PATCHES
from strategies.keras_support.patching.keras_2 import refuse_keras_2
from strategies.keras_support.patching.ownership import adopt, is_asynchronous, is_multi_worker
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import Need, require_recognised
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from strategies.liveness.wait_notice import give_wait_notices


def support_shared_parts() -> None:
    """Lets `fit` pass declared shared parts to models, under any strategy and without one."""
    EPOCH_ITERATOR.install()


def support(strategy: tf.distribute.Strategy) -> tf.distribute.Strategy:
    """Makes Keras train correctly under `strategy`; other strategies are not affected.

    Args:
        strategy: A strategy that a factory of this package just built.

    Returns:
        `strategy` itself.

    Raises:
        RuntimeError: If the Keras backend is not TensorFlow, or a replaced or private symbol
            changed.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`KERAS_BACKEND` must be 'tensorflow' to train under a tf.distribute strategy. Received"
            f": KERAS_BACKEND={keras.backend.backend()!r}. Set the environment variable "
            "KERAS_BACKEND=tensorflow (or edit ~/.keras/keras.json) before Keras is imported."
        )
    require_recognised((*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS), _needs(strategy))
    for patch in PATCHES:
        patch.install()
    adopt(strategy)
    refuse_keras_2(strategy)
    if is_asynchronous(strategy):
        # evaluate and predict run on the chief by design; TensorFlow would warn of each call.
        strategy.extended._allow_run_without_coordinator = True
        give_task_notices(strategy)
    # Of a parameter server strategy the resolver is private.
    resolver = getattr(strategy, "_cluster_resolver", None) or strategy.cluster_resolver
    if resolver is not None and resolver.task_type:
        write_exit_reason_at_end(resolver.task_type, resolver.task_id)
    if is_multi_worker(strategy):
        atexit.register(tell_of_end, strategy)
        give_wait_notices(strategy)
    return strategy


def _needs(strategy: tf.distribute.Strategy) -> set[Need]:
    if is_asynchronous(strategy):
        return {Need.TRAINING, Need.PARAMETER_SERVERS}
    return {Need.TRAINING, Need.WORKERS} if is_multi_worker(strategy) else {Need.TRAINING}
