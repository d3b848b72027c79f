"""How far the stages of a pipeline overlap, and the memory of its activations, beside the goals.

python -m tests.benchmarks.pipeline_overlap
python -m tests.benchmarks.pipeline_overlap --only=sleeps,work --json

On a machine that does nothing else. Each measurement has a process of its own.

sleeps  the layers of 4 stages sleep, 20 ms forward and 40 ms backward, on a thread for each
work    2 stages of matrix products, each operation on one thread. The time of a pass is that of
        the same microbatches one after another on one device with one thread. The table also says
        by how much two such processes slow each other down, which no pipeline gets around.
memory  what a process asks TensorFlow's allocator for, at most, in steps of 8 and 32 microbatches

A time is the median of the steps after the first two. The bound of a schedule is its makespan if
passes take exactly their time and nothing else takes any.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from strategies.extension import device_orders, timeline
from tests.benchmarks.pipeline_overlap_child import MICROBATCHES, SLEEPS, STEP
from tests.programs import run_program, started
from tests.tables import versions

CHILD = "tests.benchmarks.pipeline_overlap_child"
MEMORY = "tests.unit.strategies.keras_support.pipeline.pipeline_memory"
CHILD_SECONDS = 300.0
OVERLAP_GOAL = 1.15


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: What was measured.
        measured: The values.
        ratio: To the bound, to one process alone, or to the memory of 8 microbatches.
        goal: What the ratio must be, such as "<= 1.15"; "" without a goal.
    """

    what: str
    measured: str
    ratio: float
    goal: str = ""

    @property
    def verdict(self) -> str:
        """Returns "met" or "missed"; "" without a goal."""
        sign, _, limit = self.goal.partition(" ")
        if not sign:
            return ""
        is_met = self.ratio <= float(limit) if sign == "<=" else self.ratio >= float(limit)
        return "met" if is_met else "missed"

    def __str__(self) -> str:
        cells = (self.what, self.measured, f"{self.ratio:.2f}", self.goal, self.verdict)
        return f"| {' | '.join(cells)} |"


def sleeps() -> Iterator[Row]:
    """Four stages that sleep."""
    for schedule, virtual in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2)):
        bound = _bound(schedule, 4, virtual, *SLEEPS)
        yield _overlap(f"4 stages that sleep, {schedule}", _step("sleeps", schedule), bound)


def work() -> Iterator[Row]:
    """Two stages that compute."""
    alone = _step("serial")
    together = max(map(_step_of, [started("-m", CHILD, "serial") for _ in range(2)]))
    text = f"{together * 1e3:.0f} ms beside each other, {alone * 1e3:.0f} ms alone"
    yield Row("work without stages, two processes of one thread", text, together / alone)
    passes = alone / (2 * MICROBATCHES)
    for schedule in ("gpipe", "1f1b"):
        bound = _bound(schedule, 2, 1, passes / 3, passes * 2 / 3)
        yield _overlap(f"2 stages of work, {schedule}", _step("work", schedule), bound)


def memory() -> Iterator[Row]:
    """Activations of more microbatches of the same size."""
    for schedule, goal in (("1f1b", "<= 1.1"), ("gpipe", ">= 2")):
        few, many = (_mebibytes(schedule, count) for count in (8, 32))
        text = f"{few} MiB with 8 microbatches, {many} MiB with 32"
        yield Row(f"memory of activations, 2 stages, {schedule}", text, many / few, goal)


KINDS = {"sleeps": sleeps, "work": work, "memory": memory}


def _overlap(what: str, measured: float, bound: float) -> Row:
    text = f"{measured * 1e3:.0f} ms a step, bound {bound * 1e3:.0f} ms"
    return Row(what, text, measured / bound, f"<= {OVERLAP_GOAL}")


def _bound(schedule: str, stages: int, virtual: int, forward: float, backward: float) -> float:
    """Returns the makespan of a step, in seconds, from those of the passes of a whole stage."""
    orders = device_orders(schedule, stages, MICROBATCHES, virtual)
    ideal = timeline(orders, lambda unit: (forward if unit.is_forward else backward) / virtual)
    return ideal.makespan


def _step(*case: str) -> float:
    """Returns the seconds of a step, measured in a new process."""
    return _seconds_in(run_program("-m", CHILD, *case, timeout=CHILD_SECONDS))


def _step_of(process: subprocess.Popen[str]) -> float:
    """Returns the seconds of a step that a process measures."""
    return _seconds_in(process.communicate(timeout=CHILD_SECONDS)[0])


def _seconds_in(printed: str) -> float:
    found = [line for line in printed.splitlines() if line.startswith(STEP)]
    assert found, printed[-8000:]
    return float(found[0].removeprefix(STEP))


def _mebibytes(schedule: str, microbatches: int) -> int:
    printed = run_program("-m", MEMORY, schedule, str(microbatches), timeout=CHILD_SECONDS)
    return int(printed.splitlines()[0])


def main() -> int:
    """Measures what the flags say, and prints a table; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.pipeline_overlap", allow_abbrev=False
    )
    parser.add_argument("--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(KINDS):
        parser.error(f"`only` must be of {list(KINDS)}. Received: {sorted(unknown)}.")
    if not arguments.json:
        print(f"{versions()}; {MICROBATCHES} microbatches where times are measured\n")
        print("| what | measured | ratio | goal | verdict |\n|---|---|---|---|---|", flush=True)
    rows = []
    for kind in chosen:
        for row in KINDS[kind]():
            rows.append(row)
            if not arguments.json:
                print(row, flush=True)
    if arguments.json:
        shown = [{**asdict(row), "verdict": row.verdict} for row in rows]
        print(json.dumps({"versions": versions(), "rows": shown}, indent=2))
    return int(any(row.verdict == "missed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
