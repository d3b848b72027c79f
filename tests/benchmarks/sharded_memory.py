"""The memory and the step time of sharded state, beside its goals.

python -m tests.benchmarks.sharded_memory
python -m tests.benchmarks.sharded_memory --only=variables,limit

Trains multilayer perceptrons with Adam and `shard=0` to 3, on logical CPUs of one process and on
workers that are processes of their own, and prints one table. Peaks are the largest resident
memory of a process (VmHWM) minus that of the same program with layers of 8 units, whose graph is as
large. glibc is told to return freed blocks above 256 KB at once, so that a peak is of memory in
use. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from statistics import median

from tests.benchmarks.sharded_memory_child import GROUPS, SAMPLE, Case, Measured
from tests.programs import ROOT, own_environment
from tests.tables import versions

JOB_SECONDS = 420.0
MB = 1e6
WIDTH, LAYERS = 1024, 24
"""100.8 MB of parameters; 6 layers of twice the width have as many."""
TINY = 8
LIMITED_WIDTH, LIMIT = 2048, 1_150_000_000
"""24 layers of it have 403 MB of parameters, and with Adam's slots 1209 MB."""
HEAD = ("| what | measured | goal | |", "|---|---|---|---|")


class Failed(Exception):
    """A training ended early; its text is what it said last."""


def trained(case: Case) -> list[Measured]:
    """Trains in new processes; returns what each of them measured.

    Raises:
        Failed: If one of them fails, or they do not end in time.
    """
    command = [sys.executable, "-m", "tests.benchmarks.sharded_memory_child"]
    command.append(json.dumps(dataclasses.asdict(case)))
    if case.place == "workers":
        launch = [sys.executable, "-m", "tfscale", "launch", f"--num_workers={case.num}"]
        command = [*launch, "--grace_seconds=1", "--", *command]
    environment = own_environment(
        CUDA_VISIBLE_DEVICES="-1", MALLOC_MMAP_THRESHOLD_="262144", MALLOC_ARENA_MAX="2"
    )
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=JOB_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"did not end in {JOB_SECONDS:.0f} s") from error
    finally:
        for group in GROUPS.glob("sharded_memory_*"):
            with contextlib.suppress(OSError):  # another run's, in use
                group.rmdir()
    found = re.findall(rf"^(?:\[worker \d+\] )?{SAMPLE}(.*)$", done.stdout, re.MULTILINE)
    expected = case.num if case.place == "workers" else 1
    if done.returncode or len(found) != expected:
        raise Failed(f"status {done.returncode}: {done.stdout[-1500:]}")
    return [Measured(**json.loads(line)) for line in found]


def variables(stages: list[int]) -> Iterator[str]:
    """Bytes of all live variables on the fullest of 4 devices."""
    whole = 0
    for shard in stages:
        case = Case("replicas", 4, shard, 6, 256, steps=2)
        largest = max(trained(case)[0].live.values())
        whole = whole or largest
        goal = {1: 0.55, 2: 0.55, 3: 0.30}.get(shard)
        text = f"{largest:,} bytes, {largest / whole:.3f} of replicated"
        yield _line(
            f"live variables a device, 4 replicas, shard={shard}", text, largest / whole, goal
        )


def workers(stages: list[int]) -> Iterator[str]:
    """Peaks of 4 workers, and what of them is not parameters, slots and gradients."""
    whole = 0
    for shard in stages:
        case = Case("workers", 4, shard, LAYERS, WIDTH)
        peak = _above_tiny(case)
        whole = whole or peak
        state = _state(case)
        text = (
            f"{peak / MB:.0f} MB, {peak / whole:.2f} of replicated; without the "
            f"{state / MB:.0f} MB of state and gradients {(peak - state) / MB:.0f} MB"
        )
        goal = 0.30 if shard == 3 else None
        yield _line(f"peak of a worker, 4 workers, shard={shard}", text, peak / whole, goal)


def layers(_: list[int]) -> Iterator[str]:
    """Peaks of many layers and of a few large ones with as many parameters."""
    for place in ("replicas", "workers"):
        few = _above_tiny(Case(place, 2, 3, LAYERS // 4, 2 * WIDTH))
        many = _above_tiny(Case(place, 2, 3, LAYERS, WIDTH))
        text = f"{many / MB:.0f} MB to {few / MB:.0f} MB: {many / few:.2f}"
        yield _line(f"peak of 24 layers to that of 6, 2 {place}, shard=3", text, many / few, 1.3)


def limit(_: list[int]) -> Iterator[str]:
    """A model that is too large for one process."""
    by = "cgroup" if (GROUPS / "memory.limit_in_bytes").exists() else "rlimit"
    one = Case("one", 1, 0, LAYERS, LIMITED_WIDTH, steps=2, limit=LIMIT, by=by)
    size = f"{3 * one.parameters / MB:.0f} MB of parameters and slots"
    under = f"{by} of {LIMIT / MB:.0f} MB a process, {size}"
    for case, is_to_train in (
        (one, False),
        (_on_workers(one, 0), False),
        (_on_workers(one, 3), True),
    ):
        place = "1 process" if case.place == "one" else f"4 workers, shard={case.shard}"
        try:
            peak = max(each.peak for each in trained(case))
            trains, text = True, f"trains, VmHWM {peak / MB:.0f} MB"
        except Failed as error:
            trains, text = False, f"fails ({str(error).partition(':')[0]})"
            if is_to_train:
                _say(str(error))
        goal = "trains" if is_to_train else "fails"
        met = "met" if trains == is_to_train else "missed"
        yield f"| {under}, {place} | {text} | {goal} | {met} |"


def _on_workers(case: Case, shard: int) -> Case:
    return dataclasses.replace(case, place="workers", num=4, shard=shard)


def times(stages: list[int]) -> Iterator[str]:
    """Step times on 2 replicas and on 2 workers."""
    for place in ("replicas", "workers"):
        whole = 0.0
        for shard in stages:
            case = Case(place, 2, shard, LAYERS, WIDTH // 2, steps=12)
            seconds = median(each.step_seconds for each in trained(case))
            whole = whole or seconds
            text = f"{1000 * seconds:.0f} ms, {seconds / whole:.2f} of shard=0"
            yield _line(f"step, {case.parameters / MB:.0f} MB, 2 {place}, shard={shard}", text)


KINDS: dict[str, Callable[[list[int]], Iterator[str]]] = {
    "variables": variables,
    "workers": workers,
    "layers": layers,
    "limit": limit,
    "times": times,
}


def _above_tiny(case: Case) -> int:
    """Returns the largest peak minus that of the same graph with small layers."""
    tiny = dataclasses.replace(case, width=TINY)
    large, base = (max(each.peak for each in trained(one)) for one in (case, tiny))
    return large - base


def _state(case: Case) -> int:
    """Returns the bytes of parameters, Adam's slots and gradients of a worker, by arithmetic."""
    divided = {0: 0, 1: 2, 2: 3, 3: 4}[case.shard]
    return case.parameters * (4 - divided) + case.parameters * divided // case.num


def _line(what: str, text: str, ratio: float = 0.0, goal: float | None = None) -> str:
    if goal is None:
        return f"| {what} | {text} | | |"
    return f"| {what} | {text} | <= {goal:.2f} | {'met' if ratio <= goal else 'missed'} |"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Trains what the flag names, and prints the table; returns 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.sharded_memory", allow_abbrev=False
    )
    parser.add_argument("--shard", default="0,1,2,3", help="stages to compare with the first")
    parser.add_argument("--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    arguments = parser.parse_args()
    stages = [int(stage) for stage in arguments.shard.split(",")]
    chosen = arguments.only.split(",")
    if unknown := set(chosen) - set(KINDS):
        parser.error(f"`only` must be of {list(KINDS)}. Received: {sorted(unknown)}.")
    print("\n".join([f"{versions()}; Adam, float32, batch of 8", "", *HEAD]), flush=True)
    is_missed = False
    for kind in chosen:
        for line in KINDS[kind](stages):
            is_missed |= line.endswith("| missed |")
            print(line, flush=True)
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
