"""The table of an outcome with made-up times, so that every cell is known."""

from __future__ import annotations

import json

import pytest

from tfscale.bench.machine import Machine
from tfscale.bench.outcome import Outcome, Row
from tfscale.bench.table import as_text

MS = "ms a step"
MACHINE = Machine("Some CPU", 4, 2**34, "Linux", [], {"keras": "3.15.1"}, "2026-11-29", 0.25, 1.5)
ROWS = (
    Row("plain", "no strategy", MS, (2.0, 4.0, 3.0), (4.0, 4.0, 5.0), facts={"threads": "3"}),
    # Of plain: 0.5, 0.75, 1.
    Row("fast", "a strategy", MS, (1.0, 3.0, 3.0), peer="plain", goal=0.8, limit="plain"),
    # Of fast: 1, 2, 2. The limit divided by it: 2, 2/3, 1/2.
    Row(
        "pair",
        "workers",
        MS,
        (1.0, 6.0, 6.0),
        peer="fast",
        goal=1.5,
        limit="plain",
        other_goals={"plain": 2.0, "absent": 1.0},  # Of plain: 0.5, 1.5, 2.
    ),
    Row("lonely", "its peer was not run", MS, (1.0, 1.0, 1.0), peer="absent", goal=1.0),
    Row("absent", "a library", MS, (), skipped="no torch", peer="plain", goal=1.0),
)
OUTCOME = Outcome("step", "mlp", "mlp: 100 steps", {"rounds": 4}, MACHINE, ROWS, ("A note.",))


def cells(name: str) -> list[str]:
    (line,) = (line for line in as_text(OUTCOME).splitlines() if line.startswith(f"{name} "))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_a_row_has_wall_and_processor_time_ratio_goal_and_efficiency() -> None:
    assert cells("plain") == ["plain", "no strategy", "3", "3.00", "[2.00-4.00]", "4.00"]
    ratio, goal = "0.75x plain [0.50-1.00]", "<= 0.8x met"
    efficiency = "1.33 of plain"  # The middle one of 2, 4/3 and 1.
    assert cells("fast") == ["fast", "a strategy", "3.00", "[1.00-3.00]", ratio, goal, efficiency]


def test_a_goal_can_be_missed() -> None:
    ratio, goal, efficiency = "2.00x fast [1.00-2.00]", "<= 1.5x missed", "0.67 of plain"
    assert cells("pair")[2:] == ["6.00", "[1.00-6.00]", ratio, goal, efficiency]


def test_a_further_goal_has_its_own_line_unless_the_peer_is_missing() -> None:
    lines = [line for line in as_text(OUTCOME).splitlines() if line.startswith("pair: ")]
    assert lines == ["pair: 1.50x plain [0.50-2.00], goal <= 2x met"]


def test_without_the_peer_there_is_no_ratio_and_no_goal() -> None:
    assert cells("lonely")[-1] == "[1.00-1.00]"


def test_there_is_no_ratio_to_a_peer_that_is_0_in_a_round() -> None:
    rows = (Row("none", "", "KB", (0.0, 1.0)), Row("some", "", "KB", (1.0, 1.0), peer="none"))
    assert Outcome("memory", "", "x", {}, MACHINE, rows).ratio(rows[1]) is None


def test_a_row_that_was_skipped_says_why() -> None:
    assert cells("absent") == ["absent", "a library", "skipped"]
    assert "\n\nabsent: skipped: no torch\npair: " in as_text(OUTCOME)


def test_machine_and_load_are_above_the_table_and_notes_below() -> None:
    first, second, *_, last = as_text(OUTCOME).splitlines()
    assert first == "mlp: 100 steps"
    assert second.startswith("4 x Some CPU, load average 0.25 before, 1.50 after; goals are ")
    assert last == "A note."


def test_rows_of_another_group_or_unit_have_their_own_table() -> None:
    rows = (*ROWS, Row("ring", "25 MB", "ms", (1.0,), group="25 MB"))
    text = as_text(Outcome("all_reduce", "", "x", {}, MACHINE, rows))
    assert "\n\n25 MB\nname" in text


def test_columns_without_a_value_are_left_out() -> None:
    text = as_text(Outcome("startup", "", "x", {}, MACHINE, ROWS[3:4]))
    assert text.splitlines()[3].split() == ["name", MS[:2], *MS.split()[1:], "[min-max]"]


def test_json_has_the_fields_and_the_statistics_of_each_row() -> None:
    values = json.loads(json.dumps(OUTCOME.to_json()))
    plain, fast, pair, lonely, absent = values["rows"]
    assert plain["value"] == pytest.approx({"median": 3.0, "low": 2.0, "high": 4.0})
    assert plain["processor_value"]["median"] == 4.0
    assert fast["ratio"] == pytest.approx({"median": 0.75, "low": 0.5, "high": 1.0})
    assert pair["efficiency"]["median"] == pytest.approx(2 / 3)
    assert pair["other_ratios"]["plain"]["median"] == 1.5
    assert pair["other_ratios"]["absent"] is None
    assert (lonely["ratio"], lonely["goal"]) == (None, 1.0)
    assert (absent["value"], absent["skipped"]) == (None, "no torch")
    assert values["machine"]["versions"] == {"keras": "3.15.1"}


def test_an_outcome_survives_json() -> None:
    assert Outcome.from_json(json.loads(json.dumps(OUTCOME.to_json()))) == OUTCOME


def test_fields_that_a_file_of_an_earlier_version_lacks_have_their_defaults() -> None:
    values = OUTCOME.to_json()
    for row in values["rows"]:
        del row["other_goals"]
    assert Outcome.from_json(values).rows[2].other_goals == {}


@pytest.mark.parametrize("values", [[], {}, {"format": 2}, {"format": 1, "kind": "step"}])
def test_other_json_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"`(format|values)` must "):
        Outcome.from_json(values)
