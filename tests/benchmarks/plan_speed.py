"""Predicted and measured steps side by side: replicas of a host, workers on links of three speeds.

    python -m tests.benchmarks.plan_speed                 all; workers need root
    python -m tests.benchmarks.plan_speed --only=replicas
    python -m tests.benchmarks.plan_speed --only=workers --megabits 200

replicas  1, 2 and 4 replicas of one host. The laws are fitted to 16, 64 and 256 rows on 1 and 2
          replicas; predicted are 32 and 128 rows.
workers   1 and 2 workers, each with a core and a network namespace of its own, at the ends of a
          link of a limited rate. The laws are fitted to steps of one worker on 16, 64 and 256
          rows, to all-reduces from 4 KiB to 4 MiB and to steps of a model without computing that
          sends 4 KiB or 1 MiB; the gradients have 2.2 MiB. Predicted are 32 and 128 rows.
packs     the same for a model of 25 MiB of gradients, which travel in two packs, at the highest
          rate

Each measurement has a process of its own; in it numbers of rows take turns, those of the laws and
those that are predicted, so that a disturbance of the machine meets all of them. A time is the
median of its turns. On a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.links import Link
from tfscale.plan.speed.child import measured_in_child
from tfscale.plan.speed.measured import MeasuredSpeed, Reduces, SmallSteps, Steps
from tfscale.plan.speed.predicting import SpeedPredictor
from tfscale.plan.speed.strategies import SpeedSettings

SOURCE = """
import keras
import numpy as np


def build(units=512):
    dense = [keras.layers.Dense(units, "relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((64,)), *dense, keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(0)
    x = generator.normal(size=(256, 64)).astype("float32")
    return model, (x, generator.integers(0, 10, 256, "int32"))


def build_wide():
    return build(1792)
"""
MODULE = "plan_speed_model"
CHILD = "tests.benchmarks.plan_speed_child"
FITTED_ROWS, PREDICTED_ROWS = (16, 64, 256), (32, 128)
ALL_ROWS = tuple(sorted((*FITTED_ROWS, *PREDICTED_ROWS)))
SMALL_BYTES = (2**12, 2**20)
REDUCE_TURNS = 3
REPLICA_ROUNDS = 4  # what is extrapolated to 4 replicas has three times the noise of 2
MEGABITS = (100, 300, 1000)
GOAL = 0.15
TURNS, TURN_SECONDS = 5, 0.3
CHILD_SECONDS = 300.0


@dataclass(frozen=True)
class Subject:
    """A model whose steps are predicted.

    Attributes:
        name: In the table.
        target: "module:function".
        bytes: Of the all-reduces that the law is fitted to.
        rounds: Positive.
    """

    name: str
    target: str
    bytes: tuple[int, ...]
    rounds: int = 2


SMALL = Subject("", f"{MODULE}:build", (2**12, 2**16, 2**18, 2**20, 2**22))
WIDE = Subject(" packs,", f"{MODULE}:build_wide", (2**12, 2**18, 2**20, 2**22, 2**24), rounds=1)
Seconds = dict[tuple[int, int], list[float]]
"""Measured seconds of steps, by replicas or workers and rows of each."""


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: What was predicted.
        rows: Of each replica.
        predicted: Seconds of a step.
        measured: Seconds of a step, the median.
        is_extrapolated: Whether the prediction says so.
    """

    what: str
    rows: int
    predicted: float
    measured: float
    is_extrapolated: bool

    @property
    def error(self) -> float:
        """Predicted divided by measured, minus 1."""
        return self.predicted / self.measured - 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("replicas", "workers", "packs"), help="one part")
    parser.add_argument(
        "--megabits", type=int, nargs="*", default=MEGABITS, help="rates of the link"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="plan-speed-") as folder:
        Path(folder, f"{MODULE}.py").write_text(SOURCE)
        sys.path.insert(0, folder)  # children import from there
        if arguments.only in (None, "replicas"):
            rows += _replicas()
        if arguments.only in (None, "workers"):
            for megabits in arguments.megabits:
                rows += _workers(SMALL, megabits, Path(folder))
        if arguments.only in (None, "packs"):
            rows += _workers(WIDE, max(arguments.megabits), Path(folder))
    if arguments.json:
        print(json.dumps([{**vars(row), "error": row.error} for row in rows]))
    else:
        print("what                            rows  predicted   measured  error")
        for row in rows:
            mark = "~" if row.is_extrapolated else " "
            print(
                f"{mark}{row.what:30} {row.rows:>4}  {1e3 * row.predicted:6.2f} ms  "
                f"{1e3 * row.measured:6.2f} ms  {row.error:+6.1%}"
            )
        missed = [row for row in rows if abs(row.error) > GOAL]
        print(f"{len(rows) - len(missed)} of {len(rows)} within {GOAL:.0%}")
    return 0


def _replicas() -> Iterator[Row]:
    fitted: Seconds = {}
    truth: Seconds = {}
    model: dict[str, Any] = {}
    for _ in range(REPLICA_ROUNDS):
        for replicas in (1, 2, 4):
            outcome = measured_in_child(
                "tfscale.plan.speed.step_probe",
                _request(SMALL, PREDICTED_ROWS if replicas == 4 else ALL_ROWS, replicas),
                seconds=CHILD_SECONDS,
                has_cluster=False,
            )
            model = outcome if replicas == 1 else model
            _add(outcome, replicas, fitted, truth)
    measured = _measurements(model, fitted)
    for (replicas, rows), seconds in sorted(truth.items()):
        predictor = SpeedPredictor(measured, SpeedSettings(rows=rows, replicas=replicas))
        predicted = predictor.predict("mirrored", 1)
        yield Row(
            f"{replicas} replica{'s' if replicas > 1 else ''}",
            rows,
            predicted.step_seconds,
            statistics.median(seconds),
            predicted.is_extrapolated,
        )


def _workers(subject: Subject, megabits: int, folder: Path) -> Iterator[Row]:
    fitted: Seconds = {}
    truth: Seconds = {}
    reduces: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in subject.bytes}
    small: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in SMALL_BYTES}
    with Link(megabits) as link:
        for _ in range(subject.rounds):
            # Both workers measure at once, as they do under `tfscale launch`.
            asked = _request(subject, ALL_ROWS)
            model, _ = _on_both(link, folder, "tfscale.plan.speed.step_probe", asked)
            _add(model, 1, fitted, truth)
            asked = {
                "bytes": list(subject.bytes),
                "small_bytes": list(SMALL_BYTES),
                "turns": REDUCE_TURNS,
                "start_seconds": 120.0,
            }
            found, _ = _on_both(link, folder, "tfscale.plan.speed.reduce_probe", asked)
            for size, times in found["reduces"].items():
                reduces[int(size)][0].extend(times["seconds"])
                reduces[int(size)][1].extend(times["processor_seconds"])
            for size, times in found["small_steps"].items():
                small[int(size)][0].extend(times["together"])
                small[int(size)][1].extend(times["alone"])
            asked = {**_request(subject, PREDICTED_ROWS), "turns": REDUCE_TURNS}
            both, _ = _on_both(link, folder, CHILD, asked)
            _add(both, 2, fitted, truth)
    measured = _measurements(
        model,
        fitted,
        tuple(
            Reduces(2, size, tuple(seconds), tuple(busy))
            for size, (seconds, busy) in reduces.items()
        ),
        tuple(
            SmallSteps(2, size, tuple(together), tuple(alone))
            for size, (together, alone) in small.items()
        ),
    )
    for (workers, rows), seconds in sorted(truth.items()):
        predicted = SpeedPredictor(measured, SpeedSettings(rows=rows)).predict("ring", workers)
        yield Row(
            f"{workers} worker{'s' if workers > 1 else ''},{subject.name} {megabits} Mbit/s",
            rows,
            predicted.step_seconds,
            statistics.median(seconds),
            predicted.is_extrapolated,
        )


def _on_both(
    link: Link, folder: Path, module: str, request: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Runs a program at both ends, each on a core of its own, and returns the outcomes."""
    cores = sorted(os.sched_getaffinity(0))

    def at(end: int) -> dict[str, Any]:
        asked, told = folder / f"request-{end}.json", folder / f"outcome-{end}.json"
        asked.write_text(json.dumps(request), "utf-8")
        told.unlink(missing_ok=True)
        done = subprocess.run(
            link.command(
                end,
                [
                    *("taskset", "-c", str(cores[end % len(cores)])),
                    *(sys.executable, "-m", module, str(asked), str(told)),
                ],
            ),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_CONFIG": link.cluster(end),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=CHILD_SECONDS,
            text=True,
        )
        outcome: dict[str, Any] = json.loads(told.read_text("utf-8")) if told.exists() else {}
        if done.returncode != 0 or not outcome or "error" in outcome:
            raise RuntimeError(f"{module} at end {end}: {outcome or done.stdout[-2000:]}")
        return outcome

    with ThreadPoolExecutor(2) as both:
        return list(both.map(at, (0, 1)))


def _request(subject: Subject, rows: tuple[int, ...], replicas: int = 1) -> dict[str, Any]:
    return {
        "target": subject.target,
        "replicas": replicas,
        "rows": list(rows),
        "turns": TURNS,
        "turn_seconds": TURN_SECONDS,
        "has_input": False,
    }


def _add(outcome: Mapping[str, Any], number: int, fitted: Seconds, truth: Seconds) -> None:
    """Adds measured steps to those of the laws, or to those that are predicted, by their rows."""
    for rows, seconds in outcome["seconds"].items():
        into = truth if int(rows) in PREDICTED_ROWS else fitted
        into.setdefault((number, int(rows)), []).extend(seconds)


def _measurements(
    model: Mapping[str, Any],
    fitted: Seconds,
    reduces: tuple[Reduces, ...] = (),
    small_steps: tuple[SmallSteps, ...] = (),
) -> MeasuredSpeed:
    return MeasuredSpeed(
        model=MODULE,
        rows=model["rows"],
        pack_bytes=tuple(model["pack_bytes"]),
        parameter_bytes=model["parameter_bytes"],
        state_bytes=model["state_bytes"],
        steps=tuple(
            Steps(replicas, rows, tuple(seconds)) for (replicas, rows), seconds in fitted.items()
        ),
        reduces=reduces,
        small_steps=small_steps,
        input_rows_per_second=None,
        cores=model["cores"],
        environment={},
    )


if __name__ == "__main__":
    sys.exit(main())
