"""How much memory training gains with every step, compared with stock Keras.

python -m tests.benchmarks.memory_slope --steps=20000
python -m tests.benchmarks.memory_slope --strategy=mirrored2,stock_mirrored2 --steps=200000

Each strategy trains a small MLP in separate processes, by a plain `fit` without callbacks of steps.
At the end of each epoch a process records its resident memory, unchanged and after `malloc_trim`.
The table has the slopes of least-squares lines through the samples after the first tenth. The
trimmed slope counts memory in use, the other one also memory that was freed but not returned.
Linux only.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.memory import Samples, resident_bytes, slope, trim
from tests.programs import ROOT, own_environment
from tests.tables import versions

EPOCHS = 50
"""Samples of a run: few, because `malloc_trim` takes milliseconds."""
WARM_UP = 0.1
"""Fraction of the samples that do not count: graphs are made, caches and pools are filled."""
ROWS, BATCH, COLUMNS, UNITS = 1024, 32, 8, 16
SAMPLE = "memory_slope: "
JOB_SECONDS = 300.0
"""Deadline of a job, in addition to `STEP_SECONDS` for each step."""
STEP_SECONDS = 0.1
GRACE_SECONDS = 30.0
HEAD = (
    "| strategy | KB a step, trimmed | KB a step, untrimmed | at the end | ms a step |",
    "|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Variant:
    """A line of the table, or one for each of several workers.

    Attributes:
        name: For `--strategy`.
        title: For the table.
        num_workers: Processes.
    """

    name: str
    title: str
    num_workers: int = 1


VARIANTS = (
    Variant("stock_one_device", "stock Keras, 1 device"),
    Variant("one_device", "one_device_strategy"),
    Variant("stock_mirrored2", "stock MirroredStrategy, 2 replicas"),
    Variant("mirrored2", "mirrored_strategy, 2 replicas"),
    Variant("stock_workers2", "stock MultiWorkerMirroredStrategy with W1 and W2", 2),
    Variant("workers2", "multi_worker_mirrored_strategy", 2),
)


@dataclass(frozen=True)
class Sample:
    """The memory of a process after some steps.

    Attributes:
        step: Steps so far.
        trimmed: Bytes after `malloc_trim`.
        untrimmed: Bytes before it.
        seconds: Since its `fit` began.
    """

    step: int
    trimmed: int
    untrimmed: int
    seconds: float


def main() -> int:
    """Trains what the flags say and prints the table; in a child process, trains."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.memory_slope", allow_abbrev=False
    )
    parser.add_argument("--strategy", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--steps", type=int, default=20_000, help="of each training")
    parser.add_argument("--steps_per_execution", type=int, default=1, help="as in `compile`")
    parser.add_argument("--child", choices=names, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps < 10 * EPOCHS:
        parser.error(f"`steps` must be at least {10 * EPOCHS}. Received: {arguments.steps}.")
    if arguments.child:
        _train(arguments.child, arguments.steps // EPOCHS, arguments.steps_per_execution)
        return 0
    if unknown := set(arguments.strategy.split(",")) - set(names):
        parser.error(f"`strategy` must be of {names}. Received: {sorted(unknown)}.")
    lines: list[str] = []
    for variant in VARIANTS:
        if variant.name in arguments.strategy.split(","):
            lines += _measured(variant, arguments.steps, arguments.steps_per_execution)
    print(f"{versions()}; {arguments.steps} steps, {arguments.steps_per_execution} an execution")
    print("\n".join(["", *HEAD, *lines]))
    return 0


def lines_of(title: str, workers: list[list[Sample]]) -> list[str]:
    """Returns the lines of the table, one per process."""
    lines = []
    for index, samples in enumerate(workers):
        counted = samples[round(WARM_UP * len(samples)) :]
        trimmed: Samples = [(sample.step, sample.trimmed) for sample in counted]
        untrimmed: Samples = [(sample.step, sample.untrimmed) for sample in counted]
        first, last = counted[0], counted[-1]
        pace = 1000 * (last.seconds - first.seconds) / (last.step - first.step)
        cells = [
            f"{title}, worker {index}" if len(workers) > 1 else title,
            f"{slope([trimmed]) / 1000:.3f}",
            f"{slope([untrimmed]) / 1000:.3f}",
            f"{last.trimmed / 1e6:.0f} MB",
            f"{pace:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _measured(variant: Variant, steps: int, steps_per_execution: int) -> list[str]:
    """Trains in separate processes; returns the lines of the table.

    Raises:
        RuntimeError: If the training fails, or does not end in time.
    """
    command = [sys.executable, "-m", "tests.benchmarks.memory_slope", f"--child={variant.name}"]
    command += [f"--steps={steps}", f"--steps_per_execution={steps_per_execution}"]
    if variant.num_workers > 1:
        launch = [sys.executable, "-m", "tfscale", "launch", f"--num_workers={variant.num_workers}"]
        command = [*launch, "--grace_seconds=1", "--", *command]
    deadline = time.monotonic() + JOB_SECONDS + STEP_SECONDS * steps
    workers: list[list[Sample]] = [[] for _ in range(variant.num_workers)]
    said: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=own_environment(PYTHONUNBUFFERED="1", CUDA_VISIBLE_DEVICES="-1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said.append(line)
                if found := re.match(rf"(?:\[worker (\d+)\] )?{SAMPLE}(.*)", line):
                    sample = Sample(**json.loads(found[2]))
                    workers[int(found[1] or 0)].append(sample)
                    _say(f"{variant.name}: worker {found[1] or 0}: {_progress(sample, steps)}")
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{variant.name} took too long: {''.join(said[-20:])}")
        finally:
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
    if process.returncode != 0 or any(len(samples) != EPOCHS for samples in workers):
        text = "".join(said[-20:])
        raise RuntimeError(f"{variant.name} ended with {process.returncode}:\n{text}")
    return lines_of(variant.title, workers)


def _progress(sample: Sample, steps: int) -> str:
    size, whole = sample.trimmed / 1e6, sample.untrimmed / 1e6
    return f"{sample.step} of {steps} steps, {size:.2f} MB trimmed, {whole:.2f} untrimmed"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _train(name: str, steps: int, steps_per_execution: int) -> None:
    """Trains `EPOCHS` epochs and prints a sample at the end of each.

    Args:
        name: Of a variant.
        steps: Of an epoch.
        steps_per_execution: As in `compile`.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    import strategies
    from tests.benchmarks import stock

    built: dict[str, Callable[[], Any]] = {
        "stock_one_device": lambda: tf.distribute.get_strategy(),
        "one_device": lambda: strategies.one_device_strategy("CPU:0"),
        "stock_mirrored2": stock.stock_mirrored,
        "mirrored2": functools.partial(strategies.mirrored_strategy, num_replicas=2),
        "stock_workers2": stock.patched_workers,
        "workers2": lambda: strategies.multi_worker_mirrored_strategy(bring_up_seconds=120),
    }
    strategy = built[name]()

    class Sampled(keras.callbacks.Callback):
        """Prints a sample after each epoch."""

        def on_train_begin(self, logs: Any = None) -> None:
            self._began = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            untrimmed = resident_bytes()
            trim()
            seconds = time.monotonic() - self._began
            sample = Sample(steps * (epoch + 1), resident_bytes(), untrimmed, seconds)
            print(f"{SAMPLE}{json.dumps(sample.__dict__)}", flush=True)

    draw = np.random.default_rng(1)
    x = draw.normal(size=[ROWS, COLUMNS]).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, x.sum(axis=1, keepdims=True)))
    with strategy.scope():
        layers = [keras.layers.Dense(UNITS, activation="tanh") for _ in range(2)]
        model = keras.Sequential([keras.Input((COLUMNS,)), *layers, keras.layers.Dense(1)])
        model.compile("adam", "mse", steps_per_execution=steps_per_execution, jit_compile=False)
    model.fit(
        dataset.batch(BATCH, drop_remainder=True).repeat().prefetch(2),
        epochs=EPOCHS,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[Sampled()],
    )


if __name__ == "__main__":
    sys.exit(main())
