"""What the callback Monitor costs a step: processor time of short steps with it and without it.

    python -m tests.benchmarks.monitor_cost [--steps=2000]

"recording" is what the callback measures of itself, in its thread. "all" is the processor time of
the process, with the marks in the graph; runs alternate, and the least of each kind counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import strategies
from tfscale.callbacks import Monitor

_TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000, help="steps of a run; default 2000")
    steps = parser.parse_args().steps
    rows = np.ones([32 * steps, 16], "float32")
    strategy = strategies.one_device_strategy()
    for every in (1.0, 0.1, 0.0):
        plain, watched, recording, lines = [], [], [], 0
        for _ in range(_TURNS):
            plain.append(_processor_seconds(strategy, rows, []))
            with tempfile.TemporaryDirectory() as folder:
                monitor = Monitor(folder, every_seconds=every, flops=False)
                watched.append(_processor_seconds(strategy, rows, [monitor]))
                text = Path(folder, "monitor-0.jsonl").read_text("utf-8").splitlines()
            assert monitor.last is not None
            recording.append(monitor.last["monitor_seconds"])
            lines = sum(json.loads(line)["event"] == "steps" for line in text)
        print(
            f"every_seconds={every:g}: recording {1e6 * min(recording) / steps:.1f} us a step, "
            f"{1e6 * min(recording) / max(1, lines - 1):.0f} us a line ({lines} lines); all "
            f"{1e6 * (min(watched) - min(plain)) / steps:.1f} us a step more than "
            f"{1e6 * min(plain) / steps:.1f} us"
        )


def _processor_seconds(strategy: Any, rows: Any, callbacks: list[Any]) -> float:
    with strategy.scope():
        model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(16)])
        model.compile("sgd", "mse", steps_per_execution=1)
    model.fit(rows[:64], rows[:64], verbose=0)
    began = time.process_time()
    model.fit(rows, rows, batch_size=32, callbacks=callbacks, verbose=0)
    return time.process_time() - began


if __name__ == "__main__":
    main()
