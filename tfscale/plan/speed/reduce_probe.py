"""The process that measures all-reduces between the workers of a cluster, by size.

It also measures small steps: those of a model that computes next to nothing, with the other workers
and without them. The difference is what a step sends and what is done around that.

    python -m tfscale.plan.speed.reduce_probe REQUEST OUTCOME

All workers of a job run it at the same time, each with its own TF_CONFIG.
"""

from __future__ import annotations

import time
from typing import Any

from tfscale.bench.collectives.reduction import FLOAT_BYTES
from tfscale.plan.speed.child import answer

_MOST_CALLS = 50
_ROWS, _STEPS = 8, 16  # metrics of workers are combined every 16 executions
_BYTES = 2**22  # of a turn, where they are several all-reduces: a third of a second at 100 Mbit/s


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measures the all-reduces of a request; collective.

    Args:
        request: "bytes", sizes; "small_bytes", of the gradients of small steps; "turns" of each;
            "start_seconds", deadline of the start of the cluster.
    """
    import strategies
    from tfscale.bench.collectives.tensorflow_engines import new_reduce
    from tfscale.bench.turns import processor_seconds

    strategy = strategies.multi_worker_mirrored_strategy(bring_up_seconds=request["start_seconds"])
    calls = {size: max(1, min(_MOST_CALLS, _BYTES // size)) for size in request["bytes"]}
    reduce = {size: new_reduce(strategy, size, count) for size, count in calls.items()}
    found: dict[str, Any] = {
        str(size): {"seconds": [], "processor_seconds": []} for size in request["bytes"]
    }
    for turn in range(request["turns"] + 1):
        for size in request["bytes"]:
            spent, began = processor_seconds(), time.perf_counter()
            reduce[size](calls[size])
            if turn:  # the first one traces
                seconds = time.perf_counter() - began
                found[str(size)]["seconds"].append(seconds / calls[size])
                busy = processor_seconds() - spent
                found[str(size)]["processor_seconds"].append(busy / calls[size])
    return {
        "reduces": found,
        "small_steps": {
            str(size): _small_steps(strategy, size, request["turns"])
            for size in request["small_bytes"]
        },
        "workers": strategy.num_replicas_in_sync,
        "is_chief": strategies.is_chief(strategy),
    }


def _small_steps(strategy: Any, size: int, turns: int) -> dict[str, list[float]]:
    """Returns the seconds of steps of all workers, and of steps without the others."""
    import keras
    import numpy as np

    import strategies
    from tfscale.plan.speed.step_probe import Turns

    class Sent(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        """A weight whose gradient has a size, and costs no more than to fill it."""

        def build(self, shape: Any) -> None:
            self.sent = self.add_weight(shape=(size // FLOAT_BYTES,), name="sent")

        def call(self, inputs: Any) -> Any:
            return inputs * keras.ops.mean(self.sent)

    def new_turns(owner: Any) -> Turns:
        with owner.scope():
            model = keras.Sequential([keras.Input((1,)), Sent()])
            model.compile(keras.optimizers.SGD(1e-3), "mse")
        batch = (np.ones((_ROWS, 1), "float32"), np.ones((_ROWS, 1), "float32"))
        return Turns(model, batch, owner.num_replicas_in_sync)

    together, alone = new_turns(strategy), new_turns(strategies.one_device_strategy())
    found: dict[str, list[float]] = {"together": [], "alone": []}
    for turn in range(turns + 1):
        for name, each in (("together", together), ("alone", alone)):
            seconds = each.take(_ROWS, _STEPS)
            if turn:  # the first one traces
                found[name].append(seconds)
    return found


if __name__ == "__main__":
    answer(measure)
