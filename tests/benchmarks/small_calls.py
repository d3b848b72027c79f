"""The cost of calls that do little: an epoch of one step, and one batch in memory.

python -m tests.benchmarks.small_calls --rounds=5

Each variant runs in a separate process, one after another in every round; the table has medians of
the rounds. Milliseconds are wall time, and in brackets processor time of all threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.programs import completed

VARIANTS = ("stock", "one_device", "mirrored")
CALLS = {
    "an epoch of one step, inside `fit`": 40,
    "`fit` of one step": 20,
    "`evaluate` of one step": 20,
    "`train_on_batch`": 200,
    "`test_on_batch`": 200,
    "`predict_on_batch`": 200,
}
Cost = tuple[float, float]


def main() -> int:
    """Prints the table; in a child, the costs of one variant as JSON."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, help="the first one is dropped")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant is not None:
        print(json.dumps(measured(arguments.variant)))
        return 0
    rounds: list[dict[str, dict[str, Cost]]] = []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        rounds.append({variant: in_child(variant) for variant in VARIANTS})
    print(table(rounds[1:] or rounds))
    return 0


def in_child(variant: str) -> dict[str, Cost]:
    """Returns the cost of each call, measured in a new process."""
    ended = completed("-m", "tests.benchmarks.small_calls", f"--variant={variant}", timeout=300)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Cost] = json.loads(ended.stdout.splitlines()[-1])
    return found


def table(rounds: list[dict[str, dict[str, Cost]]]) -> str:
    """Returns the medians of the rounds as a table, with ratios to `one_device_strategy`."""
    heads = ("ms", "stock", "`one_device_strategy`", "`mirrored_strategy(2)`", "of one device")
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|"]
    for call in CALLS:
        cells = []
        for variant in VARIANTS:
            wall, processor = (
                statistics.median(costs[variant][call][i] for costs in rounds) for i in (0, 1)
            )
            cells.append(f"{wall:.2f} ({processor:.2f})")
        ratio = statistics.median(
            costs["mirrored"][call][0] / costs["one_device"][call][0] for costs in rounds
        )
        lines.append(f"| {call} | {' | '.join(cells)} | {ratio:.1f}x |")
    return "\n".join(lines)


def measured(variant: str) -> dict[str, Cost]:
    """Returns wall and processor milliseconds of each call, once all functions are traced."""
    import keras
    import tensorflow as tf

    import strategies

    strategy = {
        "stock": tf.distribute.get_strategy,
        "one_device": strategies.one_device_strategy,
        "mirrored": lambda: strategies.mirrored_strategy(2),
    }[variant]()
    with strategy.scope():
        layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(4)]
        model = keras.Sequential([keras.Input((8,)), *layers])
        model.compile("sgd", "mse")
    x, y = np.ones([8, 8], "float32"), np.ones([8, 4], "float32")
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8, drop_remainder=True)
    epochs = CALLS["an epoch of one step, inside `fit`"]
    costs = {}
    once: dict[str, Callable[[], Any]] = {
        "`fit` of one step": lambda: model.fit(batches, verbose=0),
        "`evaluate` of one step": lambda: model.evaluate(batches, verbose=0),
        "`train_on_batch`": lambda: model.train_on_batch(x, y),
        "`test_on_batch`": lambda: model.test_on_batch(x, y),
        "`predict_on_batch`": lambda: model.predict_on_batch(x),
    }
    for name, call in once.items():
        costs[name] = cost(call, CALLS[name])
    one = cost(lambda: model.fit(batches, epochs=1, verbose=0), 5)
    many = cost(lambda: model.fit(batches, epochs=1 + epochs, verbose=0), 3)
    wall, processor = ((many[i] - one[i]) / epochs for i in (0, 1))
    return {"an epoch of one step, inside `fit`": (wall, processor), **costs}


def cost(call: Callable[[], Any], times: int) -> Cost:
    """Returns the median wall time and the mean processor time of a call, milliseconds."""
    for _ in range(3):
        call()
    walls = []
    before = processor_seconds()
    for _ in range(times):
        started = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started)
    spent = (processor_seconds() - before) / times
    return statistics.median(walls) * 1e3, spent * 1e3


def processor_seconds() -> float:
    """Returns the processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
