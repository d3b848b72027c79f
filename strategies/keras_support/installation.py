"""Installs the patches once per process, when the first strategy is built."""

from __future__ import annotations

import atexit
import functools

import keras
import tensorflow as tf

from strategies.cluster.exit_reason import write_exit_reason_at_end
from strategies.cluster.stack_signal import answer_stack_requests
from strategies.coordination.rendezvous import tell_of_end
from strategies.keras_support.asynchronous.reports import give_task_notices
from strategies.keras_support.patches import EPOCH_ITERATOR, PATCHES
from strategies.keras_support.patching.keras_2 import refuse_keras_2
from strategies.keras_support.patching.needs import Need, note_changes, refusal, require
from strategies.keras_support.patching.ownership import adopt, is_asynchronous, is_multi_worker
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import changed_symbols
from strategies.keras_support.patching.private_tensorflow import TENSORFLOW_SYMBOLS
from strategies.keras_support.sharding.stages import shard_state
from strategies.keras_support.state.broadcast_values import send_small_numbers
from strategies.liveness.wait_notice import give_wait_notices


def support_shared_parts() -> None:
    """Lets `fit` pass declared shared parts to models, under any strategy and without one."""
    EPOCH_ITERATOR.install()


def support(strategy: tf.distribute.Strategy, shard: int = 0) -> tf.distribute.Strategy:
    """Makes Keras train correctly under `strategy`; other strategies are not affected.

    Args:
        strategy: A strategy that a factory of this package just built.
        shard: What its replicas keep parts of: see `sharding.stages`.

    Returns:
        `strategy` itself.

    Raises:
        RuntimeError: If the Keras backend is not TensorFlow, or a replaced or private symbol that
            the strategy needs changed.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "`KERAS_BACKEND` must be 'tensorflow' to train under a tf.distribute strategy. Received"
            f": KERAS_BACKEND={keras.backend.backend()!r}. Set the environment variable "
            "KERAS_BACKEND=tensorflow (or edit ~/.keras/keras.json) before Keras is imported."
        )
    changes = _install()
    for need in _needs(strategy):
        if need in changes:
            raise RuntimeError(refusal(need, changes[need]))
    if shard:
        require(Need.SHARDING)
        shard_state(strategy, shard)
    adopt(strategy)
    refuse_keras_2(strategy)
    if is_asynchronous(strategy):
        # evaluate and predict run on the chief by design; TensorFlow would warn of each call.
        strategy.extended._allow_run_without_coordinator = True
        give_task_notices(strategy)
    # Of a parameter server strategy the resolver is private.
    resolver = getattr(strategy, "_cluster_resolver", None) or strategy.cluster_resolver
    is_task = resolver is not None and resolver.task_type
    task = (resolver.task_type, resolver.task_id) if is_task else ("worker", 0)
    write_exit_reason_at_end(*task)
    answer_stack_requests()
    if is_multi_worker(strategy):
        send_small_numbers(strategy)
        atexit.register(tell_of_end, strategy)
        give_wait_notices(strategy)
    return strategy


@functools.cache
def _install() -> dict[Need, list[str]]:
    """Installs the patches; returns what the installed releases have changed."""
    changes = changes_by_need()
    note_changes(changes)
    if Need.TRAINING in changes:
        return changes
    for patch in PATCHES:
        if patch.need not in changes:
            patch.install_recognised()
        elif not patch.need.is_of_strategy:
            patch.refuse()
    return changes


def changes_by_need() -> dict[Need, list[str]]:
    """Returns the symbols that the installed releases changed or removed, by what is refused.

    A replaced symbol that is gone, or is no function any more, cannot refuse its calls. If nothing
    else checks for its feature, all strategies are refused.
    """
    changes: dict[Need, list[str]] = {}
    for patch in PATCHES:
        if not patch.is_recognised():
            need = patch.need if _is_refusable(patch.need) else Need.TRAINING
            changes.setdefault(need, []).append(patch.target)
    for symbol in changed_symbols((*KERAS_SYMBOLS, *TENSORFLOW_SYMBOLS)):
        changes.setdefault(symbol.need, []).append(symbol.target)
    return changes


def _is_refusable(need: Need) -> bool:
    return need.is_checked or any(patch.need is need and patch.can_refuse() for patch in PATCHES)


def _needs(strategy: tf.distribute.Strategy) -> tuple[Need, ...]:
    if is_asynchronous(strategy):
        return Need.TRAINING, Need.PARAMETER_SERVERS
    return (Need.TRAINING, Need.WORKERS) if is_multi_worker(strategy) else (Need.TRAINING,)
