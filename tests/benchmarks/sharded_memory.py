"""The memory and the step time of sharded state, beside its goals.

python -m tests.benchmarks.sharded_memory
python -m tests.benchmarks.sharded_memory --only=variables,limit

Trains multilayer perceptrons with Adam and `shard=0` to 3, on logical CPUs of one process and on
workers that are processes of their own, and prints one table. Linux only.

live        bytes of all variables that are alive after training, exact
allocated   the most that TensorFlow's allocator had handed out at a time, exact: variables,
            gradients, packs, activations
resident    the largest resident memory of a process (VmHWM), minus that of the same program and
            the same stage with layers of 8 units: what is left depends on the size of the model.
            It has what gRPC or MPI hold too, and what glibc keeps of freed memory.

A ratio is to the same measure of shard=0. Workers reduce with TensorFlow's ring.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tests.benchmarks.sharded_memory_child import GROUPS, SAMPLE, Case, Measured
from tests.programs import ROOT, own_environment
from tests.tables import versions

JOB_SECONDS = 420.0
MB = 1e6
WIDTH, LAYERS = 1024, 24
"""100.8 MB of parameters; 6 layers of twice the width have as many."""
TINY = 8
LIVE_GOALS = {1: 0.55, 2: 0.55, 3: 0.30}
LIMITED_WIDTH, LIMIT = 2048, 1_150_000_000
"""24 layers of it have 403 MB of parameters, and with Adam's slots 1209 MB."""
HEAD = ("| what | goal | measured | verdict |", "|---|---|---|---|")


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
    environment = own_environment(CUDA_VISIBLE_DEVICES="-1")
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
    """Live variables on the fullest of 4 logical CPUs, and what their process allocated."""
    wholes: tuple[int, int] | None = None
    for shard in stages:
        measured = trained(Case("replicas", 4, shard, LAYERS // 4, WIDTH))[0]
        sizes = max(measured.live.values()), measured.allocated
        wholes = wholes or sizes
        where = f"4 replicas, shard={shard}"
        yield _ratio(f"live on a device, {where}", *_of(sizes, wholes, 0), LIVE_GOALS.get(shard))
        yield _ratio(f"allocated, {where}", *_of(sizes, wholes, 1))


def workers(stages: list[int]) -> Iterator[str]:
    """What each of 4 workers has: variables, allocated, resident."""
    wholes: tuple[int, int, int] | None = None
    for shard in stages:
        found = trained(Case("workers", 4, shard, LAYERS, WIDTH))
        base = max(each.peak for each in _tiny(Case("workers", 4, shard, LAYERS, WIDTH)))
        sizes = (
            max(max(each.live.values()) for each in found),
            max(each.allocated for each in found),
            max(each.peak for each in found) - base,
        )
        wholes = wholes or sizes
        where = f"4 workers, shard={shard}"
        goal = 0.30 if shard == 3 else None
        yield _ratio(f"live, {where}", *_of(sizes, wholes, 0), LIVE_GOALS.get(shard))
        yield _ratio(f"allocated, {where}", *_of(sizes, wholes, 1), goal)
        yield _ratio(f"resident, {where}", *_of(sizes, wholes, 2), goal)
        text = f"{base / MB:.0f} MB, with the model {(base + sizes[2]) / MB:.0f} MB"
        yield f"| process with layers of {TINY} units, {where} | | {text} | |"


def layers(_: list[int]) -> Iterator[str]:
    """Peaks of many layers and of a few large ones with as many parameters."""
    for place in ("replicas", "workers"):
        few = Case(place, 2, 3, LAYERS // 4, 2 * WIDTH)
        many = Case(place, 2, 3, LAYERS, WIDTH)
        found = [(trained(case), _tiny(case)) for case in (many, few)]
        for name, sizes in (
            ("allocated", [max(each.allocated for each in own) for own, _ in found]),
            (
                "resident",
                [
                    max(each.peak for each in own) - max(each.peak for each in base)
                    for own, base in found
                ],
            ),
        ):
            ratio = sizes[0] / sizes[1]
            text = f"{sizes[0] / MB:.1f} MB to {sizes[1] / MB:.1f} MB, {ratio:.2f}"
            what = f"{name}, 24 layers to 6 of as many parameters, 2 {place}, shard=3"
            yield _line(what, text, ratio, 1.3)


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
        yield f"| {under}, {place} | {goal} | {text} | {met} |"


def _on_workers(case: Case, shard: int) -> Case:
    return dataclasses.replace(case, place="workers", num=4, shard=shard)


def times(stages: list[int]) -> Iterator[str]:
    """Step times."""
    for place, num in (("replicas", 2), ("workers", 2), ("workers", 4)):
        whole = 0.0
        for shard in stages:
            case = Case(place, num, shard, LAYERS, WIDTH // 2, steps=12)
            seconds = median(each.step_seconds for each in trained(case))
            whole = whole or seconds
            text = f"{1000 * seconds:.0f} ms, {seconds / whole:.2f} of shard=0"
            size = f"{case.parameters / MB:.0f} MB of parameters"
            yield _line(f"a step, {size}, {num} {place}, shard={shard}", text)


KINDS: dict[str, Callable[[list[int]], Iterator[str]]] = {
    "variables": variables,
    "workers": workers,
    "layers": layers,
    "limit": limit,
    "times": times,
}


def _tiny(case: Case) -> list[Measured]:
    """Trains the same layers, but small: as large a graph, and no memory for values."""
    return trained(dataclasses.replace(case, width=TINY))


def _of(sizes: Sequence[int], wholes: Sequence[int], place: int) -> tuple[int, int]:
    return sizes[place], wholes[place]


def _ratio(what: str, size: int, whole: int, goal: float | None = None) -> str:
    return _line(what, f"{size / MB:.1f} MB, {size / whole:.3f}", size / whole, goal)


def _line(what: str, text: str, ratio: float = 0.0, goal: float | None = None) -> str:
    if goal is None:
        return f"| {what} | | {text} | |"
    return f"| {what} | <= {goal:.2f} | {text} | {'met' if ratio <= goal else 'missed'} |"


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
