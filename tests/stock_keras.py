"""What stock Keras on one device computes wrongly, put right for comparisons."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from packaging.version import Version

DISTRIBUTION = "keras-nightly" if Version(keras.__version__).is_devrelease else "keras"
SINCE_3_16 = Version(keras.__version__).release >= (3, 16)
"""A step that updates twice is not deterministic on one device in the nightly of 2026-10-27: of 22
trainings of tests/parity's `wasserstein` without a strategy, 4 gave other weights (by up to 6e-4).
Run eagerly, or with two steps an execution, all gave the same."""


@contextlib.contextmanager
def batches_counted_once() -> Iterator[None]:
    """Lets every batch count once in the losses of single outputs, as before Keras 3.16.

    Keras 3.16 (seen in the nightly of 2026-10-27) traces a step with the number of rows of the
    first batch. In the loss of one of several outputs such a batch counts as often as it has rows,
    and a batch of another size counts once. So what history and evaluate show depends on the size
    of the first batch.
    """
    if not SINCE_3_16:
        yield
        return
    update_state = keras.metrics.Mean.update_state

    def update(self: Any, values: Any, sample_weight: Any = None) -> Any:
        # Only CompileLoss passes a number of rows.
        weight = None if isinstance(sample_weight, int) else sample_weight
        return update_state(self, values, sample_weight=weight)

    keras.metrics.Mean.update_state = update
    try:
        yield
    finally:
        keras.metrics.Mean.update_state = update_state
