"""Program: one training step of `fit`, with the time of each phase until it has ended.

python -m tfscale.bench.starting.tensorflow_start FOLDER VARIANT NUM_WORKERS THREADS START
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tfscale.bench.starting.phases import PhaseClock, Start

NewStrategy = Callable[[], Any]


def one_device() -> Any:
    """Builds our strategy of one device."""
    import strategies

    return strategies.one_device_strategy()


def workers() -> Any:
    """Builds our strategy of several workers."""
    import strategies

    return strategies.multi_worker_mirrored_strategy()


OURS = ("one_device", "workers")
STRATEGIES: Mapping[str, NewStrategy] = {
    "stock": lambda: None,
    "one_device": one_device,
    "workers": workers,
}


def main(
    new_strategies: Mapping[str, NewStrategy],
    distributed: Callable[[Any, Any], Any] = lambda strategy, dataset: dataset,
) -> int:
    """Takes one step and reports the phases. Returns the exit status.

    Args:
        new_strategies: By variant, what builds the strategy; it returns None for no strategy.
        distributed: Maps the strategy and the dataset to the input of `fit`.
    """
    folder, variant, num_workers, threads, text = sys.argv[1:]
    start = Start.from_json(text)
    clock = PhaseClock(start.started)
    clock.end("launch")

    import keras
    import tensorflow as tf

    from tfscale.bench.models import MODELS

    if variant in OURS:
        import strategies  # noqa: F401  # Its time belongs to the imports.
    clock.end("imports")

    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    tf.config.threading.set_inter_op_parallelism_threads(int(threads))
    strategy = new_strategies[variant]()
    clock.end("group")

    named = MODELS[start.model]
    rows = named.batch_size * max(1, int(num_workers))
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        model = named.compiled()
        batch = tf.data.Dataset.from_tensor_slices(named.examples(rows)).batch(
            rows, drop_remainder=True
        )
    clock.end("build")

    history = model.fit(distributed(strategy, batch), verbose=0)
    assert math.isfinite(history.history["loss"][0])
    clock.end("first step")
    clock.report(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(STRATEGIES))
