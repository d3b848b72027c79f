"""The table of a race with made-up times, so that every cell is known."""

from __future__ import annotations

import dataclasses

import pytest

from tfscale.bench.racing import Result
from tfscale.bench.table import as_json, as_text
from tfscale.bench.variant import Race, Variant

PLAIN = Variant("plain", "no strategy")
FAST = Variant("fast", "a strategy", peer="plain", goal=0.8)
PAIR = Variant("pair", "two workers", peer="fast", goal=1.5, num_workers=2)
LONELY = Variant("lonely", "its peer was not run", peer="absent", goal=1.0)

RESULT = Result(
    race=Race("mlp", "", 4, 100, 1, 32, 3, 60.0, 300.0),
    variants=(PLAIN, FAST, PAIR, LONELY),
    step_seconds={
        "plain": (0.002, 0.004, 0.003),
        "fast": (0.001, 0.003, 0.003),  # of plain: 0.5, 0.75, 1
        "pair": (0.001, 0.006, 0.006),  # of fast: 1, 2, 2
        "lonely": (0.001, 0.001, 0.001),
    },
    first_loss=dict.fromkeys(("plain", "fast", "pair", "lonely"), 0.5),
    peak_bytes=dict.fromkeys(("plain", "fast", "pair", "lonely"), 100 * 2**20),
    load_before=0.25,
    load_after=1.5,
    cpus=4,
)


def cells(variant: str) -> list[str]:
    (line,) = (line for line in as_text(RESULT).splitlines() if line.startswith(variant))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_row_holds_time_ratio_goal_and_memory() -> None:
    assert cells("plain") == ["plain", "no strategy", "3", "3.00", "[2.00-4.00]", "100"]
    ratio, goal = "0.75x plain [0.50-1.00]", "<= 0.8x met"
    assert cells("fast") == ["fast", "a strategy", "3", "3.00", "[1.00-3.00]", ratio, goal, "100"]


def test_workers_share_the_threads_and_a_goal_can_be_missed() -> None:
    ratio, goal = "2.00x fast [1.00-2.00]", "<= 1.5x missed"
    assert cells("pair")[2:] == ["2 x 1", "6.00", "[1.00-6.00]", ratio, goal, "100"]


def test_without_the_peer_there_is_no_ratio_and_no_goal() -> None:
    assert cells("lonely")[-1] == "100"
    assert cells("lonely")[-2] == "[1.00-1.00]"


def test_what_was_raced_and_the_load_stand_above() -> None:
    first, second, *_ = as_text(RESULT).splitlines()
    assert "median of 3 rounds (4 run, the first dropped)" in first
    assert "4 CPUs, load average 0.25 before, 1.50 after; goals are informational" in second


def test_one_counted_round_is_singular() -> None:
    race = dataclasses.replace(RESULT.race, rounds=2)
    assert "median of 1 round (2 run," in as_text(dataclasses.replace(RESULT, race=race))


def test_json_counts_in_milliseconds() -> None:
    plain, fast, pair, lonely = as_json(RESULT)["variants"]
    assert plain["step_ms"] == pytest.approx({"median": 3.0, "low": 2.0, "high": 4.0})
    assert fast["ratio"] == pytest.approx({"median": 0.75, "low": 0.5, "high": 1.0})
    assert (pair["threads"], pair["num_workers"]) == (1, 2)
    assert (lonely["ratio"], lonely["goal"]) == (None, 1.0)
