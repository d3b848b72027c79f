"""A range of collective keys for each strategy of a process.

TensorFlow names a collective by its key and counts keys from the same start for every strategy; so
the second strategy of a process meets the first one's collectives: "Shape mismatch in the
collective instance 100" (tensorflow/tensorflow#62790). TensorFlow's own tests move the start, and
so do we. Workers agree because they build their strategies in the same order.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import tensorflow as tf

KEYS_PER_STRATEGY = 100_000

_LOCK = threading.Lock()
_RANGES = itertools.count(1)  # 0 is where TensorFlow starts, with strategies not ours


@contextlib.contextmanager
def own_collective_keys(
    strategy_class: type[tf.distribute.MirroredStrategy]
    | type[tf.distribute.MultiWorkerMirroredStrategy],
) -> Iterator[None]:
    """Gives the strategy that is built inside a range of keys that no other strategy uses.

    Args:
        strategy_class: The class about to be constructed; it reads the start from itself.
    """
    with _LOCK:
        before = strategy_class._collective_key_base
        strategy_class._collective_key_base = next(_RANGES) * KEYS_PER_STRATEGY
        try:
            yield
        finally:
            strategy_class._collective_key_base = before
