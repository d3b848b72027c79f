"""The random state of a process: what draws without a seed of their own are made from.

    before = RandomState()
    ...                     # train, draw
    before.restore()        # the next draws are those that would have been next

Random layers keep their state in variables of the model, which are not part of this.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from keras.src.backend.common import global_state
from tensorflow.python.eager import context

from strategies.keras_support.patching.needs import Need
from strategies.keras_support.patching.private_keras import KERAS_SYMBOLS
from strategies.keras_support.patching.private_symbol import require_recognised

_GENERATOR = "global_seed_generator"


class RandomState:
    """The states of Python's, NumPy's, TensorFlow's and Keras's global generators, kept.

    TensorFlow's is the count of the seeds that its operations were given since
    `tf.random.set_seed`; without a seed it has none. Keras's is the generator of `keras.random`
    for draws without a seed, which exists after the first such draw.

    Raises:
        RuntimeError: If this Keras or TensorFlow keeps them in another way.

    Example:
        >>> before = RandomState()
        >>> first = random.random(), np.random.normal()
        >>> before.restore()
        >>> (random.random(), np.random.normal()) == first
        True
    """

    def __init__(self) -> None:
        require_recognised(KERAS_SYMBOLS, Need.FINDERS)
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        drawn = getattr(context.context(), "_rng", None)  # made when a seed is set
        self._operations = None if drawn is None else drawn.getstate()
        self._generator: Any = global_state.get_global_attribute(_GENERATOR)
        state = getattr(self._generator, "state", None)
        self._count = None if state is None else np.array(state.numpy())

    def restore(self) -> None:
        """Puts the states back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        self.restore_operations()
        if self._count is not None:
            self._generator.state.assign(self._count)
        global_state.set_global_attribute(_GENERATOR, self._generator)

    def restore_operations(self) -> None:
        """Puts back the state of TensorFlow's operations only."""
        if self._operations is not None:
            context.context()._rng.setstate(self._operations)
