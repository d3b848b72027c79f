"""Program: trains with InputWait, on one of two workers with a slow input, or on two replicas.

    python -m tests.workers.input_waited FOLDER CASE

CASE is "workers" or "replicas". A step takes `STEP` seconds, a batch of the slow input `INPUT`.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import strategies
from tests.unit.tfscale.callbacks.input_wait_training import batches, model
from tests.workers.job import leave
from tfscale.callbacks import InputWait

INPUT, STEP = 0.08, 0.02
"""Of a batch of the slow input, and of a step: three quarters of the time wait for it."""
STEPS = 40


def main() -> None:
    """Trains for one epoch and writes down what the callback measured."""
    folder, case = Path(sys.argv[1]), sys.argv[2]
    if case == "workers":
        strategy = strategies.multi_worker_mirrored_strategy()
        own = strategy.cluster_resolver.task_id
    else:
        strategy, own = strategies.mirrored_strategy(num_replicas=2), 0
    is_slow = case == "replicas" or own == 1
    callback = InputWait(in_logs=True)
    built = model(strategy, STEP)
    history = built.fit(batches(INPUT if is_slow else 0.0, STEPS), callbacks=[callback], verbose=0)
    assert callback.waiting is not None
    found = dataclasses.asdict(callback.waiting)
    leave(folder, case, own, {**found, "logs": history.history["input_wait"]})


if __name__ == "__main__":
    main()
