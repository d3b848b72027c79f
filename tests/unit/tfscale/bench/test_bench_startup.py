"""`tfscale bench startup`: real cold starts of the smallest model."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.programs import completed
from tfscale.bench.contestant import Failed
from tfscale.bench.peers.environment import reason_missing
from tfscale.bench.starting.phases import PHASES, PhaseClock, Start, slowest
from tfscale.bench.startup import VARIANTS, started
from tfscale.bench.variant import Variant

COMMAND = ("-m", "tfscale", "bench", "startup", "--json", "--rounds=2", "--model=tiny_mlp")


@pytest.mark.thorough
def test_phases_of_one_process_and_of_two_workers_add_up_to_the_start() -> None:
    before = time.monotonic()
    done = completed(*COMMAND, "--variants=one_device,workers", "--threads=2", timeout=300)
    taken = time.monotonic() - before
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = json.loads(done.stdout)["rows"]
    assert [row["facts"]["threads"] for row in (one, two)] == ["2", "2 x 1"]
    for row in (one, two):
        phases = [row["facts"][phase] for phase in PHASES]
        assert sum(phases) == pytest.approx(row["value"]["median"])
        assert row["facts"]["imports"] > 0.3  # TensorFlow's own
        assert row["processor_value"]["median"] > row["facts"]["imports"] / 10
    assert 2 * (one["value"]["median"] + two["value"]["median"]) < 2 * taken
    assert two["processor_value"]["median"] > one["processor_value"]["median"]


def test_torchrun_starts_two_workers() -> None:
    if reason := reason_missing("torch"):
        pytest.skip(reason)
    done = completed(*COMMAND, "--variants=torchrun", timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    (row,) = json.loads(done.stdout)["rows"]
    assert row["value"]["median"] == pytest.approx(sum(row["facts"][phase] for phase in PHASES))


def test_without_torch_its_rows_are_skipped() -> None:
    done = completed(
        *COMMAND,
        "--variants=torch,torchrun",
        timeout=60,
        TFSCALE_BENCH_PEERS="/no/such/python",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    reasons = {row["skipped"] for row in json.loads(done.stdout)["rows"]}
    assert reasons == {"torch has no environment; `make peers` makes it"}


def test_two_workers_have_the_goal_of_the_start_of_torchrun() -> None:
    by_name = {variant.name: variant for variant in VARIANTS}
    workers = by_name["workers"]
    assert (workers.peer, workers.goal) == ("torchrun", 1.2)
    assert workers.num_workers == by_name["torchrun"].num_workers


def test_a_program_that_fails_is_named_with_its_last_line() -> None:
    variant = Variant("none", "no such module", program="tests.no_such_module")
    with pytest.raises(Failed, match=r"none: the process ended with status 1. Last line .*No mod"):
        started(variant, Start("tiny_mlp", 1, 60.0))


def test_the_slowest_process_is_the_one_that_ended_its_step_last(tmp_path: Path) -> None:
    clock = PhaseClock(time.time() - 5.0)
    for phase in PHASES:
        clock.end(phase)
    clock.report(str(tmp_path))
    (tmp_path / "other.json").write_text(json.dumps(dict.fromkeys(PHASES, 2.0)), "utf-8")
    assert slowest(tmp_path, 2) == dict.fromkeys(PHASES, 2.0)
    with pytest.raises(ValueError, match="2 of 3 processes reported their first step"):
        slowest(tmp_path, 3)
