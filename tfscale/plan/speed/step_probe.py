"""The process that measures steps of one worker, for several numbers of rows.

    python -m tfscale.plan.speed.step_probe REQUEST OUTCOME

A turn is some steps of `fit` without callbacks; sizes take turns, so that a disturbance of the
machine meets all of them.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from tfscale.plan.speed.child import answer

_FEWEST_STEPS, _MOST_STEPS = 4, 512
_INPUT_SECONDS = 1.0


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measures the steps of a request.

    Args:
        request: "target"; "replicas" of this worker; "rows", numbers of rows of a replica, or None
            for a half, all and twice of those in the data; "turns" of each; "turn_seconds";
            "has_input", whether the rate of the data is measured too.
    """
    import keras

    import strategies
    from tfscale.verify.batches import num_rows, take_batches
    from tfscale.verify.user_model import UserModel

    replicas = request["replicas"]
    if replicas == 1:
        strategy = strategies.one_device_strategy()
    else:
        strategy = strategies.mirrored_strategy(num_replicas=replicas)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model, data = UserModel(request["target"]).build()
    (batch,) = take_batches(data, 1, 32)
    own = num_rows(batch)
    rows = request["rows"] or sorted({max(1, own // 2), own, 2 * own})
    turns = Turns(model, batch, replicas)
    steps = {each: turns.steps_for(each, request["turn_seconds"]) for each in rows}
    seconds: dict[int, list[float]] = {each: [] for each in rows}
    for _ in range(request["turns"]):
        for each in rows:
            seconds[each].append(turns.take(each, steps[each]))
    return {
        "rows": own,
        "seconds": {str(each): times for each, times in seconds.items()},
        "input_rows_per_second": _input_rate(data) if request["has_input"] else None,
        **_sizes(model),
    }


class Turns:
    """Turns of steps of one model on batches of several sizes."""

    def __init__(self, model: Any, batch: Any, replicas: int) -> None:
        self._model, self._batch, self._replicas = model, batch, replicas
        self._datasets: dict[int, Any] = {}

    def take(self, rows: int, steps: int) -> float:
        """Takes some steps and returns the seconds of one."""
        import keras

        class Epochs(keras.callbacks.Callback):
            """The time of the last epoch, of which metrics were read."""

            began = seconds = 0.0

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.began = time.perf_counter()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                float((logs or {}).get("loss", 0.0))  # waits for the steps
                self.seconds = time.perf_counter() - self.began

        epochs = Epochs()
        # The first epoch makes the iterator, and traces the step if it is a new size.
        self._model.fit(
            self._dataset(rows), epochs=2, steps_per_epoch=steps, callbacks=[epochs], verbose=0
        )
        return epochs.seconds / steps

    def steps_for(self, rows: int, seconds: float) -> int:
        """Returns how many steps take so many seconds, within limits."""
        together = int(self._model.steps_per_execution)
        least = -(-_FEWEST_STEPS // together) * together
        count = int(seconds / self.take(rows, least))
        count = count // together * together
        return max(least, min(max(_MOST_STEPS // together, 1) * together, count))

    def _dataset(self, rows: int) -> Any:
        from tfscale.verify.batches import as_dataset, num_rows, with_rows

        if rows not in self._datasets:
            there = num_rows(self._batch)
            order = [i % there for i in range(rows * self._replicas)]
            dataset = as_dataset([with_rows(self._batch, order)])
            self._datasets[rows] = dataset.cache().repeat().prefetch(2)
        return self._datasets[rows]


def _sizes(model: Any) -> dict[str, Any]:
    """Returns what of a model travels between workers, in bytes."""
    import tensorflow as tf

    from strategies.extension import packs

    def of(variables: Any) -> int:
        return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in variables)

    # Half precision travels as float32; the gradients of the last layers travel first.
    sent = [
        tf.TensorSpec(v.shape, tf.float64 if v.dtype == "float64" else tf.float32)
        for v in reversed(model.trainable_variables)
    ]
    sizes = [math.prod(each.shape) * each.dtype.size for each in sent]
    return {
        "pack_bytes": [sum(sizes[i] for i in pack) for pack in packs(sent, range(len(sent)))],
        "parameter_bytes": of(model.trainable_variables),
        "state_bytes": of(model.weights) + of(model.optimizer.variables),
        "accelerators": len(tf.config.list_physical_devices("GPU")),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "tensorflow": tf.__version__,
    }


def _input_rate(data: Any) -> float | None:
    """Returns the rows a second that the data deliver; None for arrays, which are in memory."""
    import keras
    import tensorflow as tf

    from tfscale.verify.batches import as_arrays, num_rows

    batches: Iterator[Any]
    if isinstance(data, tf.data.Dataset):
        batches = iter(data.repeat().prefetch(tf.data.AUTOTUNE))
    elif isinstance(data, keras.utils.PyDataset) and data.num_batches:
        batches = (data[i % data.num_batches] for i in itertools.count())
    else:
        return None
    rows = num_rows(as_arrays(next(batches)))  # the first one fills buffers
    count, began = 0, time.perf_counter()
    while not count or time.perf_counter() - began < _INPUT_SECONDS:
        next(batches)
        count += 1
    return count * rows / (time.perf_counter() - began)


if __name__ == "__main__":
    answer(measure)
