"""The program of a worker whose steps are compared with a prediction.

python -m tests.benchmarks.plan_speed_child REQUEST OUTCOME

Trains under `multi_worker_mirrored_strategy`, as each of the workers of its TF_CONFIG.
"""

from __future__ import annotations

from typing import Any

from tfscale.plan.speed.child import answer

_STEPS = 16  # the metrics of workers are combined every 16 executions


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measures steps of all workers together.

    Args:
        request: "target", "rows" of each replica, "turns", "turn_seconds".
    """
    import keras

    import strategies
    from tfscale.plan.speed.step_probe import Turns
    from tfscale.verify.batches import take_batches
    from tfscale.verify.user_model import UserModel

    strategy = strategies.multi_worker_mirrored_strategy(bring_up_seconds=120)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model, data = UserModel(request["target"]).build()
    (batch,) = take_batches(data, 1, 32)
    turns = Turns(model, batch, strategy.num_replicas_in_sync)
    seconds: dict[str, list[float]] = {str(rows): [] for rows in request["rows"]}
    for turn in range(request["turns"] + 1):
        for rows in request["rows"]:
            found = turns.take(rows, _STEPS)
            if turn:
                seconds[str(rows)].append(found)
    return {"seconds": seconds}


if __name__ == "__main__":
    answer(measure)
